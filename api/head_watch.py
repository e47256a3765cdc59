"""Holds a pull until its company has something new (contract §2.8). One question to MySQL serves all who wait in this worker.

A hint from the tailer through Redis wakes those whose company it names; where hints may have been missed, and at intervals while
somebody waits, the watch asks. What a hint says is not believed: who is woken looks, so a lost or a false one costs time and
nothing else.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress

from aiohttp import web

from api.cache import Cache
from api.db import Database
from api.newest import read_newest
from schema.errors import SyncError
from schema.hints import Hint, decoded_hint

POLL_SECONDS = 0.1
POLL_SECONDS_WITHOUT_HINTS = 0.01
PAUSE_SECONDS_MIN = 0.002
"""Between two questions, so that many who come with an older head do not become as many queries."""
COMPANIES_MAX = 10_000
HEAD_CHANNEL = "head"
_READ_HEAD = "SELECT head FROM sync_state WHERE id = 1"


class HeadWatch:
    """Who waits, by company, each with the head that it has seen; `_head` is the one that they were last looked at for.

    `_is_complete`: nobody waits for whom that look was too early, for they came with an older head, or a hint came before them.
    `_hints` has each company's last one of those that followed one on the other since `_hints_since`.
    """

    def __init__(
        self, database: Database, cache: Cache, *, held_max: int, on_hint: Callable[[Collection[int] | None], None]
    ) -> None:
        self._on_hint = on_hint
        self._held_max = held_max
        self._held: dict[tuple[int, str], int] = {}
        self._database = database
        self._cache = cache
        self._waiting: dict[int, dict[asyncio.Future[None], int]] = defaultdict(dict)
        self._head = 0
        self._is_complete = True
        self._hints: dict[int, int] = {}
        self._hints_since = self._hints_to = 0
        self._hinted = asyncio.Event()
        self._has_hints = False
        self._listener: asyncio.Task[None] | None = None
        self._watcher: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Listen to hints."""
        self._listener = asyncio.create_task(self._listen())

    def wake_all(self) -> None:
        """Let everybody look: the worker is told to stop."""
        for futures in self._waiting.values():
            for future in futures:
                if not future.done():
                    future.set_result(None)

    def hinted_head(self, company_id: int) -> int:
        """The head of the last hint that told of this company, 0 where none is known."""
        return self._hints.get(company_id, 0)

    async def close(self) -> None:
        """End the watch."""
        for task in (self._listener, self._watcher):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    @contextmanager
    def held(self, company_id: int, device_id: str) -> Iterator[bool]:
        """Count a request that waits; False where the device has as many already, and this one is to be answered at once."""
        key = (company_id, device_id)
        count = self._held.get(key, 0)
        if count >= self._held_max:
            yield False
            return
        self._held[key] = count + 1
        try:
            yield True
        finally:
            self._held[key] -= 1
            if not self._held[key]:
                del self._held[key]

    async def wait(self, company_id: int, head: int, seconds_max: float) -> bool:
        """Tell within this long whether the company may have a change above `head`, the newest version the caller looked at."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[company_id][future] = head
        is_looked_at = head >= max(self._head, self._hints_since, self._hints.get(company_id, 0))
        self._is_complete = self._is_complete and is_looked_at
        if self._watcher is None or self._watcher.done():
            self._watcher = asyncio.create_task(self._watch())
        elif not self._is_complete:
            self._hinted.set()
        try:
            async with asyncio.timeout(seconds_max):
                await future
            return True
        except TimeoutError:
            return False
        finally:
            self._waiting[company_id].pop(future, None)
            if not self._waiting[company_id]:
                del self._waiting[company_id]

    async def _watch(self) -> None:
        while self._waiting:
            with suppress(SyncError):  # MySQL is away: the waiting pulls find out by themselves
                await self._look()
            if not self._waiting:
                return
            await asyncio.sleep(PAUSE_SECONDS_MIN)
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS if self._has_hints else POLL_SECONDS_WITHOUT_HINTS):
                    await self._hinted.wait()
            self._hinted.clear()

    async def _look(self) -> None:
        async with self._database.read() as session:
            row = await session.fetch_one(_READ_HEAD)
            head = row[0] if row else 0
            if head == self._head and self._is_complete:
                return
            self._head, self._is_complete = head, True  # who comes while this is read and has seen less asks for another look
            newest = await read_newest(session, list(self._waiting), head)
        for company_id, version in newest.items():
            for future, seen in self._waiting.get(company_id, {}).items():
                if (version > seen or head < seen) and not future.done():
                    future.set_result(None)

    async def _listen(self) -> None:
        async for message in self._cache.subscribe(HEAD_CHANNEL):
            self._has_hints = True
            hint = decoded_hint(message) if message is not None else None
            if hint is None or hint.before != self._hints_to or len(self._hints) > COMPANIES_MAX:
                self._hints.clear()  # some may have been missed
                self._hints_since = hint.head if hint is not None else self._hints_to
                self._is_complete = False
                self._hinted.set()
            if message is not None:
                self._on_hint(hint.companies if hint is not None else None)
            if hint is not None:
                self._take(hint)

    def _take(self, hint: Hint) -> None:
        """Wake those who have not seen what it tells of."""
        self._hints_to = hint.head
        for company_id in hint.companies:
            self._hints[company_id] = hint.head
            for future, seen in self._waiting.get(company_id, {}).items():
                if hint.head > seen and not future.done():
                    future.set_result(None)


HEADS = web.AppKey("heads", HeadWatch)
