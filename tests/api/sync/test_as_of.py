"""`?as_of=`: a company's rows as they were at a version or a time, for as long as history is kept."""

from __future__ import annotations

from typing import Any

import pytest

from cdc.retention import Cutoffs, Retention
from schema.connect import open_connection
from schema.values import rfc3339_from_us
from schema.versions import pack
from tests.api.conftest import Api, Person
from tests.api.rows import create_all, hire
from tests.api.tills import open_api
from tests.cli.commands import run, run_json
from tests.oracle import Oracle, Rows
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def listed(person: Person, table: str, as_of: int | str, **more: Any) -> dict[int, dict[str, Any]]:
    """All pages, by id."""
    rows: dict[int, dict[str, Any]] = {}
    after = 0
    while True:
        reply = await person.get(f"/api/{table}", params={"as_of": str(as_of), "after": str(after), **more})
        assert reply.status == 200, reply.body
        rows |= {row["id"]: row for row in reply.body["data"]}
        after = reply.body["next_after"]
        if not reply.body["has_more"]:
            return rows


async def refused(person: Person, as_of: str, **more: str) -> tuple[int, str]:
    reply = await person.get("/api/parties", params={"as_of": as_of, **more})
    return reply.status, reply.code


def life(admin: SqlClient, company: int) -> list[tuple[int, Rows]]:
    """Parties come, change, go and come back; the head after each step, and what there was."""
    oracle = Oracle(admin)
    steps = []
    ids = [admin.run(f"INSERT INTO parties (company_id, name) VALUES ({company}, '{name}')") for name in "abcde"]
    for statement in (
        "DO 0",
        f"UPDATE parties SET name = 'a2', phone = '1' WHERE id = {ids[0]}",
        f"UPDATE parties SET deleted_at = CURRENT_TIMESTAMP(6) WHERE id IN ({ids[1]}, {ids[2]})",
        f"DELETE FROM parties WHERE id = {ids[3]}",
        f"INSERT INTO parties (company_id, name) VALUES ({company}, 'f')",
        f"UPDATE parties SET deleted_at = NULL, name = 'b2' WHERE id = {ids[1]}",
        f"UPDATE parties SET name = 'a3' WHERE id = {ids[0]}",
    ):
        admin.run(statement)
        steps.append((admin.wait_for_tailer(), {"parties": oracle.table("parties", company)}))
    return steps


async def test_at_each_version_the_rows_are_what_they_were(api: Api, admin: SqlClient) -> None:
    owner, stranger = await api.register(), await api.register()
    steps = life(admin, owner.company_id)
    for version, rows in steps:
        assert await listed(owner, "parties", version) == rows["parties"]
        assert await listed(owner, "parties", version, limit="2") == rows["parties"], "page by page too"
    assert await listed(owner, "parties", 1) == {}
    assert await listed(stranger, "parties", steps[-1][0]) == {}
    reply = await owner.get("/api/parties", params={"as_of": str(steps[0][0])})
    assert reply.body["as_of"] == steps[0][0]
    deleted = await listed(owner, "parties", steps[3][0], include_deleted="1")
    assert sum(row["deleted_at"] is not None for row in deleted.values()) == 3, "removed by plain SQL is deleted too"


async def test_a_time_is_the_last_transaction_committed_by_then(api: Api, admin: SqlClient) -> None:
    owner = await api.register()
    steps = life(admin, owner.company_id)
    for version, rows in steps:
        at = admin.value("SELECT MAX(commit_time_us) FROM sync_tx WHERE last_version <= %s", version)
        assert await listed(owner, "parties", rfc3339_from_us(at)) == rows["parties"]
        assert await listed(owner, "parties", rfc3339_from_us(at).replace("Z", "+00:00")) == rows["parties"]
    assert await listed(owner, "parties", "2000-01-01T00:00:00Z") == {}
    assert await listed(owner, "parties", "2100-01-01T00:00:00Z") == steps[-1][1]["parties"]


async def test_one_record_as_it_was(api: Api, admin: SqlClient) -> None:
    owner = await api.register()
    steps = life(admin, owner.company_id)
    first, gone = sorted(steps[0][1]["parties"])[0], sorted(steps[0][1]["parties"])[3]
    reply = await owner.get(f"/api/parties/{first}", params={"as_of": str(steps[1][0])})
    assert reply.body["data"] == steps[1][1]["parties"][first]
    assert (reply.body["as_of"], reply.body["version"]) == (steps[1][0], steps[1][0])
    assert (await owner.get(f"/api/parties/{gone}", params={"as_of": str(steps[2][0])})).status == 200
    assert (await owner.get(f"/api/parties/{gone}", params={"as_of": str(steps[3][0])})).status == 404
    assert (await owner.get(f"/api/parties/{first}", params={"as_of": "1"})).status == 404
    shown = await owner.get(f"/api/parties/{gone}", params={"as_of": str(steps[3][0]), "include_deleted": "1"})
    assert shown.body["data"]["deleted_at"] is not None


