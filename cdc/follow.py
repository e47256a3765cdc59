"""From the stream's items to appended batches: when to append, what to hold back, how a tx too large for memory is stored.

Latency first: a batch goes as soon as the stream has no more right now, but not sooner after the one before than twice what that
one took: a steady stream of small transactions goes in a third as many commits. Behind, a batch grows to `tailer_batch_changes`. A
tx without synced changes moves the checkpoint every few seconds; a tailer's own ones, and those of another database's tailer, once
an hour, so that they are not purged unread: an idle system must not write for ever, nor two that read one binlog answer each other.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from pymysql.connections import Connection

from cdc.appender import Appended, Appender
from cdc.builder import TxBuilder
from cdc.ddl import check_ddl
from cdc.entries import Entry, PendingTx
from cdc.idle import HEARTBEAT_SECONDS, IdleWork
from cdc.items import Changes, Ddl, Heartbeat, Item, Rows, TxBegin, TxEnd
from cdc.log import LargeTx
from cdc.reconcile import Reconciler
from cdc.state import State
from schema.changes import Origin, OriginKind
from schema.errors import Halt
from schema.logs import get_logger
from schema.settings import Settings

log = get_logger(__name__)

PATIENCE_COMMITS = 2
PATIENCE_SECONDS_MAX = 0.01
QUIET_GTIDS_MAX = 10_000
QUIET_SECONDS_MAX = 3600


class Follower:
    """Feeds items into the change log, from `state` on."""

    def __init__(
        self,
        connection: Connection[Any],
        settings: Settings,
        state: State,
        appended: Appended,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._database = settings.tailer().database
        self._part_changes_max = settings.tailer_part_changes_max
        self._part_bytes_max = 2 * settings.tailer_batch_bytes_max
        self._clock = clock
        self._committed_at = clock()
        self._patience_seconds = 0.0
        self._appender = Appender(connection, state, appended)
        self._tx: TxBuilder | None = None
        self._large: LargeTx | None = None
        self._pending: list[PendingTx] = []
        self._pending_changes = 0
        self._pending_bytes = 0
        self._has_recorded = False
        self._is_checkpoint_due = False
        self._reconciler = Reconciler(connection, settings)
        self._idle = IdleWork(connection, settings, state.fencing_token)

    def close(self) -> None:
        """Let go of what was opened beside the stream, once nothing is being stored."""
        self._appender.close()
        self._reconciler.close()

    def settle(self) -> None:
        """Wait until nothing is being stored: then the connection is free. Raises what kept the last batch from being stored."""
        self._appender.drain()

    @property
    def state(self) -> State:
        """As it is stored. Raises as `settle` does."""
        return self._appender.drain()

    @property
    def patient_until(self) -> float:
        """When to append what is held, by the clock, if nothing more has come by then."""
        return self._committed_at + self._patience_seconds

    @property
    def is_storing(self) -> bool:
        """Whether a batch is being stored just now: then MySQL hears of us, and the connection is in use."""
        return self._appender.is_busy

    def take(self, item: Item) -> None:
        """Take one item. Raises Halt, LeaseLost, and pymysql errors: after any of them this follower is done."""
        if isinstance(item, Changes):
            self._add_changes(item)
            return
        try:
            self._take(item)
        except Halt as halt:
            if self._tx is not None:
                begin = self._tx.begin
                halt.details = {"gtid": str(begin.gtid), "file": begin.file, "pos": begin.pos, **halt.details}
            raise

    def _take(self, item: Item) -> None:
        match item:
            case Rows():
                self._add_rows(item)
            case TxBegin():
                self._tx = TxBuilder(item)
            case TxEnd():
                self._end(item)
            case Ddl():
                self._appender.drain()
                check_ddl(item, self._connection, self._database)
            case Heartbeat():
                self._append_if_due(is_idle=True)
                self._appender.drain()
                self._idle.take_turn(HEARTBEAT_SECONDS)
        if self._tx is None and self._reconciler.is_due:
            self._appender.drain()
            self._reconciler.start()

    def _add_rows(self, rows: Rows) -> None:
        tx = self._open_tx()
        self._reconciler.note(rows)
        try:
            tx.add(rows)
        except Exception as problem:  # whatever it is, it would be met again: better a place and a reason than a restart loop
            log.error("derive_failed", exc_info=True, gtid=str(tx.begin.gtid), table=rows.table)
            reason = f"rows of {rows.table} cannot be read: {type(problem).__name__}"
            raise Halt("not_derivable", reason, hint="report this with the binlog file; the stack is in the log") from problem

    def _add_changes(self, item: Changes) -> None:
        tx = self._tx or self._open_tx()
        self._reconciler.note_changes(item)
        tx.add_changes(item)
        if len(tx.changes) >= self._part_changes_max or tx.bytes >= self._part_bytes_max:
            if self._large is None:
                self.append_pending()
                self._large = self._appender.begin_large()
            self._large.append_part(tx.take_part())

    def _end(self, end: TxEnd) -> None:
        builder = self._open_tx()
        tx, self._tx = builder.end(end), None
        if self._large is not None:
            large, self._large = self._large, None
            self._appender.finish_large(large, tx._replace(is_recorded=True))
            self._note_commit()
            return
        if self._reconciler.is_complete:
            self._append_reconciled(tx)
            return
        self._pending_changes += len(tx.entries)
        self._pending_bytes += builder.bytes
        self._hold(tx, is_quiet=builder.is_own or end.is_checkpoint)
        is_full = (
            self._pending_changes >= self._settings.tailer_batch_changes
            or self._pending_bytes >= self._settings.tailer_batch_bytes_max
        )
        if is_full:
            self._appender.append_behind(self._take_pending())
            self._note_commit()
        else:
            self._append_if_due(is_idle=end.is_last_buffered)
            if end.is_last_buffered:
                self._appender.drain()
                self._idle.take_turn()

    def _hold(self, tx: PendingTx, *, is_quiet: bool) -> None:
        """Keep a tx for the next append; quiet neighbours become one, so that they cost no memory."""
        self._is_checkpoint_due = self._is_checkpoint_due or not is_quiet
        self._has_recorded = self._has_recorded or tx.is_recorded
        last = self._pending[-1] if self._pending else None
        if last is not None and not (last.is_recorded or tx.is_recorded):
            self._pending[-1] = tx._replace(gtids_done=(*last.gtids_done, *tx.gtids_done))
        else:
            self._pending.append(tx)

    def _append_if_due(self, *, is_idle: bool) -> None:
        """Append changes as soon as the stream is idle, and move the checkpoint past quiet transactions now and then."""
        if not self._pending:
            return
        waited = self._clock() - self._committed_at
        is_late = waited >= (self._settings.tailer_idle_checkpoint_seconds if self._is_checkpoint_due else QUIET_SECONDS_MAX)
        is_much = len(self._pending[-1].gtids_done) >= QUIET_GTIDS_MAX
        if (is_idle and self._has_recorded) or is_much or is_late:
            self.append_pending()

    def finish(self) -> None:
        """Append the whole transactions that are held, before the stream ends for whatever reason."""
        self._appender.drain()
        if self._is_checkpoint_due or self._has_recorded:
            self.append_pending()

    def _append_reconciled(self, watermark: PendingTx) -> None:
        """Store what a range that was read between its watermarks lacks, at the place of the second one."""
        self.append_pending()
        mended = self._reconciler.mend(watermark.commit_time_us)
        origin, entries = Origin(OriginKind.RECONCILE), mended.entries
        self._pending.append(watermark._replace(origin=origin, entries=entries, is_recorded=bool(entries)))
        self.append_pending(also=mended.note)

    def append_pending(self, also: Callable[[], None] | None = None) -> None:
        """Store what is held, and wait until it is stored."""
        self._appender.drain()
        if self._pending:
            began = self._clock()
            self._appender.append(self._take_pending(), also)
            self._note_commit()
            self._patience_seconds = min(PATIENCE_COMMITS * (self._committed_at - began), PATIENCE_SECONDS_MAX)

    def _take_pending(self) -> list[PendingTx]:
        batch, self._pending = self._pending, []
        self._pending_changes = self._pending_bytes = 0
        self._has_recorded = False
        return batch

    def _note_commit(self) -> None:
        self._committed_at = self._clock()
        self._is_checkpoint_due = False

    def _open_tx(self) -> TxBuilder:
        if self._tx is None:
            raise Halt("tx_incomplete", "an item of a tx came before its GTID", hint="report this with the binlog file")
        return self._tx


def companies_of(batch: list[PendingTx]) -> set[int]:
    """Return the companies whose feeds a batch changed."""
    return {e.change.company_id if isinstance(e, Entry) else e.company_id for tx in batch for e in tx.entries}
