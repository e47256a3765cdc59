"""What simple clients do with what they pull while edits of theirs are unsent, and what late copies of their requests do: whatever
the habit, the device ends with the server's rows (contract §1.3, §2.6).
"""

from __future__ import annotations

from typing import Any

import pytest

from api.deliveries import Deliveries
from tests.api.conftest import Api
from tests.api.tills import drained, newest, shop
from tests.device import Line, delete, insert, update

http = pytest.mark.asyncio(loop_scope="module")
EXACT = {"name": "kg", "abbrev": "k"}


async def party(line: Line, other: Line) -> tuple[int, dict[str, Any], int]:
    """A party of `other`, which both have pulled: its id, its row, and the cursor of `line`."""
    made = await other.push_one(insert("parties", "a", name="Ada", party_type="customer"))
    changes, cursor = await line.pull_all()
    await drained(other)
    return made["record_id"], newest(changes)["parties", made["record_id"]]["data"], cursor


@http
async def test_an_edit_that_was_overtaken_by_a_pull_comes_back_to_its_device(api: Api) -> None:
    _, (line, other) = await shop(api)
    record_id, row, cursor = await party(line, other)
    edit = update("parties", record_id, **{**row, "phone": "1"}, more={"timestamp": "2999-01-01T00:00:00Z"})
    await other.push(update("parties", record_id, **{**row, "phone": "2"}))
    page = await line.pull(cursor)
    assert newest(page["changes"])["parties", record_id]["data"]["phone"] == "2", "takes the place of the unsent edit"
    pushed = await line.push(edit)
    assert pushed["results"][0]["status"] == "applied"
    again = await line.pull(pushed["current_version"])
    assert newest(again["changes"])["parties", record_id]["data"]["phone"] == "1"


@http
async def test_a_deletion_that_was_overtaken_by_a_pull_comes_back_to_its_device(api: Api) -> None:
    _, (line, _) = await shop(api)
    cursor = await drained(line)
    made = (await line.push(insert("units_of_measure", "u", **EXACT)))["results"][0]["record_id"]
    echo = newest((await line.pull(cursor))["changes"])["units_of_measure", made]  # its answer was lost, and this revives the row
    pushed = await line.push(
        insert("units_of_measure", "u", **EXACT), delete("units_of_measure", None, more={"local_id": "u", "data": echo["data"]})
    )
    assert [result["status"] for result in pushed["results"]] == ["duplicate", "applied"]
    again = await line.pull(pushed["current_version"])
    assert newest(again["changes"])["units_of_measure", made]["operation"] == "DELETE"


@http
@pytest.mark.parametrize("is_edited", [False, True])
async def test_a_retry_by_a_device_that_passed_over_its_echo_brings_the_row_again(api: Api, is_edited: bool) -> None:
    _, (line, _) = await shop(api)
    cursor = await drained(line)
    sent = [insert("parties", "a", name="Ada", party_type="customer")]
    if is_edited:
        sent.append(update("parties", None, name="Ada", phone="1", more={"local_id": "a"}))
    made = (await line.push(*sent))["results"][0]["record_id"]
    await line.pull(cursor)  # has the defaults; the device keeps its own row, whose INSERT was not answered
    retried = await line.push(*sent)
    assert [result["status"] for result in retried["results"]] == ["duplicate", "noop"][: len(sent)]
    assert retried["results"][-1]["server_data"]["customer_class"] == "other"
    again = await line.pull(retried["current_version"])
    assert newest(again["changes"])["parties", made]["data"]["opening_balance"] == "0.00"


@http
async def test_an_edit_of_a_row_that_did_not_come_anew_is_not_sent_back(api: Api) -> None:
    _, (line, other) = await shop(api)
    record_id, row, _ = await party(line, other)
    pushed = await line.push(update("parties", record_id, **{**row, "phone": "1"}))
    assert pushed["current_version"] == pushed["head_version"]


@http
async def test_a_number_that_came_to_another_record_than_it_may_have_meant_is_shown(api: Api) -> None:
    _, (line, _) = await shop(api)
    await drained(line)
    root = (await line.push(insert("item_categories", 900001, name="Drinks", parent_category_id=None)))["results"][0]["record_id"]
    child = insert("item_categories", 900002, name="Tea", parent_category_id=root)
    pushed = await line.push(insert("item_categories", root, name="Food", parent_category_id=None), child)
    shown = newest((await line.pull(pushed["current_version"]))["changes"])
    child_id, other_id = (pushed["id_mappings"][local_id] for local_id in ("900002", str(root)))
    assert shown["item_categories", child_id]["data"]["parent_category_id"] == other_id, "a local id of this push comes first"


@http
async def test_a_late_copy_of_a_pull_between_two_pushes_lets_no_change_be_missed(api: Api) -> None:
    _, (line, other) = await shop(api)
    cursor = await drained(line)
    await line.pull(cursor)
    first = await line.push(insert("parties", "a", name="Ada", party_type="customer"))
    theirs = (await other.push(insert("parties", "b", name="Bob", party_type="customer")))["results"][0]["record_id"]
    await line.pull(cursor)  # the copy, whose answer goes nowhere
    second = await line.push(insert("units_of_measure", "u", **EXACT))
    assert second["current_version"] <= first["current_version"]
    page = await line.pull(second["current_version"])
    assert ("parties", theirs) in newest(page["changes"])
    third = await line.push(insert("units_of_measure", "v", **EXACT))
    assert third["current_version"] == third["head_version"], "the device gets on"


def test_a_late_copy_of_a_pull_during_a_push_proves_nothing() -> None:
    before = Deliveries().pulled(("parties",), 0, 10, head=10, min_version=1).pulled(("parties",), 10, 10, head=10, min_version=1)
    for last_version in (None, 10):
        pushing = before.push_begun(last_version).pulled(("parties",), 10, 14, head=14, min_version=1)
        assert pushing.tables["parties"].sure == 10
