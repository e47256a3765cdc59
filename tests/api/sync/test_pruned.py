"""What devices meet when history they built on is pruned: told to start again, judged with care, never silently short of a deletion
(contract §2.7, §3 Base).
"""

from __future__ import annotations

from typing import Any

import pytest

from cdc.retention import Cutoffs, Retention
from schema.connect import open_connection
from tests.api.conftest import Api
from tests.api.tills import drained, newest, shop, till
from tests.device import Line, Refused, insert, update
from tests.oracle import Oracle
from tests.servers import Database
from tests.sql_client import SqlClient

pytestmark = pytest.mark.asyncio(loop_scope="module")

EVER = 1 << 52


def prune(database: Database, admin: SqlClient, *, tombstones: bool = True) -> int:
    """All that may go up to now goes; returns min_version."""
    head = admin.wait_for_tailer()
    with open_connection(database.settings.operator()) as connection:
        done = Retention(connection, Cutoffs(head, head if tombstones else 0))
        while done.step():
            pass
    return int(admin.value("SELECT min_version FROM sync_state"))


async def party(line: Line, name: str = "Ann") -> int:
    result = await line.push_one(insert("parties", name, name=name))
    return int(result["record_id"])


async def reset_reason(line: Line, cursor: int, **more: Any) -> str | None:
    try:
        await line.pull(cursor, **more)
    except Refused as refused:
        assert refused.status == 410
        return str(refused.body["reason"])
    return None


async def test_a_cursor_that_missed_a_pruned_deletion_starts_again_and_one_that_did_not_goes_on(
    api: Api, shared: Database, admin: SqlClient
) -> None:
    owner, (late, prompt) = await shop(api)
    gone = await party(prompt)
    old, fresh = await drained(late), await drained(prompt)
    admin.run(f"DELETE FROM parties WHERE id = {gone}")
    admin.wait_for_tailer()
    fresh = (await prompt.pull_all(fresh))[1]
    floor = prune(shared, admin)
    assert old < floor <= fresh
    assert await reset_reason(late, old) == "retention"
    assert await reset_reason(prompt, fresh) is None
    changes, cursor = await late.pull_all(0)
    assert ("parties", gone) not in newest(changes)
    assert await reset_reason(late, cursor) is None
    assert (await late.status())["min_version"] == floor
    assert Oracle(admin).row("parties", owner.company_id, gone) is None


async def test_a_push_of_a_device_that_missed_a_deletion_does_not_carry_it_past(
    api: Api, shared: Database, admin: SqlClient
) -> None:
    """The answer's cursor is a safe one: it must not hide that a deletion was missed."""
    _, (late, prompt) = await shop(api)
    gone = await party(prompt)
    old = await drained(late)
    admin.run(f"DELETE FROM parties WHERE id = {gone}")
    floor = prune(shared, admin)
    for more in ({}, {"last_version": old}):
        answer = await late.push(insert("parties", f"new {more}", name="New"), **more)
        assert answer["results"][0]["status"] == "applied"
        assert answer["current_version"] < floor
        assert await reset_reason(late, answer["current_version"]) == "retention"
    assert await reset_reason(late, answer["head_version"]) == "retention", "nor does a cursor that it was never answered"


async def test_one_that_was_never_given_anything_is_believed_but_not_below_the_floor(
    api: Api, shared: Database, admin: SqlClient
) -> None:
    owner, (line, _) = await shop(api)
    gone = await party(line)
    admin.run(f"DELETE FROM parties WHERE id = {gone}")
    floor = prune(shared, admin)
    stranger = till(owner)
    answer = await stranger.push(insert("parties", "mine", name="Mine"), last_version=floor - 1)
    assert answer["current_version"] == floor - 1
    assert await reset_reason(stranger, floor - 1) == "retention"
    newcomer = till(owner)
    assert (await newcomer.push(insert("parties", "mine", name="Mine")))["current_version"] >= 1
    assert await reset_reason(newcomer, 0) is None


