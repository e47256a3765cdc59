"""Pull: versions, pages, values, tenancy, roles (contract §1.1–1.2, §2)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from schema.tables import TABLES
from schema.versions import pack
from tests.api.conftest import Api
from tests.api.rows import create_all
from tests.api.tills import drained, newest, open_api, shop, till
from tests.device import Refused, insert, update
from tests.oracle import Oracle
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

pytestmark = pytest.mark.asyncio(loop_scope="module")


def values(count: int, company_id: int, first: int = 0) -> str:
    """Rows for a multi-row INSERT into parties."""
    return ", ".join(f"({company_id}, 'Party {number}')" for number in range(first, first + count))


async def test_an_empty_server_stands_at_version_1_and_the_first_change_is_version_2(stack: Stack) -> None:
    with stack.database() as database, SqlClient(database.settings) as sql:
        async with open_api(database, push_wait_ms_max=0) as api:
            owner = await api.register()
            page = await till(owner).pull(0)
            assert (page["current_version"], page["changes"], page["epoch"]) == (1, [], 0)
            assert (page["has_more"], page["head_version"], page["success"]) == (False, 1, True)
            tail = stack.spawn("tail", environ=database.environ)
            sql.wait_for_tailer()
            changes, cursor = await till(owner).pull_all()
            tail.stop()
    assert [(change["version"], change["table"]) for change in changes] == [(2, "companies"), (3, "users")]
    assert cursor == 3 and len({change["tx"] for change in changes}) == 1


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        {"device_id": None},
        {"device_id": ""},
        {"device_id": 5},
        {"device_id": "x" * 129},
        {"last_version": None},
        {"last_version": -1},
        {"last_version": 1.0},
        {"last_version": "0"},
        {"last_version": False},
        {"last_version": 2**80},
        {"tables": "parties"},
        {"tables": {}},
        {"tables": [1]},
        {"tables": [None]},
        {"tables": [["parties"]]},
        {"company_id": "x"},
        {"company_id": -1},
        {"company_id": True},
    ],
    ids=lambda body: json.dumps(body)[:50],
)
async def test_a_malformed_pull_is_400(api: Api, body: Any) -> None:
    _, (line, _) = await shop(api)
    if isinstance(body, dict) and body:
        body = {"device_id": line.device_id, "last_version": 0, **body}
    with pytest.raises(Refused) as refused:
        await line.ask("/api/sync/pull", body)
    assert refused.value.status == 400 and refused.value.code in ("malformed", "bad_json")


async def test_an_unknown_table_is_400_and_an_empty_list_means_every_table(api: Api) -> None:
    _, (line, _) = await shop(api)
    for tables in (["partys"], ["parties", "devices"], ["sync_changes"], ["Parties"], [""]):
        with pytest.raises(Refused) as refused:
            await line.pull(0, tables=tables)
        assert (refused.value.status, refused.value.code) == (400, "unknown_table")
    every = await line.pull(0)
    assert {change["table"] for change in every["changes"]} == {"companies", "users"}
    assert (await till_like(line, api).pull(0, tables=[]))["changes"] == every["changes"]


def till_like(line: Any, api: Api) -> Any:
    """Another device of the same person."""
    return type(line)(line.http, line.url, line.token, f"{line.device_id}-b")


async def test_a_request_without_a_good_token_or_for_a_foreign_device_is_refused(api: Api) -> None:
    owner, (line, _) = await shop(api)
    stranger, _ = await shop(api)
    for token in ("", "x", owner.token[:-2] + "xx"):
        with pytest.raises(Refused) as refused:
            await till(owner.with_token(token)).pull(0)
        assert (refused.value.status, refused.value.code) == (401, "invalid_token")
    await line.pull(0)
    with pytest.raises(Refused) as refused:
        await till(stranger, line.device_id).pull(0)
    assert refused.value.status == 403
    bound = await api.login(owner.email, device_id="bound-till")
    with pytest.raises(Refused) as refused:
        await till(bound, "other-till").pull(0)
    assert (refused.value.status, refused.value.code) == (403, "device_mismatch")


async def test_every_table_arrives_as_select_shows_it(api: Api, admin: SqlClient) -> None:
    owner, (line, _) = await shop(api)
    await create_all(owner)
    changes, _ = await line.pull_all()
    held = {table: {c["record_id"]: c["data"] for c in changes if c["table"] == table} for table in TABLES}
    assert held == Oracle(admin).rows(owner.company_id)
    assert set(held) == set(TABLES) and all(held.values())
    assert all(set(c) >= {"id", "table", "record_id", "operation", "data", "version", "timestamp", "tx"} for c in changes)
    assert [c["version"] for c in changes] == sorted({c["id"] for c in changes})


async def test_values_that_plain_sql_wrote_have_the_form_of_the_wire(api: Api, admin: SqlClient) -> None:
    owner, (line, _) = await shop(api)
    company = owner.company_id
    admin.run(
        f"INSERT INTO products (company_id, name, sku, description, last_cost, sale_price, opening_qty, is_active) VALUES "
        f"({company}, '茶 🍵 Тé\\\\\"\\n', '', REPEAT('ß', 30000), -9999999999999.99, 0.1, 1e11, 0)",
        f"INSERT INTO parties (company_id, name, payment_terms_days) VALUES ({company}, 'x', -2147483648)",
        f"INSERT INTO settings (company_id, name, value) VALUES ({company}, 'big', "
        '\'{"b": 18446744073709551615, "a": [1.5, 1e300, true, null, "\\\\u0000", "é"], "": {}}\')',
        f"INSERT INTO settings (company_id, name, value) VALUES ({company}, 'json null', 'null'), ({company}, 'sql null', NULL)",
        f"UPDATE companies SET primary_currency = 'EUR', books_locked_until = '0999-01-01' WHERE id = {company}",
        f"INSERT INTO parties (company_id, name, created_at) VALUES ({company}, 'whole second', '2026-02-03 04:05:06')",
        f"INSERT INTO parties (company_id, name, created_at) VALUES ({company}, 'fraction', '2026-02-03 04:05:06.000010')",
    )
    admin.wait_for_tailer()
    changes = newest((await line.pull_all())[0])
    oracle = Oracle(admin).rows(company)
    assert {key: c["data"] for key, c in changes.items()} == {(t, i): row for t, rows in oracle.items() for i, row in rows.items()}
    rows = {c["data"].get("name"): c["data"] for c in changes.values()}
    tea = rows['茶 🍵 Тé\\"\n']
    assert (tea["last_cost"], tea["sale_price"], tea["opening_qty"]) == ("-9999999999999.99", "0.10", "100000000000.000")
    assert (tea["is_active"], tea["sku"], len(tea["description"])) == (False, "", 30000)
    assert rows["big"]["value"]["b"] == 2**64 - 1 and rows["big"]["value"]["a"] == [1.5, 1e300, True, None, "\0", "é"]
    assert rows["whole second"]["created_at"] == "2026-02-03T04:05:06Z"
    assert rows["fraction"]["created_at"] == "2026-02-03T04:05:06.000010Z"
    assert rows["json null"]["value"] is None is rows["sql null"]["value"]


async def test_versions_ascend_and_pages_join_without_gap_or_repeat(api: Api, admin: SqlClient) -> None:
    owner, (line, _) = await shop(api)
    for number in range(25):
        admin.run(f"INSERT INTO parties (company_id, name) VALUES ({owner.company_id}, 'Party {number}')")
    admin.wait_for_tailer()
    cursor, seen, pages = 0, [], 0
    while True:
        page = await line.pull(cursor, limit=4)
        assert len(page["changes"]) <= 4 or len({c["tx"] for c in page["changes"]}) == 1
        assert all(cursor < c["version"] <= page["current_version"] for c in page["changes"])
        seen += [change["version"] for change in page["changes"]]
        cursor, pages = page["current_version"], pages + 1
        if not page["has_more"]:
            break
    assert seen == sorted(set(seen)) and len(seen) == 27 and pages >= 7
    assert cursor == page["head_version"], "nothing is left: the newest version the pull looked at"


async def test_a_page_grows_to_the_end_of_a_transaction_and_cuts_only_what_is_larger_than_the_maximum(
    shared: Database, tailer: Any, admin: SqlClient
) -> None:
    async with open_api(shared, page_changes_max=50) as api:
        owner, (line, other) = await shop(api)
        start = await drained(line)
        admin.run(f"INSERT INTO parties (company_id, name) VALUES ({owner.company_id}, 'alone')")
        admin.run(f"INSERT INTO parties (company_id, name) VALUES {values(30, owner.company_id)}")
        admin.run(f"INSERT INTO parties (company_id, name) VALUES {values(120, owner.company_id)}")
        admin.run(f"INSERT INTO parties (company_id, name) VALUES ({owner.company_id}, 'last')")
        admin.wait_for_tailer()
        for begin in (start, 0):
            shapes, cursor = [], begin
            while True:
                page = await (line if begin else other).pull(cursor, limit=5)
                changes = page["changes"]
                is_cut = bool(changes) and changes[-1].get("tx_end") is False
                assert all("tx_end" not in change for change in changes[:-1])
                shapes.append((len(changes), is_cut))
                cursor = page["current_version"]
                if not page["has_more"]:
                    break
            grown = 31 if begin else 33
            assert shapes == [(grown, False), (50, True), (50, True), (20, False), (1, False)]


async def test_limit_is_a_positive_whole_number_and_never_above_the_maximum(
    shared: Database, tailer: Any, admin: SqlClient
) -> None:
    async with open_api(shared, page_changes_max=20, page_changes_default=7) as api:
        owner, (line, other) = await shop(api)
        for number in range(30):
            admin.run(f"INSERT INTO units_of_measure (company_id, name) VALUES ({owner.company_id}, '{number}')")
        admin.wait_for_tailer()
        assert len((await line.pull(0))["changes"]) == 7
        assert len((await other.pull(0, limit=10_000))["changes"]) == 20
        limits = (await line.status())["limits"]
        assert 20 in limits.values() and 7 in limits.values()


async def test_a_record_appears_once_with_its_newest_state_and_with_history_every_time(api: Api, admin: SqlClient) -> None:
    owner, (line, other) = await shop(api)
    start = await drained(line)
    party = admin.run(f"INSERT INTO parties (company_id, name) VALUES ({owner.company_id}, 'v0')")
    for number in range(1, 6):
        admin.run(f"UPDATE parties SET name = 'v{number}' WHERE id = {party}")
    admin.wait_for_tailer()
    for page in (await line.pull(start), await other.pull(0, tables=["parties"])):
        [change] = page["changes"]
        assert change["data"]["name"] == "v5"
    told = (await line.pull(start, history=True))["changes"]
    assert [(c["operation"], c["data"]["name"]) for c in told] == [("INSERT", "v0"), *[("UPDATE", f"v{n}") for n in range(1, 6)]]


async def test_a_first_pull_costs_what_lives_not_what_was(api: Api, admin: SqlClient) -> None:
    owner, (line, other) = await shop(api)
    admin.run(f"INSERT INTO parties (company_id, name) VALUES {values(500, owner.company_id)}")
    for number in range(5):
        admin.run(f"UPDATE parties SET phone = '{number}' WHERE company_id = {owner.company_id}")
    admin.run(f"DELETE FROM parties WHERE company_id = {owner.company_id} AND id % 2")
    admin.wait_for_tailer()
    page = await line.pull(0, tables=["parties"], limit=400)
    assert len(page["changes"]) == 250 and not page["has_more"], "tombstones of what it never had need not come"
    assert {c["operation"] for c in page["changes"]} <= {"INSERT", "UPDATE"}
    assert len((await other.pull_all(0, tables=["parties"], limit=13))[0]) == 250


async def test_a_page_walk_from_0_meets_changes_made_meanwhile(api: Api, admin: SqlClient) -> None:
    owner, (line, _) = await shop(api)
    for number in range(40):
        admin.run(f"INSERT INTO parties (company_id, name) VALUES ({owner.company_id}, 'Party {number}')")
    admin.wait_for_tailer()
    held: dict[int, Any] = {}
    cursor = 0
    for step in range(1000):
        page = await line.pull(cursor, limit=5, tables=["parties"])
        for change in page["changes"]:
            if change["operation"] == "DELETE":
                held.pop(change["record_id"], None)
            else:
                held[change["record_id"]] = change["data"]
        cursor = page["current_version"]
        if not page["has_more"]:
            break
        if step < 4:
            first, last = min(held), max(held)
            admin.run(
                f"DELETE FROM parties WHERE id = {first}",
                f"UPDATE parties SET name = 'changed', deleted_at = NULL WHERE id = {last}",
                f"UPDATE parties SET deleted_at = NOW(6) WHERE id = {last + 20}",
                f"INSERT INTO parties (company_id, name) VALUES ({owner.company_id}, 'new')",
            )
            admin.wait_for_tailer()
    assert held == Oracle(admin).table("parties", owner.company_id)


async def test_soft_and_hard_deletes_arrive_alike_and_a_restore_is_an_insert(api: Api, admin: SqlClient) -> None:
    owner, (line, _) = await shop(api)
    soft, hard, gone = (
        admin.run(f"INSERT INTO parties (company_id, name, phone) VALUES ({owner.company_id}, '{name}', '7')")
        for name in ("soft", "hard", "gone")
    )
    admin.wait_for_tailer()
    cursor = await drained(line)
    admin.run(
        f"UPDATE parties SET deleted_at = NOW(6) WHERE id IN ({soft}, {gone})",
        f"DELETE FROM parties WHERE id IN ({hard}, {gone})",
    )
    admin.wait_for_tailer()
    page = await line.pull(cursor)
    changes = newest(page["changes"])
    assert {key[1] for key in changes} == {soft, hard, gone}
    for (_, record_id), change in changes.items():
        assert change["operation"] == "DELETE" and change["data"]["deleted_at"] is not None
        assert (change["data"]["phone"], change["data"]["id"]) == ("7", record_id)
    admin.run(f"UPDATE parties SET deleted_at = NULL WHERE id = {soft}")
    admin.wait_for_tailer()
    [change] = (await line.pull(page["current_version"]))["changes"]
    assert (change["operation"], change["record_id"], change["data"]["deleted_at"]) == ("INSERT", soft, None)


async def test_a_row_that_moves_to_another_company_leaves_one_feed_and_enters_the_other(api: Api, admin: SqlClient) -> None:
    owner, (line, _) = await shop(api)
    stranger, (their, _) = await shop(api)
    party = admin.run(f"INSERT INTO parties (company_id, name) VALUES ({owner.company_id}, 'old name')")
    admin.wait_for_tailer()
    cursor, theirs = await drained(line), await drained(their)
    admin.run(f"UPDATE parties SET company_id = {stranger.company_id}, name = 'new name' WHERE id = {party}")
    admin.wait_for_tailer()
    left, entered = await line.pull(cursor), await their.pull(theirs)
    [old], [new] = left["changes"], entered["changes"]
    assert (old["operation"], old["record_id"], old["data"]["name"]) == ("DELETE", party, "old name")
    assert old["data"]["deleted_at"] is not None and old["data"]["company_id"] == owner.company_id
    assert (new["operation"], new["record_id"], new["data"]["name"]) == ("INSERT", party, "new name")
    assert old["tx"] == new["tx"] and "new name" not in json.dumps(left) and "old name" not in json.dumps(entered)
    for kept in (await line.pull(cursor, history=True), await their.pull(theirs, history=True)):
        assert len(kept["changes"]) == 1


async def test_an_echo_comes_back_and_no_echo_leaves_out_only_what_is_exactly_as_sent(api: Api, admin: SqlClient) -> None:
    _owner, (line, other) = await shop(api)
    cursor = await drained(line)
    exact = {"name": "Exact", "abbrev": "x"}
    answer = await line.push(
        insert("units_of_measure", "e", **exact),
        insert("parties", "a", name="gets defaults"),
        insert("item_categories", "c", name="C"),
    )
    ids = answer["id_mappings"]
    echo = newest((await line.pull(cursor))["changes"])
    assert {key[1] for key in echo} == set(ids.values())
    quiet = newest((await line.pull(cursor, no_echo=True))["changes"])
    assert set(quiet) == {("parties", ids["a"])}, "absent is NULL, and defaults are the server's"
    others = newest((await other.pull_all(no_echo=True))[0])
    assert set(echo) <= set(others)
    await other.push(update("units_of_measure", ids["e"], abbrev="y"))
    after = newest((await line.pull(cursor, no_echo=True))["changes"])
    assert after["units_of_measure", ids["e"]]["data"]["abbrev"] == "y"


async def test_a_cursor_beyond_the_head_is_410_epoch(api: Api) -> None:
    _, (line, _) = await shop(api)
    head = (await line.pull(0))["head_version"]
    for cursor in (head + 1_000_000, pack(1, 0), 2**53 - 1):
        with pytest.raises(Refused) as refused:
            await line.pull(cursor)
        body = refused.value.body
        assert (refused.value.status, body["code"], body["reason"], body["success"]) == (410, "reset_required", "epoch", False)


async def test_a_cursor_below_the_history_is_410_retention_unless_it_began_from_0_there(stack: Stack) -> None:
    with stack.database() as database, SqlClient(database.settings) as sql:
        tail = stack.spawn("tail", environ=database.environ)
        async with open_api(database) as api:
            owner, (line, other) = await shop(api)
            for number in range(20):
                sql.run(f"INSERT INTO parties (company_id, name) VALUES ({owner.company_id}, '{number}')")
            sql.wait_for_tailer()
            early = await line.pull(0, limit=3)
            tail.stop()
            sql.run("UPDATE sync_state SET min_version = 12")
            with pytest.raises(Refused) as refused:
                await line.pull(early["current_version"])
            assert (refused.value.status, refused.value.body["reason"]) == (410, "retention")
            changes, _ = await line.pull_all(0, limit=3)
            assert len({c["record_id"] for c in changes if c["table"] == "parties"}) == 20, "live rows are never pruned"
            changes, _ = await other.pull_all(0, limit=2)
            assert len({c["record_id"] for c in changes if c["table"] == "parties"}) == 20


async def test_a_cursor_of_an_older_epoch_is_good_up_to_its_fork(stack: Stack) -> None:
    with stack.database() as database, SqlClient(database.settings) as sql:
        tail = stack.spawn("tail", environ=database.environ)
        async with open_api(database) as api:
            owner, (line, other) = await shop(api)
            for number in range(10):
                sql.run(f"INSERT INTO parties (company_id, name) VALUES ({owner.company_id}, '{number}')")
            head = sql.wait_for_tailer()
            await line.pull_all()
            tail.stop()
            sql.run(
                f"INSERT INTO sync_epochs (epoch, fork, reason) VALUES (1, {head - 4}, 'test')",
                f"UPDATE sync_state SET epoch = 1, head = {pack(1, 50)}",
            )
            page = await line.pull(head - 4)
            assert page["epoch"] == 1 and page["head_version"] == pack(1, 50) < 2**53
            for cursor in (head - 3, head, head + 10):
                with pytest.raises(Refused) as refused:
                    await other.pull(cursor)
                assert refused.value.body["reason"] == "epoch", "however far the new epoch has counted"


async def test_status_says_where_a_device_stands(api: Api, admin: SqlClient) -> None:
    _owner, (line, other) = await shop(api)
    await other.push(insert("parties", "a", name="Ann"))
    never = await line.status()
    assert (never["last_sync_version"], never["is_synced"], never["last_sync_at"]) == (0, False, None)
    assert never["pending_changes"] == 3 and never["device_id"] == line.device_id
    cursor = await drained(line)
    here = await line.status()
    assert (here["last_sync_version"], here["pending_changes"], here["is_synced"]) == (cursor, 0, True)
    assert here["last_sync_at"].endswith("Z") and here["current_version"] >= cursor and here["epoch"] == 0
    await line.push(insert("units_of_measure", "u", name="kg", abbrev="k"))
    assert (await line.status())["is_synced"] is True, "its own exact change is not pending"
    await other.push(insert("parties", "b", name="Bob"))
    late = await line.status()
    assert (late["pending_changes"], late["is_synced"]) == (1, False)
    assert set(late) >= {"head_version", "lag_ms", "min_version", "conflicts_open", "rejected", "server_time", "limits"}


async def test_pulls_of_many_devices_while_many_write_never_skip_a_change(api: Api, admin: SqlClient, shared: Database) -> None:
    owner, lines = await shop(api, 6)
    stop = asyncio.Event()

    async def write(number: int) -> None:
        with SqlClient(shared.settings) as sql:
            for count in range(40):
                await asyncio.to_thread(
                    sql.run, f"INSERT INTO parties (company_id, name) VALUES ({owner.company_id}, '{number}/{count}')"
                )

    async def read(line: Any) -> set[int]:
        seen: set[int] = set()
        cursor = 0
        while True:
            is_last = stop.is_set()
            page = await line.pull(cursor, tables=["parties"], limit=7)
            seen |= {change["record_id"] for change in page["changes"]}
            cursor = page["current_version"]
            if is_last and not page["has_more"]:
                return seen
            await asyncio.sleep(0.05)

    readers = [asyncio.create_task(read(line)) for line in lines]
    await asyncio.gather(*(write(number) for number in range(4)))
    await asyncio.to_thread(admin.wait_for_tailer)
    stop.set()
    wanted = set(Oracle(admin).table("parties", owner.company_id))
    assert len(wanted) == 160
    for seen in await asyncio.gather(*readers):
        assert seen == wanted
