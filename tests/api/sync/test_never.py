"""What must never happen, where no other test says it: each fails without a guard of `tests/guards`."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any

import pymysql
import pytest

from tests.api.conftest import Api
from tests.api.tills import drained, newest, shop, till, until_a_lock_is_waited_for
from tests.device import Change, Line, insert, update
from tests.oracle import Oracle
from tests.sql_client import SqlClient

pytestmark = pytest.mark.asyncio(loop_scope="module")

UNIT = "payment_accounts"
"""A server_wins table without accounting rules."""


async def refused_edit(line: Line, other: Line) -> tuple[int, int]:
    """A record whose edit by `line` was refused though `line` had pulled the winning one; returns it and the push's cursor."""
    made = (await other.push_one(insert(UNIT, "bank", account_type="bank", account_name="Main", icon="old")))["record_id"]
    row = newest((await line.pull_all())[0])[UNIT, made]
    await other.push(update(UNIT, made, icon="theirs"))
    cursor = await drained(line)
    stale = update(UNIT, made, icon="mine", more={"base_version": row["version"]})
    answer = await line.push(stale, last_version=cursor)
    assert answer["results"][0]["status"] == "conflict"
    return made, answer["current_version"]


def shown_at(hours: float) -> dict[str, Any]:
    """What a clock shows that is `hours` from ours."""
    moment = dt.datetime.now(dt.UTC) + dt.timedelta(hours=hours)
    return {"timestamp": moment.isoformat().replace("+00:00", "Z")}


async def test_mysql_itself_refuses_a_second_record_under_one_local_id(api: Api, admin: SqlClient) -> None:
    owner, (line, _) = await shop(api)
    made = (await line.push_one(insert("parties", "a", name="Ann")))["record_id"]
    again = (
        "INSERT INTO record_identities (company_id, device_id, install_id, table_name, local_id, record_id, origin_id) "
        "SELECT company_id, device_id, install_id, table_name, local_id, record_id + 1, origin_id FROM record_identities "
        f"WHERE company_id = {owner.company_id} AND record_id = {made}"
    )
    with pytest.raises(pymysql.err.IntegrityError, match="Duplicate"):
        admin.run(again)


async def test_a_refused_write_comes_back_to_that_device_alone_whatever_its_cursor(api: Api, admin: SqlClient) -> None:
    _, (line, other) = await shop(api)
    theirs = await drained(other)
    made, cursor = await refused_edit(line, other)
    [change] = (await line.pull(cursor))["changes"]
    assert (change["table"], change["record_id"], change["data"]["icon"]) == (UNIT, made, "theirs")
    others = (await other.pull(theirs, history=True))["changes"]
    assert change["version"] not in {told["version"] for told in others} and len(others) == 2


async def test_a_refused_write_is_taken_back_though_more_has_changed_than_a_page_holds(api: Api, admin: SqlClient) -> None:
    _, (line, other) = await shop(api)
    made, cursor = await refused_edit(line, other)
    for number in range(12):
        await other.push(insert("parties", number, name=str(number)))
    page = await line.pull(cursor, limit=4)
    assert page["has_more"], "a long way back, which does not read every change"
    rest, _ = await line.pull_all(page["current_version"], limit=4)
    changes = [*page["changes"], *rest]
    assert newest(changes)[UNIT, made]["data"]["icon"] == "theirs"
    assert len([change for change in changes if change["table"] == "parties"]) == 12


async def test_a_redelivery_is_void_once_its_record_has_changed_again(api: Api, admin: SqlClient) -> None:
    _, (line, other) = await shop(api)
    made, cursor = await refused_edit(line, other)
    for number in range(4):
        await other.push(insert("parties", number, name=str(number)))
    await other.push(update(UNIT, made, icon="newer"))
    changes: list[Change] = []
    while True:
        page = await line.pull(cursor, limit=2)
        changes += page["changes"]
        cursor = page["current_version"]
        if not page["has_more"]:
            break
    assert [change["data"]["icon"] for change in changes if change["table"] == UNIT] == ["newer"]


