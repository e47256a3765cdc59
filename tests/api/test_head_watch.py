"""The watch that held pulls wait on: nothing that came in time is slept through, and nobody is counted for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import redis.asyncio

from api.cache import Cache
from api.db import Database
from api.head_watch import HeadWatch
from schema.hints import Hint, head_channel
from tests.servers import Database as Fresh
from tests.sql_client import SqlClient

SECONDS = 0.5
"""A wait that nothing ends; one that something ends is over much earlier."""


@asynccontextmanager
async def watching(database: Fresh, held_max: int = 2, redis_url: str = "") -> AsyncIterator[HeadWatch]:
    """A watch of its own, without hints unless it has a Redis."""
    db = Database(database.settings.api(), pool_size=2, wait_ms_max=1000)
    cache = Cache(redis_url, database=database.name, timeout_ms=1000)
    watch = HeadWatch(db, cache, held_max=held_max, on_hint=lambda _: None)
    if redis_url:
        watch.start()
    try:
        yield watch
    finally:
        await watch.close()
        await cache.close()
        await db.close()


class Hinter:
    """The tailer's part of Redis."""

    def __init__(self, url: str, database: str) -> None:
        self._redis = redis.asyncio.Redis.from_url(url)
        self._channel = head_channel(database)

    async def __call__(self, before: int, head: int, *companies: int) -> None:
        """A hint as the tailer gives it."""
        await self.raw(Hint(before, head, companies).encoded())

    async def raw(self, message: bytes) -> None:
        for _ in range(500):  # until the watch listens
            if await self._redis.publish(self._channel, message):
                return
            await asyncio.sleep(0.01)
        raise TimeoutError("nobody listens")

    async def close(self) -> None:
        await self._redis.aclose()


@asynccontextmanager
async def hinted(
    database: Fresh, sql: SqlClient, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[HeadWatch, Hinter, asyncio.Task[bool]]]:
    """A watch that asks nothing by itself, who gives it hints, and company 1, which waits at head 5, the last one hinted."""
    monkeypatch.setattr("api.head_watch.POLL_SECONDS", 60)
    sql.run("UPDATE sync_state SET head = 5")
    hinter = Hinter(database.settings.redis_url, database.name)
    async with watching(database, redis_url=database.settings.redis_url) as watch:
        await hinter(4, 5, 3)
        waiting = asyncio.create_task(watch.wait(1, 5, 20))
        await asyncio.sleep(0.3)
        yield watch, hinter, waiting
        waiting.cancel()
    await hinter.close()


def move(sql: SqlClient, version: int, company: int) -> None:
    """A change of a company becomes the head."""
    sql.rows(
        "INSERT INTO sync_changes (company_id, version, table_name, record_id, operation, data, timestamp, tx, origin, chain) "
        "VALUES (%s, %s, 'parties', 1, 'UPDATE', '{}', '', 1, 'external', REPEAT('x', 32))",
        company,
        version,
    )
    sql.rows("UPDATE sync_state SET head = %s", version)


async def test_what_came_between_the_page_and_the_wait_ends_it_at_once(database: Fresh, sql: SqlClient) -> None:
    """Company 2 read its page at head 5. The watch, which company 1 keeps going, passed its change before it began to wait."""
    sql.run("UPDATE sync_state SET head = 5")
    async with watching(database) as watch:
        first = asyncio.create_task(watch.wait(1, 5, 20))
        await asyncio.sleep(0.1)
        move(sql, 6, company=2)
        await asyncio.sleep(0.3)
        assert not first.done(), "nothing of company 1"
        assert await watch.wait(2, 5, SECONDS) is True
        assert await watch.wait(2, 6, SECONDS) is False, "it has seen that one"
        first.cancel()


async def test_who_looked_before_the_watch_began_looks_again(database: Fresh, sql: SqlClient) -> None:
    """A slow page of head 4 comes to wait at a watch that began at 5: whose change 5 was it never asked."""
    sql.run("UPDATE sync_state SET head = 4")
    move(sql, 5, company=2)
    async with watching(database) as watch:
        first = asyncio.create_task(watch.wait(1, 5, 20))
        await asyncio.sleep(0.1)
        assert await watch.wait(2, 4, SECONDS) is True
        first.cancel()


async def test_the_changes_of_others_wake_nobody_however_many(database: Fresh, sql: SqlClient) -> None:
    sql.run("UPDATE sync_state SET head = 5")
    async with watching(database) as watch:
        first, second = (asyncio.create_task(watch.wait(company, 5, 20)) for company in (1, 2))
        await asyncio.sleep(0.1)
        for version in range(6, 40):
            move(sql, version, company=3)
        await asyncio.sleep(0.1)
        assert not first.done() and not second.done()
        move(sql, 2**20, company=1)
        assert await first is True
        assert not second.done()
        second.cancel()


async def test_a_head_below_what_was_seen_wakes_everybody(database: Fresh, sql: SqlClient) -> None:
    """MySQL's past was replaced: whoever waits finds out by asking."""
    sql.run("UPDATE sync_state SET head = 5")
    async with watching(database) as watch:
        waiting = asyncio.create_task(watch.wait(1, 5, 20))
        await asyncio.sleep(0.1)
        sql.run("UPDATE sync_state SET head = 4")
        assert await asyncio.wait_for(waiting, 5) is True


async def test_a_hint_wakes_those_whose_company_it_names(database: Fresh, sql: SqlClient, monkeypatch: pytest.MonkeyPatch) -> None:
    async with hinted(database, sql, monkeypatch) as (watch, hint, first):
        second = asyncio.create_task(watch.wait(2, 5, 20))
        await asyncio.sleep(0.1)
        await hint(5, 6, 1)
        assert await asyncio.wait_for(first, 5) is True
        assert not second.done()
        second.cancel()


async def test_a_hint_that_came_before_the_wait_ends_it(database: Fresh, sql: SqlClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page was read at head 5; the change and its hint came between the page and the wait."""
    async with hinted(database, sql, monkeypatch) as (watch, hint, _):
        move(sql, 6, company=2)
        await hint(5, 6, 2)
        await asyncio.sleep(0.01)
        assert await asyncio.wait_for(watch.wait(2, 5, 20), 5) is True


async def test_after_a_hint_that_does_not_follow_on_the_watch_asks(
    database: Fresh, sql: SqlClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hint for company 1 was lost; the next one is of another company."""
    async with hinted(database, sql, monkeypatch) as (_, hint, waiting):
        move(sql, 6, company=1)
        move(sql, 7, company=3)
        await hint(6, 7, 3)
        assert await asyncio.wait_for(waiting, 5) is True


async def test_hints_of_what_is_not_there_wake_nobody_for_long(
    database: Fresh, sql: SqlClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hinted(database, sql, monkeypatch) as (watch, hint, waiting):
        for text in (b"", b"[]", b'{"from": "x"}', b'{"from":1,"to":2}', b"\xff"):
            await hint.raw(text)
        await asyncio.sleep(0.3)
        assert not waiting.done()
        waiting.cancel()
        await hint(5, 2**60, 1)
        await asyncio.sleep(0.1)
        assert await watch.wait(1, 5, SECONDS) is False, "it looks, and waits"


async def test_who_waited_may_wait_again(database: Fresh) -> None:
    async with watching(database, held_max=1) as watch:
        for _ in range(3):
            with watch.held(1, "till") as may_wait:
                assert may_wait
                with watch.held(1, "till") as second, watch.held(1, "other till") as other:
                    assert (second, other) == (False, True)
