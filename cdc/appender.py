"""Stores batches: at once where the stream is idle, in a thread of its own while the stream is read on where it is behind.

There is one connection and one batch under way. Whoever needs the connection, the state or certainty calls `drain` first; what went
wrong in the thread is raised there, before anything later is stored.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from pymysql.connections import Connection

from cdc.entries import PendingTx
from cdc.live import LiveRecords
from cdc.log import append
from cdc.state import State

Appended = Callable[[State, State, "list[PendingTx]"], None]
"""Called after each commit, in the thread that made it, with the state before, the state after, and what was stored."""


class Appender:
    """The change log's one writer. After anything was raised it must not be used again."""

    def __init__(self, connection: Connection[Any], state: State, appended: Appended) -> None:
        self._connection = connection
        self._appended = appended
        self._state = state
        self.live = LiveRecords(connection)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="append")
        self._under_way: Future[State] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether the connection is in use."""
        return self._under_way is not None and not self._under_way.done()

    def close(self) -> None:
        """Wait for the batch under way; what became of it, the next pass reads."""
        if self._under_way is not None:
            wait([self._under_way])
        self._thread.shutdown()

    def drain(self) -> State:
        """Wait for the batch under way; the state that is stored. Raises what kept it from being so."""
        if self._under_way is not None:
            done, self._under_way = self._under_way, None
            self._state = done.result()
        return self._state

    def moved(self, state: State, batch: list[PendingTx]) -> None:
        """Somebody else has stored a batch on the connection."""
        before, self._state = self._state, state
        self._appended(before, state, batch)

    def append(self, batch: list[PendingTx], also: Callable[[], None] | None = None) -> None:
        """Store a batch now. Raises as `cdc.log.append` does."""
        self._state = self._store(self.drain(), batch, also)

    def append_behind(self, batch: list[PendingTx]) -> None:
        """Store a batch in the thread, after the one before it is stored. Raises what kept that one from being so."""
        before = self.drain()
        self._under_way = self._thread.submit(self._store, before, batch, None)

    def _store(self, before: State, batch: list[PendingTx], also: Callable[[], None] | None) -> State:
        after = append(self._connection, before, batch, also, self.live)
        self._appended(before, after, batch)
        return after
