"""What of a company changed last, in a worker's memory: what was read for one device is not read again for the next.

It begins with a page that went up to the head, and is brought to the head of each request that needs it: what others wrote
meanwhile is read once for all devices. A page from here may be of a later moment than its request asked for, never of an earlier
one.

Where a hint tells of something newer, that is read while the request that will need it still asks how its device stands.

It goes back no further than what was read in the last SECONDS_MAX: a change that was missing, and that `replay` has put back, is
given to who asks after that. Redeliveries, history and first syncs are not in here.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from msgspec.structs import replace

from api.db import Database
from api.feed import FeedRow, Page, PageRequest, StateMoved, end_with_tx, read_changes
from api.heads import Head
from api.recent_changes import RecentChanges
from schema.errors import SyncError

SECONDS_MAX = 30.0
EXTENSION_CHANGES_MAX = 2000
"""A company that changed by more than this since it was last asked for is read in pages, and begun anew."""
COMPANY_SHARE = 4
"""One company may take this part of the memory."""


@dataclass(slots=True, eq=False)
class _Company:
    id: int
    changes: RecentChanges
    bytes: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Recent:
    """The companies of a worker that were asked for last, with at most `bytes_max` of changes."""

    def __init__(self, feed: Database, *, bytes_max: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._feed = feed
        self._bytes_max = bytes_max
        self._clock = clock
        self._companies: OrderedDict[int, _Company] = OrderedDict()
        self._bytes = 0
        self._ahead: set[asyncio.Task[None]] = set()

    def read_ahead(self, company_id: int, head: int) -> None:
        """Begin to read up to a head that a hint names. The statement finds nothing unless that is so, and then nothing is lost."""
        company = self._companies.get(company_id)
        if company is None or company.changes.head.version >= head or company.lock.locked() or self._feed.callers_waiting:
            return
        task = asyncio.create_task(self._read_ahead(company, head))
        self._ahead.add(task)
        task.add_done_callback(self._ahead.discard)

    async def close(self) -> None:
        """Wait for what is under way."""
        await asyncio.gather(*self._ahead, return_exceptions=True)

    async def read(self, wanted: PageRequest, newest: int) -> tuple[Page, Head] | None:
        """Return a page and the head it is of, `wanted.head` or a later one; None where it is not in here. `newest`: the company's
        newest change up to that head. Raises what `read_page` raises.
        """
        company = self._companies.get(wanted.company_id)
        if company is None or not _is_recent(wanted) or not self._reaches(company, wanted):
            return None
        if company.changes.head.version < wanted.head.version:
            async with company.lock:
                if not await self._bring_to_head(company, wanted.head, newest):
                    return None
            if not self._reaches(company, wanted):
                return None
        head = replace(wanted.head, version=company.changes.head.version)
        tables = None if wanted.tables is None else frozenset(name.encode() for name in wanted.tables)

        async def read(after: int, limit: int) -> list[FeedRow]:
            return company.changes.beyond(after, limit, tables)

        return await end_with_tx(replace(wanted, head=head), read), head

    def keep(self, wanted: PageRequest, page: Page) -> None:
        """Take over a page that was read, where it went up to the head."""
        if page.has_more or wanted.tables is not None or not _is_recent(wanted):
            return
        company = self._companies.get(wanted.company_id)
        if company is not None and company.changes.reaches(wanted.head.version, wanted.head):
            if wanted.after >= company.changes.low:
                return
            if wanted.head.version < company.changes.head.version:
                company.changes.reach_back(wanted.after, page.rows)
                self._count(company)
                return
        self._forget(wanted.company_id)
        changes = RecentChanges(wanted.after, wanted.head, page.rows, self._clock())
        company = self._companies[wanted.company_id] = _Company(wanted.company_id, changes)
        self._count(company)

    def _reaches(self, company: _Company, wanted: PageRequest) -> bool:
        company.changes.forget_read_before(self._clock() - SECONDS_MAX)
        return company.changes.reaches(wanted.after, wanted.head)

    async def _read_ahead(self, company: _Company, head: int) -> None:
        with suppress(StateMoved, SyncError):  # the request finds out by itself
            async with company.lock:
                await self._bring_to_head(company, replace(company.changes.head, version=head), head)

    async def _bring_to_head(self, company: _Company, head: Head, newest: int) -> bool:
        """Read what is beyond the head up to which it is known; False where that is too much, and the company is begun anew."""
        if self._companies.get(company.id) is not company:
            return False
        changes, rows = company.changes, list[FeedRow]()
        if changes.head.version < newest:
            rows = await read_changes(self._feed, _beyond(company.id, changes.head.version, head), EXTENSION_CHANGES_MAX + 1)
        if len(rows) > EXTENSION_CHANGES_MAX:
            self._forget(company.id)
            return False
        changes.extend(rows, head, self._clock())
        self._count(company)
        return True

    def _count(self, company: _Company) -> None:
        """Keep the memory within its bounds after a company has changed. The one asked for longest ago goes first."""
        if self._companies.get(company.id) is not company:
            return
        while company.changes.bytes * COMPANY_SHARE > self._bytes_max:
            company.changes.forget_oldest()
        self._bytes += company.changes.bytes - company.bytes
        company.bytes = company.changes.bytes
        self._companies.move_to_end(company.id)
        while self._bytes > self._bytes_max:
            self._forget(next(iter(self._companies)))

    def _forget(self, company_id: int) -> None:
        company = self._companies.pop(company_id, None)
        if company is not None:
            self._bytes -= company.bytes


def _beyond(company_id: int, after: int, head: Head) -> PageRequest:
    """All of a company's changes beyond a version, for every device alike."""
    limit = EXTENSION_CHANGES_MAX
    return PageRequest(company_id, None, None, after, head, limit, limit, fresh_head=0, is_history=False)


def _is_recent(wanted: PageRequest) -> bool:
    return wanted.after >= max(wanted.fresh_head, 1) and not wanted.is_history and wanted.device_id is None
