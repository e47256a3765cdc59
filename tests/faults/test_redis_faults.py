"""Acknowledged: pushes. Redis: emptied, made to wait, full, or turned into a replica that takes no writes.

What must hold: it holds nothing that counts. Every push and pull is answered as before, no answer is a 5xx, and devices end equal
to the tables. Redis killed or stopped: `test_redis_gone.py`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from redis import Redis

from cli.embedded import RedisServer
from tests.api.tills import drained, open_api, shop
from tests.device import insert, update
from tests.faults.conftest import StartTail
from tests.oracle import Oracle
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

ANSWER_SECONDS_MAX = 3
FAULTS = {
    "emptied": ["FLUSHALL"],
    "waiting": ["CLIENT PAUSE 4000 ALL"],
    "full": ["CONFIG SET maxmemory-policy noeviction", "CONFIG SET maxmemory 1"],
    "a replica": ["REPLICAOF 127.0.0.1 1"],
}


@pytest.fixture(scope="module")
def redis(stack: Stack) -> Iterator[RedisServer]:
    """A Redis of this file's own."""
    with RedisServer(stack.directory / "faulty-redis") as server:
        yield server


@pytest.fixture(scope="module")
def database(stack: Stack) -> Iterator[Database]:
    """One for the file; each test has a company of its own."""
    with stack.database() as shared:
        yield shared


@pytest.mark.parametrize("fault", FAULTS)
async def test_sync_goes_on(database: Database, redis: RedisServer, sql: SqlClient, start_tail: StartTail, fault: str) -> None:
    tailer = start_tail(database, "--standby", REDIS_URL=redis.url)
    async with open_api(replace(database, settings=replace(database.settings, redis_url=redis.url))) as api:
        owner, (line, other) = await shop(api)
        made = (await line.push(insert("parties", "a", name="Ann")))["id_mappings"]["a"]
        cursor = await drained(other)
        with Redis.from_url(redis.url) as client:
            for command in FAULTS[fault]:
                client.execute_command(command)
        try:
            for number in range(4):
                started = time.monotonic()
                pushed = await line.push(update("parties", made, phone=str(number)))
                assert pushed["results"][0]["status"] == "applied"
                page = await other.pull(cursor)
                assert page["changes"][-1]["data"]["phone"] == str(number)
                cursor = page["current_version"]
                assert time.monotonic() - started < ANSWER_SECONDS_MAX
            assert (await api.login(owner.email)).token
        finally:
            with Redis.from_url(redis.url) as client:
                client.execute_command("CLIENT UNPAUSE")
                client.execute_command("CONFIG SET maxmemory 0")
                client.execute_command("REPLICAOF NO ONE")
        changes, _ = await other.pull_all(tables=["parties"])
        assert {change["record_id"]: change["data"] for change in changes} == Oracle(sql).table("parties", owner.company_id)
    assert tailer.is_running
    tailer.stop()
