"""`matrix-sync devices`: listing, narrowing, revoking and admitting devices, felt by the device within seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from tests.api.conftest import Api
from tests.api.tills import open_api, till
from tests.cli.commands import run, run_json
from tests.device import Line, Refused, insert
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

SECONDS_MAX = 5
T = TypeVar("T")


async def eventually(found: Callable[[], Awaitable[T | None]]) -> T:
    """What is found at last, within seconds."""
    async with asyncio.timeout(SECONDS_MAX):
        while True:
            value = await found()
            if value is not None:
                return value
            await asyncio.sleep(0.1)


async def refusal(line: Line) -> Refused | None:
    """What a pull is refused with."""
    try:
        await line.pull()
    except Refused as refused:
        return refused
    return None


async def pulls(line: Line) -> bool | None:
    """True where it may pull."""
    return True if await refusal(line) is None else None


async def page_when(line: Line, last_version: int, *, is_narrow: bool) -> dict[str, Any] | None:
    """A page once the device is narrowed, or no more."""
    page = await line.pull(last_version)
    return page if ("revoked" in page) is is_narrow else None


async def command(database: Database, *words: str) -> int:
    """A command beside the running application; its exit code."""
    return (await asyncio.to_thread(run, database, *words)).exit_code


async def _revoked_and_admitted(api: Api, database: Database, sql: SqlClient) -> None:
    owner = await api.register(device_id="phone")
    line = till(owner)
    line.device_id = "phone"
    await line.push(insert("parties", "a", name="Ann"))
    [listed] = await asyncio.to_thread(run_json, database, "devices", "list")
    assert (listed["device_id"], listed["email"], listed["document_codes"], listed["capabilities"]) == (
        "phone",
        owner.email,
        "B",
        {},
    )
    assert await command(database, "devices", "revoke", "phone") == 0
    refused = await eventually(lambda: refusal(line))
    assert (refused.status, refused.code, refused.body["wipe"]) == (401, "device_revoked", True)
    assert await command(database, "devices", "admit", "phone") == 0
    again = await api.login(owner.email, device_id="phone")
    line.token = again.token
    await eventually(lambda: pulls(line))
    assert [row[0] for row in sql.rows("SELECT action FROM sync_audit WHERE action LIKE 'device%%' ORDER BY id")] == [
        "device_revoked",
        "device_admitted",
    ]


async def test_a_lost_device_is_refused_within_seconds_and_told_to_wipe(stack: Stack, database: Database, sql: SqlClient) -> None:
    tailer = stack.spawn("tail", environ=database.environ)
    async with open_api(database) as api:
        await _revoked_and_admitted(api, database, sql)
    tailer.stop()


async def test_a_narrowed_device_reads_and_writes_only_what_is_left(stack: Stack, database: Database) -> None:
    tailer = stack.spawn("tail", environ=database.environ)
    async with open_api(database) as api:
        line = till(await api.register())
        await line.push(insert("parties", "a", name="Ann"), insert("products", "p", name="Tea"))
        words = ("devices", "narrow", line.device_id)
        assert await command(database, *words, "--tables", "products, item_categories", "--read-only") == 0
        page = await eventually(lambda: page_when(line, 0, is_narrow=True))
        assert {change["table"] for change in page["changes"]} == {"products"} and "parties" in page["revoked"]
        assert (await line.push_one(insert("products", "q", name="Milk")))["code"] == "forbidden"
        assert await command(database, *words, "--all") == 0
        whole = await eventually(lambda: page_when(line, page["current_version"], is_narrow=False))
        assert "parties" in {change["table"] for change in whole["changes"]}, "what it gains arrives whole"
    tailer.stop()


def test_bad_words_are_one_message(database: Database) -> None:
    unknown = run(database, "devices", "revoke", "nobody")
    assert unknown.exit_code == 1 and "there is no device nobody" in unknown.stderr
    assert run(database, "devices", "narrow", "nobody").exit_code == 2
    assert run(database, "devices", "narrow", "nobody", "--tables", "nowhere").exit_code == 2
    assert run(database, "devices", "narrow", "nobody", "--all", "--read-only").exit_code == 2
    assert "no devices" in run(database, "devices", "list").stdout