async def test_a_device_that_never_pulled_does_not_revert_what_others_changed_in_its_own_record(api: Api, admin: SqlClient) -> None:
    owner, (line, other) = await shop(api)
    made = (await line.push_one(insert("products", "a", name="Tea", sku="1")))["record_id"]
    await other.push(update("products", made, name="Green Tea"))
    for sku in ("2", "3"):
        result = await line.push_one(update("products", made, name="Tea", sku=sku))
        assert result["status"] == "merged" and result["server_data"]["name"] == "Green Tea"
    row = Oracle(admin).row("products", owner.company_id, made)
    assert row is not None and (row["name"], row["sku"]) == ("Green Tea", "3")


async def test_an_insert_that_names_a_deleted_record_and_its_version_does_not_bring_it_back(api: Api, admin: SqlClient) -> None:
    owner, (line, other) = await shop(api)
    made = await other.push_one(insert("products", "a", name="Tea"))
    admin.run(f"UPDATE products SET deleted_at = NOW(6) WHERE id = {made['record_id']}")
    admin.wait_for_tailer()
    named = {"record_id": made["record_id"], "base_version": made["version"]}
    result = await line.push_one(insert("products", "b", name="Coffee", more=named))
    assert (result["status"], result["record_id"], result["server_deleted"]) == ("duplicate", made["record_id"], True)
    assert Oracle(admin).table("products", owner.company_id) == {}
    assert admin.value("SELECT name FROM products WHERE id = %s", made["record_id"]) == "Tea"


async def test_the_parts_of_a_large_transaction_are_not_visible_before_its_end(api: Api, admin: SqlClient) -> None:
    owner, (line, other) = await shop(api)
    cursor = await drained(line)
    await drained(other)
    newest_version = (await line.pull(cursor))["head_version"]
    far = newest_version + 1_000_000
    admin.run(
        "INSERT INTO sync_changes (company_id, version, table_name, record_id, operation, data, timestamp, tx, origin, chain) "
        f"VALUES ({owner.company_id}, {far}, 'parties', 1, 'INSERT', '{{}}', '2026-01-01T00:00:00Z', 0, 'external', '')"
    )
    try:
        assert (await line.pull(cursor))["changes"] == []
        answer = await other.push(insert("units_of_measure", "u", name="kg", abbrev="k"))
        assert answer["pending"] is False and answer["current_version"] < far
        for page in (await line.pull(cursor), await line.pull(cursor, history=True), await line.pull(1), await line.pull(0)):
            assert page["changes"] and max(change["version"] for change in page["changes"]) < far
            assert page["current_version"] < far
    finally:
        admin.run(f"DELETE FROM sync_changes WHERE version = {far}")


async def test_a_deadlock_in_a_push_leaves_nothing_of_it_half_done(api: Api, admin: SqlClient) -> None:
    """MySQL has rolled back all of it: going on with the next change would store half a push."""
    owner, (line, _) = await shop(api)
    party = (await line.push_one(insert("parties", "a", name="Ann")))["record_id"]
    with SqlClient(admin.settings) as rival:
        rows = ", ".join(f"({owner.company_id}, 'n{number}', 'null')" for number in range(50))  # the push is the lighter one
        rival.run("START TRANSACTION", f"INSERT INTO settings (company_id, name, value) VALUES {rows}")
        sent = [
            update("parties", party, phone="1"),
            insert("settings", "s", name="n7", value=1),
            insert("units_of_measure", "u", name="kg"),
        ]
        push = asyncio.create_task(line.push(*sent))
        await until_a_lock_is_waited_for(admin)
        await asyncio.to_thread(rival.run, f"UPDATE parties SET phone = 'rival' WHERE id = {party}")
        rival.run("ROLLBACK")
        answer = await push
    assert [result["status"] for result in answer["results"]] == ["applied"] * 3, answer["results"]
    rows_now = Oracle(admin).rows(owner.company_id)
    assert rows_now["parties"][party]["phone"] == "1"
    assert len(rows_now["settings"]) == len(rows_now["units_of_measure"]) == 1
    versions = [result["version"] for result in answer["results"]]
    assert admin.value("SELECT COUNT(DISTINCT tx) FROM sync_changes WHERE version IN (%s, %s, %s)", *versions) == 1


