"""Stores batches: at once where the stream is idle; where it is behind, in a thread, while the next one is read and made.

There is one connection, one transaction under way, and at most one more made. Whoever needs the connection, the state or certainty
calls `drain` first; what went wrong in the thread is raised there, before anything later is stored.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from pymysql.connections import Connection

from cdc.entries import PendingTx
from cdc.live import LiveRecords
from cdc.log import LargeTx, PartWriter, Prepared, append, prepare
from cdc.state import State

Appended = Callable[[State, State, "list[PendingTx]"], None]
"""Called after each commit, in the thread that made it, with the state before, the state after, and what was stored."""


class Appender:
    """The change log's one writer. After anything was raised it must not be used again."""

    def __init__(self, connection: Connection[Any], state: State, appended: Appended) -> None:
        self._connection = connection
        self._appended = appended
        self._state = state
        self._live = LiveRecords(connection)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="append")
        self._under_way: Future[object] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether the connection is in use."""
        return self._under_way is not None and not self._under_way.done()

    def close(self) -> None:
        """Wait for what is under way; what became of it, the next pass reads."""
        if self._under_way is not None:
            wait([self._under_way])
        self._thread.shutdown()

    def drain(self) -> State:
        """Wait for what is under way; the state that is stored. Raises what kept it from being so."""
        if self._under_way is not None:
            done, self._under_way = self._under_way, None
            done.result()
        return self._state

    def append(self, batch: list[PendingTx], also: Callable[[], None] | None = None) -> None:
        """Store a batch now. Raises as `cdc.log.append` does."""
        before = self.drain()
        self._state = append(self._connection, before, batch, also, self._live)
        self._appended(before, self._state, batch)

    def append_behind(self, batch: list[PendingTx]) -> None:
        """Make all that a batch writes, and store it in the thread after what is under way. Raises what kept that one out;
        what keeps this one out, the next call does.
        """
        before = self._state
        self._commit_behind(before, prepare(PartWriter(self._connection, before, self._live, self.drain), batch), batch)

    def begin_large(self) -> LargeTx:
        """Begin a tx that is too large for memory."""
        return LargeTx(self._connection, self.drain(), self._live, self.drain, self._run_behind)

    def finish_large(self, large: LargeTx, last: PendingTx) -> None:
        """Store the end of a large tx, and so show all of it."""
        before = self._state
        self._commit_behind(before, large.finish(last), [last])
        self.drain()

    def _commit_behind(self, before: State, prepared: Prepared, batch: list[PendingTx]) -> None:
        def commit() -> None:
            self._appended(before, prepared.commit(), batch)

        self._run_behind(commit)
        self._state = prepared.state

    def _run_behind(self, work: Callable[[], object]) -> None:
        self.drain()
        self._under_way = self._thread.submit(work)
