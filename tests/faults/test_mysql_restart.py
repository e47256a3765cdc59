"""Acknowledged: rows whose COMMIT was answered. Killed or stopped: MySQL itself, under load.

What must hold: the tailer comes back by itself, and every acknowledged row is in the log exactly once.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pymysql
import pytest

from cli.embedded import MySQLServer
from tests.api.tills import open_api, shop
from tests.device import Refused, insert
from tests.oracle import Oracle
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

CATCH_UP_SECONDS = 90
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""PyMySQL leaves the unix socket open for the garbage collector where nobody listens at it."""


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """What PyMySQL left behind is collected here and not in somebody else's test."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def server(stack: Stack) -> Iterator[MySQLServer]:
    """A MySQL of this file's own."""
    with stack.private_mysql("restarting") as mysql:
        yield mysql


@pytest.mark.parametrize("is_killed", [False, True], ids=["an orderly restart", "kill -9"])
def test_the_tailer_follows_again_and_every_acknowledged_row_is_there_once(
    stack: Stack, server: MySQLServer, is_killed: bool
) -> None:
    with stack.database(server) as database:
        child = stack.spawn("tail", environ=database.environ)
        with SqlClient(database.settings) as sql:
            company = sql.company()
            sql.wait_for_tailer(CATCH_UP_SECONDS)
        acknowledged: set[str] = set()
        stop = threading.Event()
        writer = threading.Thread(target=_write, args=(database, company, acknowledged, stop))
        writer.start()
        for _ in range(2 if is_killed else 1):
            time.sleep(1)
            server.kill() if is_killed else server.stop()
            if is_killed:
                server.stop()
            server.start()
        time.sleep(0.5)
        stop.set()
        writer.join()
        with SqlClient(database.settings) as sql:
            sql.wait_for_tailer(CATCH_UP_SECONDS)
            names = [row[0] for row in sql.rows("SELECT data->>'$.name' FROM sync_changes WHERE table_name = 'parties'")]
            head = sql.value("SELECT head FROM sync_state")
            counted = sql.rows("SELECT MIN(version), MAX(version), COUNT(*) FROM sync_changes")
            stored = {row["name"] for row in Oracle(sql).table("parties", company).values()}
        assert len(acknowledged) > 10 and acknowledged <= set(names)
        assert len(names) == len(set(names)) and set(names) == stored
        assert counted == [(2, head, head - 1)]
        assert child.is_running, child.last_lines()
        child.stop()


def _write(database: Database, company: int, acknowledged: set[str], stop: threading.Event) -> None:
    number = 0
    while not stop.is_set():
        with suppress(pymysql.err.MySQLError, OSError), SqlClient(database.settings) as sql:
            while not stop.is_set():
                number += 1
                sql.run(f"INSERT INTO parties (company_id, name) VALUES ({company}, 'n{number}')")
                acknowledged.add(f"n{number}")
        time.sleep(0.02)


async def test_pushes_over_a_restart_are_refused_or_stored_and_never_doubled(stack: Stack, server: MySQLServer) -> None:
    with stack.database(server) as database:
        child = stack.spawn("tail", environ=database.environ)
        async with open_api(database) as api:
            owner, (line, other) = await shop(api)
            await line.push(insert("parties", "before", name="before"))
            server.kill()
            for path in ("/api/sync/push", "/api/sync/pull"):
                body = {"device_id": line.device_id, "last_version": 0, "changes": [insert("parties", "during", name="during")]}
                with pytest.raises(Refused) as refused:
                    await line.ask(path, body)
                assert refused.value.status == 503 and refused.value.body["code"], "announced, never a 500"
            server.stop()
            server.start()
            answer = await _until_served(line)
            again = await line.push(insert("parties", "before", name="before"), insert("parties", "during", name="during"))
            assert answer["id_mappings"].keys() == {"during"}
            assert [result["status"] for result in again["results"]] == ["duplicate", "duplicate"]
            with SqlClient(database.settings) as sql:
                sql.wait_for_tailer(CATCH_UP_SECONDS)
                rows = Oracle(sql).table("parties", owner.company_id)
            changes, _ = await other.pull_all(tables=["parties"])
            assert {c["record_id"]: c["data"] for c in changes} == rows and len(rows) == 2
        child.stop()


async def _until_served(line: object) -> dict[str, dict[str, int]]:
    deadline = time.monotonic() + CATCH_UP_SECONDS
    while True:
        try:
            answer: dict[str, dict[str, int]] = await line.push(insert("parties", "during", name="during"))  # type: ignore[attr-defined]
        except Refused as refused:
            assert refused.status == 503 and time.monotonic() < deadline
        else:
            return answer
