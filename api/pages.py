"""Pages that many devices ask for, read once: a full page may be served again as it was, since newer states follow later.

A page is kept with the head it was read at, and served to whoever asks for the very same one, while it holds:
- one that ends at that head: as long as the company has no change above it;
- never to somebody who stood before history was pruned that the page lacks, or after history was pruned that it does not know of;
- from 0 on, tombstones of records that a beginner never had are left out, so a beginner's first page tells when it began: at the
  head it was read at. `fresh_head` is part of what is asked for, and a page for it was never read before that head.
What is for one device alone (redeliveries, `no_echo`) is not in here, and a device with redeliveries does not ask here.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

import msgspec
from aiohttp import web
from msgspec.structs import replace

from api.db import Database
from api.feed import Page, PageRequest, read_page
from api.heads import Head
from api.recent import Recent

SECONDS_MAX = 30.0
"""How old a page may be: older ones are still right, but more and more of their rows come again later."""
ROW_BYTES = 400
"""What a kept row takes in memory beside its JSON."""
BEGINNER = -1


class Key(msgspec.Struct, frozen=True):
    """The same page, byte for byte."""

    epoch: int
    company_id: int
    tables: tuple[str, ...] | None
    is_restricted: bool
    after: int
    fresh_head: int
    limit: int


class SharedPage(msgspec.Struct, frozen=True):
    """A page, its changes as JSON, and the head it was read at."""

    page: Page
    changes: bytes
    read_at: Head
    until: float = 0.0

    def holds(self, newest: int, head: Head, now: float) -> bool:
        """Whether it may be given to one who stands at `head`, in a company whose newest change is `newest`."""
        is_of_one_past = self.read_at.min_version <= head.min_version <= self.read_at.version <= head.version
        return is_of_one_past and now <= self.until and (self.page.has_more or newest <= self.read_at.version)

    @property
    def bytes(self) -> int:
        """What it takes in memory, about."""
        return 2 * len(self.changes) + ROW_BYTES * len(self.page.rows)


Encode = Callable[[Page], bytes]


class Pages:
    """The most recently used pages of a worker, at most `bytes_max` of them."""

    def __init__(self, feed: Database, recent: Recent, *, bytes_max: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._feed = feed
        self._recent = recent
        self._bytes_max = bytes_max
        self._clock = clock
        self._kept: OrderedDict[Key, SharedPage] = OrderedDict()
        self._bytes = 0
        self._reading: dict[Key, asyncio.Task[SharedPage]] = {}

    async def read(self, wanted: PageRequest, newest: int, encode: Encode, *, is_restricted: bool, is_beginner: bool) -> SharedPage:
        """Return the page. Who asks for one that is being read waits for it. Raises what `read_page` raises.

        The page after it in a first sync is read while this one goes over the line.
        """
        fresh_head = BEGINNER if is_beginner else wanted.fresh_head
        head = wanted.head
        key = Key(head.epoch, wanted.company_id, wanted.tables, is_restricted, wanted.after, fresh_head, wanted.limit)
        while True:
            found = self._kept.get(key)
            if found is not None and found.holds(newest, head, self._clock()):
                self._kept.move_to_end(key)
                break
            task = self._reading.get(key)
            is_mine = task is None
            found = await asyncio.shield(task or self._begin(key, wanted, newest, encode))
            if is_mine or found.holds(newest, head, self._clock()):
                break
        if found.page.has_more and wanted.after < wanted.fresh_head:
            after, fresh_head = found.page.last, found.read_at.version if is_beginner else wanted.fresh_head
            following = replace(key, after=after, fresh_head=fresh_head)
            if following not in self._kept and following not in self._reading and not self._feed.callers_waiting:
                self._begin(following, replace(wanted, after=after, fresh_head=fresh_head), newest, encode)
        last = max(head.version, found.read_at.version)
        return found if found.page.has_more else replace(found, page=replace(found.page, last=last))

    def read_ahead(self, company_id: int, head: int) -> None:
        """Begin to read what a hint tells of, for a company of which something was asked for lately."""
        self._recent.read_ahead(company_id, head)

    def _begin(self, key: Key, wanted: PageRequest, newest: int, encode: Encode) -> asyncio.Task[SharedPage]:
        task = self._reading[key] = asyncio.create_task(self._read(key, wanted, newest, encode))
        task.add_done_callback(_look_at)
        return task

    async def close(self) -> None:
        """Wait for what is under way."""
        await asyncio.gather(*self._reading.values(), return_exceptions=True)
        await self._recent.close()

    async def _read(self, key: Key, wanted: PageRequest, newest: int, encode: Encode) -> SharedPage:
        try:
            recent = await self._recent.read(wanted, newest)
            if recent is not None:
                return SharedPage(recent[0], encode(recent[0]), recent[1])
            page = await read_page(self._feed, wanted)
            self._recent.keep(wanted, page)
            found = SharedPage(page, encode(page), wanted.head, self._clock() + SECONDS_MAX)
            self._keep(key, found)
            return found
        finally:
            del self._reading[key]

    def _keep(self, key: Key, found: SharedPage) -> None:
        before = self._kept.pop(key, None)
        self._bytes += found.bytes - (before.bytes if before is not None else 0)
        self._kept[key] = found
        while self._bytes > self._bytes_max:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= oldest.bytes


def _look_at(task: asyncio.Task[SharedPage]) -> None:
    """All who waited may have gone away: a failure that nobody looks at would be reported as lost."""
    if not task.cancelled():
        task.exception()


PAGES = web.AppKey("pages", Pages)
