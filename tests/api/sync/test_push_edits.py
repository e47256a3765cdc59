"""Push: edits and deletions against a base, by policy; what a refused device is told (contract §3, Base and Policies)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.api.conftest import Api
from tests.api.tills import drained, newest, open_api, shop
from tests.device import Line, delete, insert, update
from tests.oracle import Oracle
from tests.servers import Database
from tests.sql_client import SqlClient

pytestmark = pytest.mark.asyncio(loop_scope="module")

UNIT = "payment_accounts"
"""A server_wins table without accounting rules."""


async def bank(line: Line, **more: Any) -> dict[str, Any]:
    """A payment account as its INSERT answered it."""
    result = await line.push_one(insert(UNIT, "bank", account_type="bank", account_name="Main", bank_name="A", **more))
    assert result["status"] == "applied"
    return result


async def row_of(line: Line, table: str, record_id: int) -> dict[str, Any]:
    """A whole row as a naive device holds it after a pull."""
    changes, _ = await line.pull_all()
    row: dict[str, Any] = newest(changes)[table, record_id]["data"]
    return row


async def test_an_edit_changes_what_was_sent_and_keeps_what_was_not(api: Api, admin: SqlClient) -> None:
    owner, (line, other) = await shop(api)
    made = (await bank(line, icon="i"))["record_id"]
    edit = await line.push(update(UNIT, made, bank_name="B", icon=None))
    [result] = edit["results"]
    assert (result["status"], result["record_id"], edit["id_mappings"]) == ("applied", made, {})
    row = Oracle(admin).row(UNIT, owner.company_id, made)
    assert row is not None and (row["account_name"], row["bank_name"], row["icon"]) == ("Main", "B", None)
    change = newest((await other.pull_all())[0])[UNIT, made]
    assert (change["operation"], change["version"], change["data"]) == ("UPDATE", result["version"], row)


async def test_a_record_is_named_by_record_id_then_data_id_then_local_id(api: Api, admin: SqlClient) -> None:
    owner, (line, _) = await shop(api)
    ids = (await line.push(*(insert("parties", name, name=name) for name in ("one", "two", "three"))))["id_mappings"]
    one, two, three = (ids[name] for name in ("one", "two", "three"))
    await line.push(update("parties", two, phone="1", more={"record_id": one, "local_id": "three"}))
    await line.push(update("parties", two, phone="2", more={"local_id": "three"}))
    await line.push(update("parties", None, phone="3", more={"local_id": "three"}))
    rows = Oracle(admin).table("parties", owner.company_id)
    assert [rows[key]["phone"] for key in (one, two, three)] == ["1", "2", "3"]


async def test_what_differs_in_form_only_is_no_change(api: Api, admin: SqlClient) -> None:
    _owner, (line, _) = await shop(api)
    made = (await line.push(insert("products", "p", name="Tea", sale_price="12.50", is_active=True)))["id_mappings"]["p"]
    value = (await line.push(insert("settings", "s", name="n", value={"a": 1, "b": [1.0]})))["id_mappings"]["s"]
    head = (await line.pull(0))["head_version"]
    answer = await line.push(
        update("products", made, sale_price=12.5, is_active=1),
        update("products", made, sale_price="12.5"),
        update("products", made, sale_price="1250e-2", is_active=True),
        update("settings", value, value={"b": [1], "a": 1.0}),
    )
    assert [result["status"] for result in answer["results"]] == ["noop"] * 4
    assert all("version" not in result for result in answer["results"])
    assert answer["head_version"] == head, "no change was made"


async def test_whole_rows_are_welcome(api: Api, admin: SqlClient) -> None:
    owner, (line, other) = await shop(api)
    made = (await bank(other))["record_id"]
    row = await row_of(line, UNIT, made)
    result = await line.push_one(update(UNIT, None, **{**row, "bank_name": "B"}))
    assert result["status"] == "applied" and "server_data" not in result
    assert Oracle(admin).row(UNIT, owner.company_id, made)["bank_name"] == "B"  # type: ignore[index]


async def test_server_wins_refuses_tells_and_keeps_the_refused_payload(api: Api, admin: SqlClient) -> None:
    owner, (line, other) = await shop(api)
    made = await bank(other)
    row = await row_of(line, UNIT, made["record_id"])
    newer = await other.push_one(update(UNIT, made["record_id"], bank_name="B"))
    answer = await line.push(update(UNIT, None, **{**row, "icon": "star"}))
    [result] = answer["results"]
    assert (result["status"], result["record_id"]) == ("conflict", made["record_id"])
    assert (result["server_data"]["bank_name"], result["server_data"]["icon"]) == ("B", None)
    assert (result["server_version"], result["server_deleted"]) == (newer["version"], False)
    assert result["server_data"] == Oracle(admin).row(UNIT, owner.company_id, made["record_id"])
    [conflict] = answer["conflicts"]
    assert {name: conflict[name] for name in ("table", "record_id", "server_version")} == {
        "table": UNIT, "record_id": made["record_id"], "server_version": newer["version"],
    }  # fmt: skip
    assert isinstance(conflict["conflict_id"], int) and conflict["resolution"] == "server"
    client = admin.value("SELECT client FROM sync_conflicts WHERE id = %s", conflict["conflict_id"])
    assert '"star"' in client
    assert (await line.status())["conflicts_open"] == 1
    again = await line.push(update(UNIT, None, **{**row, "icon": "star"}))
    assert again["results"][0]["status"] == "conflict", "told again at every retry"


async def test_a_field_both_sides_set_to_the_same_value_is_no_clash(api: Api) -> None:
    _, (line, other) = await shop(api)
    made = (await bank(other))["record_id"]
    row = await row_of(line, UNIT, made)
    await other.push(update(UNIT, made, bank_name="B"))
    result = await line.push_one(update(UNIT, None, **{**row, "bank_name": "B"}))
    assert result["status"] in ("noop", "applied") and "code" not in result


async def test_merge_keeps_both_sides_and_names_the_field_both_changed(api: Api, admin: SqlClient) -> None:
    owner, (line, other) = await shop(api)
    made = (await other.push(insert("products", "p", name="Tea", sku="1")))["id_mappings"]["p"]
    row = await row_of(line, "products", made)
    await other.push(update("products", made, name="Green Tea", description="theirs"))
    change = update("products", None, **{**row, "sku": "2", "description": "mine"})
    answer = await line.push(change)
    [result] = answer["results"]
    assert result["status"] == "merged"
    stored = Oracle(admin).row("products", owner.company_id, made)
    assert stored is not None
    assert (stored["name"], stored["sku"], stored["description"]) == ("Green Tea", "2", "theirs")
    assert result["server_data"] == stored
    [conflict] = answer["conflicts"]
    assert conflict["fields"] == ["description"]
    again = await line.push_one(change)
    assert (again["status"], again["server_data"]["description"]) == ("merged", "theirs"), "the same verdict, told again"


async def test_a_merged_field_is_never_reverted_by_the_next_push_of_the_same_device(api: Api, admin: SqlClient) -> None:
    owner, (line, other) = await shop(api)
    made = (await other.push(insert("products", "p", name="Tea", sku="1")))["id_mappings"]["p"]
    row = await row_of(line, "products", made)
    await other.push(update("products", made, name="Green Tea"))
    mine = {**row, "sku": "2"}
    assert (await line.push_one(update("products", None, **mine)))["status"] == "merged"
    for sku in ("3", "4", "5"):
        await line.push(update("products", None, **{**mine, "sku": sku}))
    stored = Oracle(admin).row("products", owner.company_id, made)
    assert stored is not None and (stored["name"], stored["sku"]) == ("Green Tea", "5")


async def test_a_device_never_conflicts_with_itself(api: Api, admin: SqlClient, tailer: Any) -> None:
    owner, (line, _) = await shop(api)
    made = (await bank(line))["record_id"]
    for number in range(5):
        assert (await line.push_one(update(UNIT, made, bank_name=str(number))))["status"] == "applied"
    both = await line.push(update(UNIT, made, bank_name="x"), update(UNIT, made, icon="y"), update(UNIT, made, bank_name="z"))
    assert [result["status"] for result in both["results"]] == ["applied"] * 3
    versions = [result["version"] for result in both["results"]]
    assert versions == list(range(versions[0], versions[0] + 3))
    row = Oracle(admin).row(UNIT, owner.company_id, made)
    assert row is not None and (row["bank_name"], row["icon"]) == ("z", "y")


async def test_a_whole_row_edited_before_the_last_pull_is_not_taken_for_an_edit_of_what_it_brought(
    api: Api, admin: SqlClient
) -> None:
    owner, (line, other) = await shop(api)
    made = (await other.push(insert("products", "p", name="Tea", sku="1")))["id_mappings"]["p"]
    changes, cursor = await line.pull_all()
    row = newest(changes)["products", made]["data"]
    await other.push(update("products", made, name="Green Tea"))
    await line.pull_all(cursor)
    result = await line.push_one(update("products", None, **{**row, "sku": "2"}))
    stored = Oracle(admin).row("products", owner.company_id, made)
    assert stored is not None and (stored["name"], stored["sku"]) == ("Green Tea", "2")
    assert result["status"] == "merged" and result["server_data"]["name"] == "Green Tea"


async def test_an_edit_of_what_the_last_pull_brought_is_no_conflict(api: Api, admin: SqlClient) -> None:
    owner, (line, other) = await shop(api)
    made = (await bank(other))["record_id"]
    _, cursor = await line.pull_all()
    await other.push(update(UNIT, made, bank_name="B"))
    page = await line.pull(cursor)
    row = newest(page["changes"])[UNIT, made]["data"]
    assert (await line.push_one(update(UNIT, None, **{**row, "bank_name": "C"})))["status"] == "applied"
    assert Oracle(admin).row(UNIT, owner.company_id, made)["bank_name"] == "C"  # type: ignore[index]


async def test_a_base_version_decides_whatever_was_pulled(api: Api, admin: SqlClient) -> None:
    _, (line, other) = await shop(api)
    first = await bank(other)
    second = await other.push_one(update(UNIT, first["record_id"], bank_name="B"))
    await drained(line)
    old = {"base_version": first["version"]}
    stale = await line.push_one(update(UNIT, first["record_id"], icon="x", more=old))
    assert stale["status"] == "conflict"
    fresh = await line.push_one(update(UNIT, first["record_id"], icon="x", more={"base_version": second["version"]}))
    assert fresh["status"] == "applied"
    later = await line.push_one(update(UNIT, first["record_id"], icon="y", more={"base_version": 2**52}))
    assert later["status"] in ("applied", "conflict"), "a version nobody gave never breaks a push"
    older = await line.push_one(update(UNIT, first["record_id"], bank_name="Q", more={"base_version": 1}))
    assert older["status"] == "conflict", "no image that old is kept: what differs counts as changed by both"
    odd = await line.push_one(update(UNIT, first["record_id"], icon="z", more={"base_version": "soon"}))
    assert odd["status"] == "applied"


async def test_what_others_changed_is_read_from_the_row_while_the_tailer_lags(
    shared: Database, tailer: Any, admin: SqlClient
) -> None:
    async with open_api(shared, push_wait_ms_max=20) as api:
        owner, (line, other) = await shop(api)
        made = (await bank(other))["record_id"]
        admin.wait_for_tailer()
        row = await row_of(line, UNIT, made)
        tailer.pause()
        try:
            await other.push(update(UNIT, made, bank_name="B"))
            result = await line.push_one(update(UNIT, None, **{**row, "icon": "x"}))
            assert result["status"] == "conflict" and result["server_data"]["bank_name"] == "B"
            admin.run(f"UPDATE payment_accounts SET bank_name = 'C' WHERE id = {made}")
            told = await line.push_one(update(UNIT, None, **{**row, "icon": "x"}))
            assert told["status"] == "conflict" and told["server_data"]["bank_name"] == "C"
        finally:
            tailer.resume()
        admin.wait_for_tailer()
    assert Oracle(admin).row(UNIT, owner.company_id, made)["icon"] is None  # type: ignore[index]


async def test_a_device_never_given_anything_edits_the_row_as_it_is(api: Api) -> None:
    _, (line, other) = await shop(api)
    made = (await bank(other))["record_id"]
    await other.push(update(UNIT, made, bank_name="B"))
    assert (await line.push_one(update(UNIT, made, icon="x")))["status"] == "applied"


async def test_a_refused_edit_retried_after_a_pull_gets_the_same_verdict(api: Api, admin: SqlClient) -> None:
    owner, (line, other) = await shop(api)
    made = (await bank(other))["record_id"]
    changes, cursor = await line.pull_all()
    row = newest(changes)[UNIT, made]["data"]
    await other.push(update(UNIT, made, bank_name="B"))
    change = update(UNIT, None, **{**row, "bank_name": "C"})
    first = await line.push_one(change)
    assert first["status"] == "conflict"
    await line.pull_all(cursor)
    again = await line.push_one(change)
    assert (again["status"], again["server_data"]["bank_name"]) == ("conflict", "B"), "a retried change, not a new one"
    assert Oracle(admin).row(UNIT, owner.company_id, made)["bank_name"] == "B"  # type: ignore[index]
    anew = await line.push_one(update(UNIT, None, **{**row, "bank_name": "C"}))
    assert anew["status"] == "applied", "the same edit made again, at another time, is a new one"


async def test_an_edit_delivered_twice_does_not_revert_what_came_between(api: Api, admin: SqlClient) -> None:
    owner, (line, other) = await shop(api)
    made = (await bank(line))["record_id"]
    cursor = await drained(line)
    change = update(UNIT, made, bank_name="mine")
    assert (await line.push_one(change))["status"] == "applied"
    await drained(other)
    await other.push(update(UNIT, made, bank_name="theirs"))
    _, cursor = await line.pull_all(cursor)
    await line.pull(cursor)
    again = await line.push_one(change)
    assert Oracle(admin).row(UNIT, owner.company_id, made)["bank_name"] == "theirs"  # type: ignore[index]
    assert again["server_data"]["bank_name"] == "theirs"


async def test_deleting_what_others_changed_is_a_conflict_whatever_the_policy(api: Api, admin: SqlClient) -> None:
    owner, (line, other) = await shop(api)
    for table, data in {
        "products": {"name": "Tea"},
        "parties": {"name": "Ann"},
        UNIT: {"account_type": "bank", "account_name": "x"},
    }.items():
        made = (await other.push(insert(table, "a", **data)))["id_mappings"]["a"]
        cursor = await drained(line)
        await other.push(update(table, made, is_active=False))
        result = await line.push_one(delete(table, made))
        assert (result["status"], result["server_deleted"]) == ("conflict", False), table
        assert result["server_data"]["is_active"] is False
        await line.pull_all(cursor)
        assert (await line.push_one(delete(table, made)))["status"] == "applied", table
        assert made not in Oracle(admin).table(table, owner.company_id)


async def test_deleting_what_is_deleted_or_unknown_is_a_noop(api: Api) -> None:
    _, (line, other) = await shop(api)
    made = (await bank(other))["record_id"]
    assert (await line.push_one(delete(UNIT, made)))["status"] == "applied"
    for change in (
        delete(UNIT, made),
        delete(UNIT, None, more={"record_id": made}),
        delete(UNIT, 2**50),
        delete(UNIT, None, more={"local_id": "nobody"}),
    ):
        answer = await line.push(change)
        assert answer["results"][0]["status"] == "noop" and answer["conflicts"] == []


async def test_editing_what_was_deleted_is_a_conflict_and_never_brings_it_back(api: Api, admin: SqlClient) -> None:
    owner, (line, other) = await shop(api)
    for is_hard in (False, True):
        made = (
            (await bank(other))["record_id"]
            if not is_hard
            else admin.run(
                f"INSERT INTO payment_accounts (company_id, account_type, account_name) VALUES ({owner.company_id}, 'bank', 'Main')"
            )
        )
        admin.wait_for_tailer()
        row = await row_of(line, UNIT, made)
        admin.run(
            f"DELETE FROM payment_accounts WHERE id = {made}"
            if is_hard
            else f"UPDATE payment_accounts SET deleted_at = NOW(6) WHERE id = {made}"
        )
        admin.wait_for_tailer()
        for change in (
            update(UNIT, None, **{**row, "icon": "x"}),
            update(UNIT, None, icon="x", more={"record_id": made}),
        ):
            answer = await line.push(change)
            [result] = answer["results"]
            assert (result["status"], result["record_id"], result["server_deleted"]) == ("conflict", made, True), is_hard
            assert result["server_data"]["account_name"] == "Main" and len(answer["conflicts"]) == 1
    assert Oracle(admin).table(UNIT, owner.company_id) == {}


async def test_editing_what_never_was_is_rejected_not_found(api: Api) -> None:
    _, (line, _) = await shop(api)
    for change in (
        update(UNIT, 2**50, icon="x"),
        update(UNIT, None, icon="x", more={"record_id": 2**50}),
        update(UNIT, None, icon="x", more={"local_id": "nobody"}),
        update(UNIT, None, icon="x"),
    ):
        answer = await line.push(change)
        [result] = answer["results"]
        assert (result["status"], result["code"]) == ("rejected", "not_found")
        assert answer["conflicts"] == [] and "server_data" not in result


async def test_latest_takes_the_later_edit_by_corrected_clocks_and_a_clock_ahead_locks_nothing(api: Api, admin: SqlClient) -> None:
    owner, (line, other) = await shop(api)
    made = (await other.push(insert("parties", "p", name="Ann")))["id_mappings"]["p"]
    await drained(line)
    await drained(other)
    ahead = {"timestamp": "2090-01-01T00:00:00Z"}
    assert (await other.push_one({**update("parties", made, phone="ahead"), **ahead}))["status"] == "applied"
    await asyncio.sleep(0.01)
    now = admin.value("SELECT DATE_FORMAT(UTC_TIMESTAMP(6) + INTERVAL 1 HOUR, '%Y-%m-%dT%H:%i:%s.%fZ')")
    late = await line.push_one({**update("parties", made, phone="later"), "timestamp": now})
    assert late["status"] == "applied"
    assert Oracle(admin).row("parties", owner.company_id, made)["phone"] == "later"  # type: ignore[index]
    early = await other.push_one({**update("parties", made, phone="early"), "timestamp": "2020-01-01T00:00:00Z"})
    assert early["status"] == "conflict" and early["server_data"]["phone"] == "later"


async def test_many_devices_edit_one_row_at_once_and_one_wins_each_time(api: Api, admin: SqlClient) -> None:
    owner, lines = await shop(api, 8)
    made = (await bank(lines[0]))["record_id"]
    rows = [await row_of(line, UNIT, made) for line in lines]
    # Each has a connection to MySQL then, and none comes too late for the others.
    await asyncio.gather(*(line.push(insert("units_of_measure", "u", name=line.device_id)) for line in lines))
    answers = await asyncio.gather(
        *(line.push_one(update(UNIT, None, **{**row, "bank_name": line.device_id})) for line, row in zip(lines, rows, strict=True))
    )
    statuses = sorted(answer["status"] for answer in answers)
    assert statuses == ["applied", *["conflict"] * 7]
    winner = next(line.device_id for line, answer in zip(lines, answers, strict=True) if answer["status"] == "applied")
    assert Oracle(admin).row(UNIT, owner.company_id, made)["bank_name"] == winner  # type: ignore[index]


async def test_many_devices_edit_their_company_at_once_and_none_meets_an_error(api: Api) -> None:
    owner, lines = await shop(api, 10)
    answers = await asyncio.gather(*(line.push(update("companies", owner.company_id, phone=line.device_id)) for line in lines))
    assert {answer["results"][0]["status"] for answer in answers} <= {"applied", "conflict"}


async def test_companies_are_only_edited_and_only_ones_own(api: Api) -> None:
    owner, (line, _) = await shop(api)
    answer = await line.push(
        update("companies", owner.company_id, name="Renamed"),
        delete("companies", owner.company_id),
        insert("companies", "c", name="Second"),
    )
    assert [result["status"] for result in answer["results"]] == ["applied", "conflict", "rejected"]
    assert [result.get("code") for result in answer["results"]] == [None, "forbidden", "forbidden"]
