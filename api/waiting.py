"""Waits until the tailer has passed a transaction of ours. One question to MySQL serves all who wait in this worker.

A hint from the tailer makes it ask at once; without hints it asks at short intervals. What a hint says is not believed, so a lost
one costs time and nothing else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from aiohttp import web

from api.db import Database
from schema.errors import SyncError

POLL_SECONDS_MIN = 0.001
POLL_SECONDS_HINTED = 0.005
POLL_SECONDS_MAX = 0.02
ORIGINS_PER_QUERY_MAX = 500
_READ = "SELECT origin_id, first_version, last_version FROM sync_tx WHERE origin_id IN ({marks})"


@dataclass(frozen=True, slots=True)
class Passed:
    """Where a transaction stands in the change log: its first version (None: it changed nothing synced), and the head after it."""

    first_version: int | None
    head_after: int


class Waiter:
    """Asks for the origins that are waited for until they are there or their time is over."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._waiting: dict[int, asyncio.Future[Passed]] = {}
        self._asker: asyncio.Task[None] | None = None
        self._hint = asyncio.Event()
        self._has_hints = False

    async def wait(self, origin_id: int, seconds_max: float) -> Passed | None:
        """Return where the transaction stands, None where the tailer has not passed it in time."""
        future: asyncio.Future[Passed] = asyncio.get_running_loop().create_future()
        self._waiting[origin_id] = future
        if self._asker is None or self._asker.done():
            self._asker = asyncio.create_task(self._ask())
        try:
            async with asyncio.timeout(seconds_max):
                return await future
        except TimeoutError:
            return None
        finally:
            self._waiting.pop(origin_id, None)

    async def close(self) -> None:
        """End the asking; who still waits is told nothing."""
        if self._asker is not None:
            self._asker.cancel()

    def hinted(self) -> None:
        """The tailer has committed something: ask now."""
        self._has_hints = True
        self._hint.set()

    async def _ask(self) -> None:
        first = pause = POLL_SECONDS_HINTED if self._has_hints else POLL_SECONDS_MIN
        known = 0
        self._hint.clear()  # an older hint is of what was there before
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
                async with self._database.read() as session:
                    rows = await session.fetch_all(_READ.format(marks=", ".join("%s" for _ in origins)), origins)
            except SyncError:
                pause = POLL_SECONDS_MAX  # MySQL is away: the commit is made, the answer says pending
                continue
            for origin_id, first_version, head_after in rows:
                future = self._waiting.pop(origin_id, None)
                if future is not None and not future.done():
                    future.set_result(Passed(first_version, head_after))


WAITER = web.AppKey("waiter", Waiter)
