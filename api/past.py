"""Which part of the past is lost, as requests meet it (contract §1.2): cursors, base versions, and the head itself.

A new epoch is begun by the tailer or an operator. Until it is, this worker's memory may be the only one that knows: a head below
one that it has shown means that MySQL's past was replaced, and nothing is accepted or shown until the epoch says so.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from schema.errors import SyncError
from schema.versions import epoch_of, is_replaced

_READ = "SELECT s.head, e.epoch, e.fork FROM sync_state s JOIN sync_epochs e WHERE s.id = 1"
_READ_FORK = "SELECT MIN(fork) FROM sync_epochs WHERE epoch > %s AND is_past_lost"


class _Asks(Protocol):
    async def fetch_all(self, sql: str, params: tuple[int, ...] = ()) -> list[tuple[int, ...]]: ...
    async def fetch_one(self, sql: str, params: tuple[int, ...] = ()) -> tuple[int | None, ...] | None: ...


class SeenHead:
    """The newest head that this worker knows of; both pools share one."""

    def __init__(self) -> None:
        self.version = 0
        self.has_new_epoch = asyncio.Event()
        """Set until somebody has seen to what a new epoch needs (`api.id_floors`)."""
        self.has_new_epoch.set()

    def confirm(self, version: int, floor: int) -> None:
        """Take over a head that was read; `floor` is what was known before its snapshot began. Raises SyncError 503."""
        if version < floor:
            raise past_replaced()
        self.remember(version)

    def remember(self, version: int) -> None:
        """Take over a head that somebody was shown."""
        if epoch_of(version) > epoch_of(self.version):
            self.has_new_epoch.set()
        self.version = max(self.version, version)


class Forks:
    """The forks of the change log, read when first asked for: one for each request that needs them.

    `head`, `epoch`: where the request has found the change log already; they tell of versions of that epoch without asking.
    """

    def __init__(self, session: _Asks, *, head: int = 0, epoch: int | None = None) -> None:
        self._session = session
        self._head = head
        self._epoch = epoch
        self._forks: dict[int, int] | None = None

    async def is_lost(self, version: int) -> bool:
        """Whether a version is beyond the head, or of a past that was replaced."""
        return await self.is_replaced(version) or version > self._head

    async def is_replaced(self, version: int) -> bool:
        """Whether a version is of a past that was replaced."""
        if self._epoch is not None and epoch_of(version) == self._epoch:
            return False
        if self._forks is None:
            rows = await self._session.fetch_all(_READ)
            self._head = rows[0][0] if rows else 0
            self._forks = {epoch: fork for _, epoch, fork in rows}
        return is_replaced(version, self._forks)


async def read_lost_cursor(session: _Asks, head: int, *, known_epoch: int, last_version: int | None) -> int | None:
    """Return the cursor to answer a device that may hold rows of a lost past; None where it holds none. `head`: the newest version.

    It must not be given a good cursor: with the one it gets, its next pull is told to start again. One that sent its cursor gets
    that back if it is lost. One that sends none is asked to start again unless it has pulled since (`known_epoch`).
    """
    epoch = epoch_of(head)
    if last_version is not None:
        is_good = epoch_of(last_version) == epoch and last_version <= head
        return None if is_good or not await Forks(session).is_lost(last_version) else last_version
    if known_epoch >= epoch:
        return None
    row = await session.fetch_one(_READ_FORK, (known_epoch,))
    return row[0] + 1 if row is not None and row[0] is not None else None


def past_replaced() -> SyncError:
    """The server stands before what it has shown already, and the tailer has not begun the new epoch yet."""
    return SyncError(503, "past_replaced", "the server was restored and is not ready yet", headers={"Retry-After": "1"})