async def test_filters_by_what_is_equal_everywhere(api: Api, admin: SqlClient) -> None:
    owner = await api.register()
    company = owner.company_id
    for number in range(6):
        admin.run(
            f"INSERT INTO products (company_id, name, sale_price, is_active) VALUES ({company}, 'p', {number % 3}, {number % 2})"
        )
    version = admin.wait_for_tailer()
    admin.run(f"UPDATE products SET is_active = 0, sale_price = 9 WHERE company_id = {company}")
    admin.wait_for_tailer()
    rows = await listed(owner, "products", version)
    active = await listed(owner, "products", version, is_active="true", limit="2")
    assert active == {key: row for key, row in rows.items() if row["is_active"]} and len(active) == 3
    assert len(await listed(owner, "products", version, sale_price="1", is_active="0")) == 1
    assert len(await listed(owner, "products", version, sku="null")) == 6
    reply = await owner.get("/api/products", params={"as_of": str(version), "name": "p"})
    assert (reply.status, reply.code, reply.body["details"]["name"]) == (400, "unknown_column", "name")


async def test_roles_see_of_the_past_what_they_see_of_the_present(api: Api, admin: SqlClient) -> None:
    owner = await api.register()
    await create_all(owner)
    sales = await hire(api, admin, owner, "sales")
    version = admin.wait_for_tailer()
    for table in ("payment_accounts", "users", "companies", "settings"):
        now = await owner.get(f"/api/{table}")
        assert list((await listed(owner, table, version)).values()) == now.body["data"]
    [account] = (await listed(sales, "payment_accounts", version)).values()
    assert "account_name" in account and "account_number" not in account
    assert (await listed(owner, "payment_accounts", version)).popitem()[1]["account_number"] == "123"
    for table in ("users", "accounts"):
        assert (await sales.get(f"/api/{table}", params={"as_of": str(version)})).status == 403
    assert "login_id" not in (await listed(owner, "users", version)).popitem()[1]


async def test_a_place_that_is_none_is_400(api: Api, admin: SqlClient) -> None:
    owner = await api.register()
    head = admin.wait_for_tailer()
    for place in ("0", "-1", "yesterday", "2026-13-01", str(head + 1_000_000), "9" * 20, str(pack(1, 2))):
        assert await refused(owner, place) == (400, "malformed"), place
    assert await refused(owner, str(head), colour="red") == (400, "unknown_column")


async def test_the_command_tells_the_same_and_masks_what_is_restricted(api: Api, admin: SqlClient, shared: Database) -> None:
    owner = await api.register()
    for version, rows in life(admin, owner.company_id)[1:4]:
        lines = run_json(shared, "rows", "--company", str(owner.company_id), "--as-of", str(version), "--table", "parties")
        assert {line["record_id"]: line["data"] for line in lines} == rows["parties"]
    await create_all(owner)
    words = ("rows", "--company", str(owner.company_id), "--as-of", str(admin.wait_for_tailer()), "--table", "payment_accounts")
    assert "account_number" not in run(shared, *words).stdout and "1 rows of payment_accounts" in run(shared, *words).stdout
    assert '"account_number": "123"' in run(shared, *words, "--sealed").stdout.replace('":"', '": "')
    for place in ("soon", "0", str(1 << 45)):
        result = run(shared, *words[:3], "--as-of", place, *words[5:])
        assert result.exit_code == 1 and place in result.stderr


async def test_before_the_floor_is_410_and_a_lost_past_too(stack: Stack) -> None:
    with stack.database() as database, SqlClient(database.settings) as sql:
        tail = stack.spawn("tail", environ=database.environ)
        async with open_api(database) as api:
            owner = await api.register()
            steps = life(sql, owner.company_id)
            tail.stop()
            floor, rows = steps[3]
            with open_connection(database.settings.tailer()) as connection:
                done = Retention(connection, Cutoffs(floor, floor))
                while done.step():
                    pass
            assert await listed(owner, "parties", floor) == rows["parties"]
            reply = await owner.get("/api/parties", params={"as_of": str(steps[1][0])})
            assert (reply.status, reply.code, reply.body["details"]["images_from"]) == (410, "retention", floor)
            result = run(database, "rows", "--company", "1", "--as-of", str(steps[1][0]), "--table", "parties")
            assert result.exit_code == 1 and f"history is kept from version {floor} on" in result.stderr
            sql.run(
                "INSERT INTO sync_epochs (epoch, fork, reason) SELECT 1, head - 1, 'test' FROM sync_state",
                "UPDATE sync_state SET epoch = 1, head = 1 << 40",
            )
            assert (await refused(owner, str(steps[-1][0])))[0] == 410
            assert await listed(owner, "parties", steps[-2][0]) == steps[-2][1]["parties"]
            result = run(database, "rows", "--company", "1", "--as-of", str(steps[-1][0]), "--table", "parties")
            assert result.exit_code == 1 and "belongs to a past that is gone" in result.stderr
