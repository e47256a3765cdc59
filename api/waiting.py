"""Waits until the tailer has passed a transaction of ours. One question to MySQL serves all who wait in this worker.

A hint from the tailer that names the company makes it ask at once; without hints it asks at short intervals. What a hint says is
not believed, so a lost one costs time and nothing else. The same question brings what a push's answer has to know, as of that
moment.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass

from aiohttp import web

from api.db import Database
from api.heads import Head
from schema.errors import SyncError

POLL_SECONDS_MIN = 0.001
POLL_SECONDS_MAX = 0.02
ORIGINS_PER_QUERY_MAX = 500
_READ = """
SELECT t.origin_id, t.first_version, t.last_version, s.epoch, s.head, s.min_version, d.state, c.table_name, c.record_id, c.is_exact
FROM sync_tx t JOIN sync_state s ON s.id = 1 LEFT JOIN sync_origins o ON o.id = t.origin_id
LEFT JOIN sync_deliveries d FORCE INDEX (PRIMARY) ON d.company_id = o.company_id AND d.device_id = o.device_id
LEFT JOIN sync_changes c ON c.company_id = o.company_id AND c.version = t.first_version AND c.for_device IS NULL
WHERE t.origin_id IN ({marks})
"""
_HEAD = 4
"""Its place among the columns."""


@dataclass(frozen=True, slots=True)
class Made:
    """A change that a transaction of ours made; `is_exact`: its row is what the device of its origin sent."""

    table: str
    record_id: int
    version: int
    is_exact: bool


@dataclass(frozen=True, slots=True)
class Passed:
    """Where a transaction stands in the change log: its first version (None: it changed nothing synced), and the head after it.

    As of the moment it was asked: the head, what the device of its origin was given (`state`, None: nothing), and the change at
    its first version, None for a row that is for one device alone.
    """

    first_version: int | None
    head_after: int
    head: Head
    state: str | None
    first_made: Made | None


class Waiter:
    """Asks for the origins that are waited for until they are there or their time is over."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._waiting: dict[int, asyncio.Future[Passed]] = {}
        self._companies: dict[int, int] = {}
        self._asker: asyncio.Task[None] | None = None
        self._hint = asyncio.Event()
        self._has_hints = False

    async def wait(self, origin_id: int, seconds_max: float, *, company_id: int) -> Passed | None:
        """Return where a transaction of this company stands, None where the tailer has not passed it in time."""
        future: asyncio.Future[Passed] = asyncio.get_running_loop().create_future()
        self._waiting[origin_id] = future
        self._companies[origin_id] = company_id
        if self._asker is None or self._asker.done():
            self._asker = asyncio.create_task(self._ask())
        try:
            async with asyncio.timeout(seconds_max):
                return await future
        except TimeoutError:
            return None
        finally:
            self._waiting.pop(origin_id, None)
            self._companies.pop(origin_id, None)

    async def close(self) -> None:
        """End the asking; who still waits is told nothing."""
        if self._asker is not None:
            self._asker.cancel()

    def hinted(self, companies: Collection[int] | None) -> None:
        """The tailer has committed changes of these companies; None: perhaps of any."""
        self._has_hints = True
        if companies is None or not set(companies).isdisjoint(self._companies.values()):
            self._hint.set()

    async def _ask(self) -> None:
        first = pause = POLL_SECONDS_MAX if self._has_hints else POLL_SECONDS_MIN
        known = 0
        while self._waiting:
            newest = max(self._waiting)
            pause = first if newest > known else min(pause * 1.5, POLL_SECONDS_MAX)
            known = max(known, newest)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._hint.wait()
            self._hint.clear()
            origins = list(self._waiting)[:ORIGINS_PER_QUERY_MAX]
            if not origins:
                return
            try:
                async with self._database.read(first=True) as session:
                    rows = await session.fetch_all(_READ.format(marks=", ".join("%s" for _ in origins)), origins)
                    if rows:
                        session.confirm_head(rows[0][_HEAD])
            except SyncError:
                pause = POLL_SECONDS_MAX  # MySQL is away, or its past: the commit is made, the answer says pending
                continue
            for origin_id, *place in rows:
                future = self._waiting.pop(origin_id, None)
                if future is not None and not future.done():
                    future.set_result(_passed(*place))


def _passed(
    first_version: int | None,
    head_after: int,
    epoch: int,
    head: int,
    min_version: int,
    state: str | None,
    table: str | None,
    record_id: int | None,
    is_exact: int | None,
) -> Passed:
    made = None
    if first_version is not None and table is not None and record_id is not None:
        made = Made(table, record_id, first_version, bool(is_exact))
    return Passed(first_version, head_after, Head(epoch, head, min_version), state, made)


WAITER = web.AppKey("waiter", Waiter)
