"""Gone: Redis. What must hold: everything is as before, only slower; no answer is a 5xx, nothing is lost, and it is used again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cli.embedded import RedisServer
from tests.api.tills import drained, open_api, shop, till
from tests.device import Refused, insert, update
from tests.oracle import Oracle
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

ANSWER_SECONDS_MAX = 3


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own."""
    with RedisServer(tmp_path / "redis") as server:
        yield server


@pytest.mark.parametrize("how", ["killed", "paused"])
async def test_sync_goes_on_without_redis(stack: Stack, database: Database, redis: RedisServer, how: str, sql: SqlClient) -> None:
    child = stack.spawn("tail", environ={**database.environ, "REDIS_URL": redis.url})
    with_redis = replace(database, settings=replace(database.settings, redis_url=redis.url))
    async with open_api(with_redis) as api:
        owner, (line, other) = await shop(api)
        made = (await line.push(insert("parties", "a", name="Ann")))["id_mappings"]["a"]
        cursor = await drained(other)
        redis.kill() if how == "killed" else redis.pause()
        for number in range(5):
            started = time.monotonic()
            pushed = await line.push(update("parties", made, phone=str(number)))
            assert pushed["results"][0]["status"] == "applied" and pushed["pending"] is False
            page = await other.pull(cursor)
            assert page["changes"][-1]["data"]["phone"] == str(number)
            cursor = page["current_version"]
            assert time.monotonic() - started < ANSWER_SECONDS_MAX
        assert (await other.status())["is_synced"] is True
        again = await api.login(owner.email)
        assert (await till(again).pull(0))["success"] is True
        await again.post("/api/auth/logout")
        with pytest.raises(Refused) as refused:
            for _ in range(60):
                await till(again).pull(0)
                await asyncio.sleep(0.1)
        assert refused.value.status == 401, "a revocation needs no Redis, only a few seconds"
        if how == "killed":
            redis.stop()
            redis.start()
        else:
            redis.resume()
        answer = await line.push(insert("parties", "b", name="Bob"))
        assert answer["results"][0]["status"] == "applied"
        changes, _ = await other.pull_all(tables=["parties"])
        assert {c["record_id"]: c["data"] for c in changes} == Oracle(sql).table("parties", owner.company_id)
    child.stop()
    assert child.exit_code == 0, child.last_lines()