async def test_a_table_that_a_device_gave_up_holds_back_neither_its_pulls_nor_its_pushes(
    api: Api, shared: Database, admin: SqlClient
) -> None:
    owner, (line, _) = await shop(api)
    company = owner.company_id
    setting = admin.run(f"INSERT INTO settings (company_id, name, value) VALUES ({company}, 'theme', '1')")
    admin.wait_for_tailer()
    given_up = (await line.pull_all(0, tables=["settings"]))[1]
    cursor = (await line.pull_all(0, tables=["parties"]))[1]
    admin.run(f"DELETE FROM settings WHERE id = {setting}", f"INSERT INTO parties (company_id, name) VALUES ({company}, 'x')")
    admin.wait_for_tailer()
    cursor = (await line.pull_all(cursor, tables=["parties"]))[1]
    floor = prune(shared, admin)
    answer = await line.push(insert("parties", "mine", name="Mine"))
    assert answer["current_version"] >= floor > given_up
    assert await reset_reason(line, answer["current_version"], tables=["parties"]) is None
    assert await reset_reason(line, answer["current_version"], tables=["settings"]) == "retention"
    assert await reset_reason(line, answer["current_version"]) == "retention"


async def test_history_is_whole_from_the_floor_of_images_on(api: Api, shared: Database, admin: SqlClient) -> None:
    _, (line, other) = await shop(api)
    made = await party(line)
    for number in range(3):
        await line.push_one(update("parties", made, phone=str(number)))
    prune(shared, admin)
    await line.push_one(update("parties", made, phone="9"))
    changes, _ = await other.pull_all(0, tables=["parties"], history=True)
    assert [change["data"]["phone"] for change in changes] == ["2", "9"]


@pytest.mark.parametrize("is_naive", [True, False])
async def test_without_the_image_it_built_on_an_edit_overwrites_nothing(
    is_naive: bool, api: Api, shared: Database, admin: SqlClient
) -> None:
    """Others' edit and the device's are of different columns, but what the device believed can't be told any more."""
    owner, (line, other) = await shop(api)
    made = await party(other)
    changes, cursor = await line.pull_all(0)
    row = {**newest(changes)["parties", made]["data"], "phone": "1"}
    await other.push_one(update("parties", made, name="Bea"))
    prune(shared, admin)
    change = update("parties", made, **row) if is_naive else update("parties", made, phone="1", more={"base_version": cursor})
    result = await line.push_one(change)
    assert result["status"] in ("conflict", "merged") and result["server_data"]["name"] == "Bea"
    stored = Oracle(admin).row("parties", owner.company_id, made)
    assert stored is not None and (stored["name"], stored["phone"]) == ("Bea", None)
    changes, cursor = await line.pull_all(cursor)
    again = update("parties", made, phone="1", more={} if is_naive else {"base_version": cursor})
    if not is_naive:
        assert (await line.push_one(again))["status"] == "applied"


async def test_a_device_that_came_after_the_pruning_is_judged_by_what_it_was_given(
    api: Api, shared: Database, admin: SqlClient
) -> None:
    """The cursors of its first pages are older than the images that are kept; it never held what was pruned."""
    _, (line, other) = await shop(api)
    ids = [await party(other, f"p{number}") for number in range(6)]
    for made in ids:
        await other.push_one(update("parties", made, phone="2"))
    prune(shared, admin)
    await line.pull_all(0, limit=2)
    result = await line.push_one(update("parties", ids[0], phone="3"))
    assert (result["status"], "server_data" in result) == ("applied", False)


async def test_a_retry_meets_the_same_verdict_after_everything_was_pruned(api: Api, shared: Database, admin: SqlClient) -> None:
    _, (line, other) = await shop(api)
    first = insert("payment_accounts", "bank", account_type="bank", account_name="Main", bank_name="A")
    made = (await line.push_one(first))["record_id"]
    stale = await drained(line)
    await other.push_one(update("payment_accounts", made, bank_name="B"))
    refused = update("payment_accounts", made, bank_name="C", more={"base_version": stale})
    assert (await line.push_one(refused))["status"] == "conflict"
    await other.push_one(update("payment_accounts", made, account_name="Second"))
    prune(shared, admin)
    for _ in range(2):
        again = await line.push_one(first)
        assert (again["status"], again["record_id"], again["server_data"]["bank_name"]) == ("duplicate", made, "B")
        assert "version" not in again, "that of the first change is gone, and no later one is told for it"
        told = await line.push_one(refused)
        assert (told["status"], told["server_data"]["bank_name"]) == ("conflict", "B")
