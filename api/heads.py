"""Where the change log stands: head, epoch and floor, and which cursors of a device are still good (contract §1.2, §2.7)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec
from aiohttp import web

from api.db import Database, Session
from api.past import Forks
from schema.errors import SyncError
from schema.versions import epoch_of

LAG_CACHE_SECONDS = 0.25
_READ = "SELECT epoch, head, min_version FROM sync_state WHERE id = 1"
_READ_LAG = """
SELECT IS_USED_LOCK(%s) IS NOT NULL,
    TIMESTAMPDIFF(MICROSECOND, s.last_commit_at, UTC_TIMESTAMP(6)),
    TIMESTAMPDIFF(MICROSECOND, FROM_UNIXTIME(t.commit_time_us / 1000000), s.last_commit_at),
    (SELECT TIMESTAMPDIFF(MICROSECOND, o.created_at, UTC_TIMESTAMP(6)) FROM sync_origins o
     WHERE o.id > (SELECT COALESCE(MAX(origin_id), 0) FROM sync_tx) ORDER BY o.id LIMIT 1)
FROM sync_state s LEFT JOIN sync_tx t ON t.tx = s.tx WHERE s.id = 1
"""
_QUIET_US = 1_000_000


class Head(msgspec.Struct, frozen=True):
    """`version` is the newest change's; nothing beyond it may be shown."""

    epoch: int
    version: int
    min_version: int


async def read_head(session: Session) -> Head:
    """Return the head. Raises SyncError 503: the change log was never begun, or it stands before what was shown already."""
    row = await session.fetch_one(_READ)
    if row is None:
        raise not_ready()
    head = Head(*row)
    session.confirm_head(head.version)
    return head


def not_ready() -> SyncError:
    """Return the 503 of a database whose tailer never ran."""
    return SyncError(503, "not_ready", "the change log has not begun", headers={"Retry-After": "1"})


async def check_cursor(database: Database, head: Head, last_version: int) -> None:
    """Raise SyncError 410 `reset_required`, reason `epoch`, for a cursor that this change log cannot go on from: beyond the head,
    or in an older epoch beyond its fork. Its device saw what no longer exists.
    """
    if last_version > head.version:
        raise _reset("epoch", "the cursor is beyond the server's newest change")
    if epoch_of(last_version) < head.epoch:
        async with database.read() as session:
            is_lost = await Forks(session).is_lost(last_version)
        if is_lost:
            raise _reset("epoch", "part of the past this cursor has seen is gone")


def retention_reset() -> SyncError:
    """Return the 410 for a cursor below `min_version`: deletions that the device may have to hear of are gone."""
    return _reset("retention", "the cursor is older than the history that is kept")


class Lag:
    """How far the change log is behind MySQL, in ms, measured at most a few times a second in each worker."""

    def __init__(self, database: Database, lock: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._lock = lock
        self._clock = clock
        self._read_at = -LAG_CACHE_SECONDS
        self._ms = 0
        self._reading: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Measure where it is time to, while the caller does something else."""
        if self._reading is None and self._clock() - self._read_at >= LAG_CACHE_SECONDS:
            self._reading = asyncio.create_task(self._read())

    async def read_ms(self) -> int:
        """Return the delay of the newest append, or the age of the oldest request that is not in the change log yet.

        0 when the tailer lives and is quiet; without a tailer it grows, and with one that is stopped or reads nothing.
        """
        self.begin()
        if self._reading is not None:
            await asyncio.shield(self._reading)
        return self._ms

    async def close(self) -> None:
        """Wait for what is under way."""
        if self._reading is not None:
            await asyncio.wait([self._reading])

    async def _read(self) -> None:
        try:
            async with self._database.read() as session:
                row = await session.fetch_one(_READ_LAG, (self._lock,))
            self._ms = _lag_ms(*row) if row is not None else 0
            self._read_at = self._clock()
        except SyncError:
            pass  # MySQL is away: what else is asked of it says so
        finally:
            self._reading = None


LAG = web.AppKey("lag", Lag)


def _lag_ms(is_alive: int, since_commit_us: int | None, last_delay_us: int | None, oldest_untold_us: int | None) -> int:
    if not is_alive:
        return (since_commit_us or 0) // 1000
    is_quiet = since_commit_us is None or since_commit_us > _QUIET_US
    return max(0, oldest_untold_us or 0, 0 if is_quiet else last_delay_us or 0) // 1000


def _reset(reason: str, message: str) -> SyncError:
    return SyncError(
        410, "reset_required", f"{message}: push what is unsent, drop the local rows, and pull from 0", details={"reason": reason}
    )
