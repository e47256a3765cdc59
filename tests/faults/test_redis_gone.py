"""Redis holds hints, limits and caches: killed in the middle, everything is slower and nothing is different, never a 5xx."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from cli.embedded import RedisServer
from tests.api.tills import open_api, shop
from tests.device import insert
from tests.servers import Stack


async def test_redis_killed_between_push_and_pull_changes_no_answer(stack: Stack, tmp_path: Path) -> None:
    """Acknowledged: pushes before and after. Killed: Redis. Must hold: every row arrives on the other device, no answer fails."""
    with RedisServer(tmp_path / "redis") as redis, stack.database() as database:
        settings = dataclasses.replace(database.settings, redis_url=redis.url)
        here = dataclasses.replace(database, settings=settings, environ={**database.environ, "REDIS_URL": redis.url})
        tail = stack.spawn("tail", environ=here.environ)
        async with open_api(here) as api:
            _, (one, other) = await shop(api)
            cursor = (await other.pull_all())[1]
            for number in range(6):
                if number == 2:
                    redis.kill()
                answer = await one.push(insert("products", number, name=f"Tea {number}"))
                assert answer["results"][0]["status"] == "applied" and answer["pending"] is False
                changes, cursor = await other.pull_all(cursor)
                assert [change["data"]["name"] for change in changes] == [f"Tea {number}"]
            assert (await api.register()).token, "signing in works too"
        tail.stop()
