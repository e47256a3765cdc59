"""`matrix-sync conflicts`: list, show and resolve what devices pushed in vain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from tests.api.tills import drained, open_api, shop
from tests.cli.commands import run, run_json
from tests.device import insert, update
from tests.servers import Database, Stack
from tests.sql_client import SqlClient


@dataclass
class Clash:
    """An open conflict: the account's id, and the conflict's."""

    record_id: int
    conflict_id: int


@pytest.fixture
async def clash(stack: Stack, database: Database) -> AsyncIterator[Clash]:
    """Two devices edited one account; the second one was refused."""
    tailer = stack.spawn("tail", environ=database.environ)
    async with open_api(database) as api:
        _, (one, other) = await shop(api)
        record_id = (await one.push(insert("accounts", "a", name="Cash", account_type="asset")))["id_mappings"]["a"]
        await drained(other)
        await one.push_one(update("accounts", record_id, name="Till"))
        refused = await other.push(update("accounts", record_id, name="Drawer"))
        yield Clash(record_id, refused["conflicts"][0]["conflict_id"])
    tailer.stop()


async def test_an_open_conflict_is_listed_shown_and_resolved_once(clash: Clash, database: Database, sql: SqlClient) -> None:
    [listed] = run_json(database, "conflicts", "list")
    assert (listed["id"], listed["table_name"], listed["record_id"]) == (clash.conflict_id, "accounts", clash.record_id)
    assert str(clash.conflict_id) in run(database, "conflicts", "list").stdout
    shown = run(database, "conflicts", "show", str(clash.conflict_id)).stdout
    assert '"Cash" → "Drawer"' in shown and '"Cash" → "Till"' in shown
    [planned] = run_json(database, "conflicts", "resolve", str(clash.conflict_id), "--choice", "client", "--dry-run")
    assert planned["would_write"] == {"name": "Drawer"} and len(run_json(database, "conflicts", "list")) == 1


def test_resolving_writes_the_row_with_an_origin_and_later_ones_are_told(clash: Clash, database: Database, sql: SqlClient) -> None:
    words = ("conflicts", "resolve", str(clash.conflict_id), "--choice")
    [first] = run_json(database, *words, "client")
    [later] = run_json(database, *words, "server")
    assert (first["already_resolved"], later["already_resolved"], later["resolution"]) == (False, True, "client")
    assert sql.value("SELECT name FROM accounts WHERE id = %s", clash.record_id) == "Drawer"
    sql.wait_for_tailer()
    [newest] = sql.rows("SELECT origin FROM sync_changes WHERE record_id = %s ORDER BY version DESC LIMIT 1", clash.record_id)
    assert newest == ("system",)
    assert run_json(database, "conflicts", "list") == [] and len(run_json(database, "conflicts", "list", "--resolved")) == 1


def test_an_unknown_conflict_is_one_message(database: Database) -> None:
    result = run(database, "conflicts", "show", "77")
    assert result.exit_code == 1 and "there is no conflict 77" in result.stderr


async def test_what_was_rejected_is_listed_with_its_code(stack: Stack, database: Database) -> None:
    async with open_api(database, push_wait_ms_max=0) as api:
        owner, (one, _) = await shop(api)
        await one.push(insert("nowhere", "n", name="x"))
        company = ("--company", str(owner.company_id))
    [row] = await asyncio.to_thread(run_json, database, "conflicts", "rejected", *company)
    assert (row["device_id"], row["table"], row["code"], row["data"]["name"]) == (one.device_id, "nowhere", "unknown_table", "x")
    assert "unknown_table" in (await asyncio.to_thread(run, database, "conflicts", "rejected", *company)).stdout
