"""The operator's part in the stories of rows that the binlog did not carry, and phones that look on."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from cli.embedded.process import Child
from tests.api.tills import open_api, shop
from tests.cli.commands import run, run_json
from tests.device import Device, Habit
from tests.oracle import Oracle, comparable_rows
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

HALTED = 3
WAIT_SECONDS = 60


@asynccontextmanager
async def phones(database: Database, *habits: Habit) -> AsyncIterator[tuple[int, list[Device]]]:
    """A company and its devices, each with nothing but its line."""
    async with open_api(database) as api:
        owner, lines = await shop(api, len(habits))
        yield owner.company_id, [Device(line, habit) for line, habit in zip(lines, habits, strict=True)]


def tail_past_halts(stack: Stack, database: Database, *codes: str) -> Child:
    """Start a tailer again and again, and skip what halts it, as the halts come: first a halt of each of these codes, then none."""
    with SqlClient(database.settings) as sql:
        for code in codes:
            child = stack.spawn("tail", environ=database.environ)
            wait_for_end(child)
            assert child.exit_code == HALTED, child.output()
            halt = json.loads(sql.value("SELECT details FROM sync_audit WHERE action = 'halted' ORDER BY id DESC LIMIT 1"))
            assert halt["code"] == code, halt
            assert "matrix-sync reconcile" in halt["hint"], halt
            (told,) = run_json(database, "checkpoint", "skip", "--gtid", halt["gtid"], "--reason", "a test's story", "--yes")
            assert told["skipped"] is True
        child = stack.spawn("tail", environ=database.environ)
        sql.wait_for_tailer(WAIT_SECONDS)
    return child


def wait_for_end(child: Child) -> None:
    """Wait for a child that ends by itself."""
    deadline = time.monotonic() + WAIT_SECONDS
    while child.is_running:
        assert time.monotonic() < deadline, child.output()
        time.sleep(0.05)


def differences(database: Database) -> list[tuple[str, str, int]]:
    """What `verify` names, as (kind, table, record); its exit code says the same."""
    result = run(database, "verify", "--json")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    found = [(line["kind"], line["table"], line["record_id"]) for line in lines if line["type"] == "difference"]
    assert result.exit_code == (3 if found else 0), result.output
    return sorted(found)


def reconciled(database: Database, *words: str) -> dict[str, Any]:
    """The counts of a run; after it nothing differs."""
    result = run(database, *(words or ("reconcile",)), "--json")
    assert result.exit_code == 0, result.output
    assert differences(database) == []
    counts: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return counts


async def assert_phones_hold_the_tables(devices: list[Device], sql: SqlClient, company: int) -> None:
    """After one more sync each device has what SELECT shows, and nothing else."""
    wanted = comparable_rows(Oracle(sql).rows(company))
    for device in devices:
        await device.sync()
        assert comparable_rows(device.held()) == wanted, device.habit
