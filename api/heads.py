"""Where the change log stands: head, epoch and floor, and which cursors of a device are still good (contract §1.2, §2.7)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from api.db import Database, Session
from schema.errors import SyncError
from schema.versions import epoch_of

LAG_CACHE_SECONDS = 0.25
_READ = "SELECT epoch, head, min_version FROM sync_state WHERE id = 1"
_READ_FORKS = "SELECT MIN(fork) FROM sync_epochs WHERE epoch > %s"
_READ_LAG = """
SELECT IS_USED_LOCK(%s) IS NOT NULL,
    TIMESTAMPDIFF(MICROSECOND, s.last_commit_at, UTC_TIMESTAMP(6)),
    TIMESTAMPDIFF(MICROSECOND, FROM_UNIXTIME(t.commit_time_us / 1000000), s.last_commit_at),
    (SELECT TIMESTAMPDIFF(MICROSECOND, o.created_at, UTC_TIMESTAMP(6)) FROM sync_origins o
     WHERE o.id > (SELECT COALESCE(MAX(origin_id), 0) FROM sync_tx) ORDER BY o.id LIMIT 1)
FROM sync_state s LEFT JOIN sync_tx t ON t.tx = s.tx WHERE s.id = 1
"""
_QUIET_US = 1_000_000


@dataclass(frozen=True, slots=True)
class Head:
    """`version` is the newest change's; nothing beyond it may be shown."""

    epoch: int
    version: int
    min_version: int


async def read_head(session: Session) -> Head:
    """Return the head. Raises SyncError 503 where the change log was never begun."""
    row = await session.fetch_one(_READ)
    if row is None:
        raise SyncError(503, "not_ready", "the change log has not begun", headers={"Retry-After": "1"})
    return Head(*row)


async def check_cursor(session: Session, head: Head, last_version: int, zero_min_version: int | None) -> None:
    """Raise SyncError 410 `reset_required` for a cursor that this change log cannot go on from.

    `epoch`: beyond the head, or in an older epoch beyond its fork: its device saw what no longer exists. `retention`: below
    `min_version`, unless the device began from 0 when that already was what it is now.
    """
    if last_version > head.version:
        raise _reset("epoch", "the cursor is beyond the server's newest change")
    if epoch_of(last_version) < head.epoch:
        row = await session.fetch_one(_READ_FORKS, (epoch_of(last_version),))
        if row is not None and row[0] is not None and last_version > row[0]:
            raise _reset("epoch", "part of the past this cursor has seen is gone")
    if 0 < last_version < head.min_version and zero_min_version != head.min_version:
        raise _reset("retention", "the cursor is older than the history that is kept")


class Lag:
    """How far the change log is behind MySQL, in ms, measured at most a few times a second in each worker."""

    def __init__(self, database: Database, lock: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._lock = lock
        self._clock = clock
        self._read_at = -LAG_CACHE_SECONDS
        self._ms = 0

    async def read_ms(self) -> int:
        """Return the delay of the newest append, or the age of the oldest request that is not in the change log yet.

        0 when the tailer lives and is quiet; without a tailer it grows, and with one that is stopped or reads nothing.
        """
        if self._clock() - self._read_at >= LAG_CACHE_SECONDS:
            self._read_at = self._clock()
            async with self._database.read() as session:
                row = await session.fetch_one(_READ_LAG, (self._lock,))
            self._ms = _lag_ms(*row) if row is not None else 0
        return self._ms


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