async def test_one_taken_value_among_many_new_rows_blocks_none_of_the_others(api: Api, admin: SqlClient) -> None:
    owner, (line, other) = await shop(api)
    await other.push(insert("products", "p", name="Tea", sku="3"))
    answer = await line.push(*(insert("products", number, name=str(number), sku=str(number)) for number in range(6)))
    statuses = [result["status"] for result in answer["results"]]
    assert statuses == ["applied"] * 3 + ["rejected"] + ["applied"] * 2
    assert answer["results"][3]["code"] == "duplicate_key"
    assert set(answer["id_mappings"]) == {"0", "1", "2", "4", "5"}
    assert len(Oracle(admin).table("products", owner.company_id)) == 6


async def test_an_edit_to_a_value_that_is_taken_blocks_none_of_the_others(api: Api, admin: SqlClient) -> None:
    owner, (line, _) = await shop(api)
    ids = (await line.push(insert("products", "a", name="A", sku="1"), insert("products", "b", name="B", sku="2")))["id_mappings"]
    answer = await line.push(
        insert("parties", "before", name="Ann"), update("products", ids["b"], sku="1"), insert("parties", "after", name="Bob")
    )
    assert [result["status"] for result in answer["results"]] == ["applied", "conflict", "applied"]
    refused = answer["results"][1]
    assert (refused["code"], refused["server_data"]["sku"]) == ("duplicate_key", "2")
    assert len(Oracle(admin).table("parties", owner.company_id)) == 2


async def test_a_clock_that_once_ran_ahead_wins_nothing_by_not_saying_the_time(api: Api) -> None:
    owner, (slow, _) = await shop(api)
    fast = till(owner)
    made = (await slow.push_one(insert("parties", "a", name="Ann")))["record_id"]
    await drained(slow)
    await drained(fast)
    await fast.push(sent_at=shown_at(+2)["timestamp"])
    halfway = {**update("parties", made, phone="slow"), **shown_at(-0.5)}
    assert (await slow.push_one(halfway))["status"] == "applied"
    earlier = {**update("parties", made, phone="fast"), **shown_at(+1)}  # an hour ago, as its clock is two hours ahead
    assert (await fast.push_one(earlier))["status"] == "conflict"


async def test_an_edit_that_is_tried_again_counts_with_when_it_was_made(api: Api, admin: SqlClient) -> None:
    owner, (line, other) = await shop(api)
    early = {**update("parties", None, phone="early", more={"local_id": "a"}), **shown_at(-2)}
    assert (await line.push_one(early))["status"] == "rejected", "its record is not there yet"
    made = (await line.push_one(insert("parties", "a", name="Ann")))["record_id"]
    await drained(line)
    await drained(other)
    assert (await other.push_one({**update("parties", made, phone="late"), **shown_at(-1)}))["status"] == "applied"
    [result] = (await line.ask("/api/sync/retry", {"device_id": line.device_id}))["results"]
    assert (result["status"], result["server_data"]["phone"]) == ("conflict", "late")
    assert Oracle(admin).row("parties", owner.company_id, made)["phone"] == "late"  # type: ignore[index]


async def test_a_plain_sql_write_counts_with_its_commit_though_a_device_wrote_before_it(api: Api, admin: SqlClient) -> None:
    owner, (line, other) = await shop(api)
    made = (await line.push_one(insert("parties", "a", name="Ann")))["record_id"]
    await drained(line)
    await drained(other)
    assert (await other.push_one({**update("parties", made, phone="first"), **shown_at(-2)}))["status"] == "applied"
    admin.run(f"UPDATE parties SET phone = 'sql' WHERE id = {made}")
    admin.wait_for_tailer()
    assert (await line.push_one({**update("parties", made, phone="between"), **shown_at(-1)}))["status"] == "conflict"
    assert Oracle(admin).row("parties", owner.company_id, made)["phone"] == "sql"  # type: ignore[index]


async def test_edits_of_the_same_moment_have_one_winner_whichever_came_first(api: Api) -> None:
    owner, (maker, _) = await shop(api)
    lower, higher = (till(owner, f"{maker.device_id}-{name}") for name in "ab")
    same = {"timestamp": "2026-02-01T10:00:00Z"}
    for first, second, wanted in ((lower, higher, "applied"), (higher, lower, "conflict")):
        made = (await maker.push_one(insert("parties", wanted, name="Ann")))["record_id"]
        await drained(lower)
        await drained(higher)
        assert (await first.push_one({**update("parties", made, phone="1"), **same}))["status"] == "applied"
        assert (await second.push_one({**update("parties", made, phone="2"), **same}))["status"] == wanted
