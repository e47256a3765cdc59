"""The watch that held pulls wait on: nothing that came in time is slept through, and nobody is counted for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from api.cache import Cache
from api.db import Database
from api.head_watch import HeadWatch
from tests.servers import Database as Fresh
from tests.sql_client import SqlClient

SECONDS = 0.5
"""A wait that nothing ends; one that something ends is over much earlier."""


@asynccontextmanager
async def watching(database: Fresh, held_max: int = 2) -> AsyncIterator[HeadWatch]:
    """A watch of its own, without hints."""
    db = Database(database.settings.api(), pool_size=2, wait_ms_max=1000)
    watch = HeadWatch(db, Cache("", database=database.name, timeout_ms=100), held_max=held_max, on_hint=lambda: None)
    try:
        yield watch
    finally:
        await watch.close()
        await db.close()


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


async def test_who_waited_may_wait_again(database: Fresh) -> None:
    async with watching(database, held_max=1) as watch:
        for _ in range(3):
            with watch.held(1, "till") as may_wait:
                assert may_wait
                with watch.held(1, "till") as second, watch.held(1, "other till") as other:
                    assert (second, other) == (False, True)
