"""Appends to the change log: versions, rows, head and checkpoint in one MySQL transaction, under the fencing token.

A tx larger than a batch is stored in parts above the head, where no pull looks, and shown by one last commit: memory stays
bounded, and a crash on the way leaves nothing but rows that `trim_above_head` takes away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from pymysql.connections import Connection

from cdc.change_row import ChangeRow, Image, TxColumns, record_of, row_again, row_of_change, tx_columns
from cdc.entries import Entry, PendingTx, Redelivery
from cdc.gtid import Gtid
from cdc.live import READ_MENDED, LiveRecords, live_mended
from cdc.log_rows import CHANGE_COLUMNS, TX_COLUMNS, TxValues, change_lines, change_literal, tx_lines, tx_literal, tx_values_of
from cdc.sql import store_rows
from cdc.state import Anchor, State, commit_moved, require_lease, with_gtids
from cdc.together import Together, begin
from schema.versions import advance

_TRIM = "DELETE FROM sync_changes WHERE version > %s LIMIT 10000"
_READ_NEWEST = "SELECT operation, data, sealed FROM sync_changes WHERE company_id = %s AND version = %s"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A MySQL transaction that moves the state to `state`, as it waits in `writes`."""

    state: State
    writes: Together
    only_if: str

    def commit(self) -> State:
        """Store it. Raises LeaseLost and Retry (nothing written), and pymysql errors (nothing written, or, when COMMIT's answer was
        lost, all of it).
        """
        if not commit_moved(self.writes, self.state, self.only_if):
            raise live_mended()
        return self.state


def append(
    connection: Connection[Any],
    state: State,
    batch: Sequence[PendingTx],
    also: Callable[[], None] | None = None,
    live: LiveRecords | None = None,
) -> State:
    """Store whole committed txs and move head and checkpoint, in one MySQL transaction. Returns the new state.

    Versions are head + 1 …, one per change, without gaps, in binlog order. A batch without changes still moves the GTID set.
    `also` writes what must be true together with it. `live` is what the appends before, under this lease, know of sync_live.
    Raises as `Prepared.commit` does.
    """
    prepared = prepare(PartWriter(connection, state, live or LiveRecords(connection)), batch)
    if also is not None:
        prepared.writes.run()
        also()
    return prepared.commit()


def prepare(writer: PartWriter, batch: Sequence[PendingTx]) -> Prepared:
    """Make all that an append of whole committed txs writes."""
    writer.begin([entry for tx in batch for entry in tx.entries])
    for tx in batch:
        writer.write(tx)
    return writer.finish()


class PartWriter:
    """Gives versions and stores rows; `state` runs ahead of the stored one until the caller commits.

    Rows come together until `flush`, so that a batch of many small txs costs no more statements than one large tx; and all wait in
    `writes` for whoever commits them. `settle` waits until the connection is free; without it, it is.
    """

    def __init__(
        self, connection: Connection[Any], state: State, live: LiveRecords, settle: Callable[[], object] = lambda: None
    ) -> None:
        self.writes = Together(connection)
        self.live = live
        self._connection = connection
        self._settle = settle
        self._before = state
        self._head = state.head
        self._chain = state.chain
        self._tx = state.tx
        self._last: PendingTx | None = None
        self._anchor = state.anchor
        self._gtids: list[Gtid] = []
        self._changes: list[tuple[ChangeRow, bytes]] = []
        self._txs: list[TxValues] = []

    def begin(self, entries: Sequence[Entry | Redelivery]) -> None:
        """Begin a transaction that will write these: with the first that is written, if MySQL has nothing to be asked before."""
        self.live.begin()
        if self.live.unknown(entries) or any(isinstance(entry, Redelivery) for entry in entries):
            self.begin_now(entries)
            return
        self.writes = Together(self._connection)
        self.writes.put("BEGIN")

    def begin_now(self, entries: Sequence[Entry | Redelivery]) -> None:
        """Begin a transaction that will write these, and read what is to be known of them."""
        self._settle()
        self.writes = Together(self._connection)
        self.live.begin()
        (mended,) = begin(self._connection, READ_MENDED)
        self.live.note_mended(mended)
        self.live.read(self.live.unknown(entries))

    def confirm(self) -> None:
        """What was used of memory is as it is stored. Raises Retry where it is not."""
        with self._connection.cursor() as cursor:
            cursor.execute(READ_MENDED)
            row = cursor.fetchone()
        assert row is not None
        self.live.confirm(row[0])

    def finish(self) -> Prepared:
        """All that was written, the newest versions of the records with it, and the state that is true then."""
        self.flush()
        self.live.store(self.writes, self._settle)
        return Prepared(self.state(), self.writes, self.live.is_as_known)

    def state(self) -> State:
        """The state that is true with all that was written."""
        last = self._last
        return replace(
            self._before,
            head=self._head,
            tx=self._tx,
            chain=self._chain,
            gtid_set=with_gtids(self._before.gtid_set, self._gtids),
            file=last.file if last is not None else self._before.file,
            pos=last.end_pos if last is not None else self._before.pos,
            anchor=self._anchor,
        )

    def flush(self) -> None:
        """Have written what has come together."""
        into = "sync_changes", CHANGE_COLUMNS
        store_rows(self.writes, into, self._changes.copy(), as_lines=change_lines, as_values=change_literal)
        store_rows(self.writes, ("sync_tx", TX_COLUMNS), self._txs.copy(), as_lines=tx_lines, as_values=tx_literal)
        self._changes.clear()
        self._txs.clear()

    def write(self, tx: PendingTx) -> None:
        """Take a tx that fits a batch, with its row in sync_tx; its records have been read into `live`."""
        first = self._head
        if tx.is_recorded:
            self.open_tx()
        self.write_part(tx)
        self.close_tx(tx, first)

    def open_tx(self) -> None:
        """Begin the next recorded tx."""
        self._tx = advance(self._tx, 1)

    def write_part(self, tx: PendingTx) -> None:
        """Take these entries under the present tx number."""
        told = tx_columns(tx, self._tx)
        supersede, changes = self.live.supersede, self._changes
        advance(self._head, len(tx.entries))  # there is room for all of them
        for entry in tx.entries:
            if isinstance(entry, Redelivery):
                self._write_again(told, entry)
                continue
            company_id, table, record_id, _, _, _, _, is_deleted = entry.change
            version = self._head + 1
            previous, maker = supersede(company_id, table, record_id, version, is_deleted, entry.maker)
            row = row_of_change(told, entry, version, previous, maker)
            self._head, self._chain = version, row.chained(self._chain)
            changes.append((row, self._chain))

    def close_tx(self, tx: PendingTx, head_before: int) -> None:
        """Record a finished tx in sync_tx, where it has to be, and its GTIDs in the checkpoint to come."""
        self._last = tx
        self._gtids += tx.gtids_done
        if tx.gtids_done[-1:] == (tx.gtid,):
            self._anchor = Anchor(tx.gtid, tx.commit_time_us)
        if tx.is_recorded:
            versions = (head_before + 1 if self._head > head_before else None, self._head)
            self._txs.append(tx_values_of(self._tx, self._before.epoch, tx, versions))

    def _write_again(self, told: TxColumns, entry: Redelivery) -> None:
        """A redelivery supersedes nothing, so sync_live does not learn of it; without anything to repeat it gets no version."""
        newest = self.live.get(*record_of(entry))
        if newest is None:
            return
        self.flush()  # the newest may be among what has come together
        self.writes.run()
        with self.writes.connection.cursor() as cursor:
            cursor.execute(_READ_NEWEST, (entry.company_id, newest.version))
            found = cursor.fetchone()
        if found is None:
            return
        row = row_again(told, entry, advance(self._head, 1), newest, Image(*found))
        self._head, self._chain = row.version, row.chained(self._chain)
        self._changes.append((row, self._chain))


class LargeTx:
    """One tx stored in parts, each its own commit above the head; `finish` shows all of it at once.

    With `settle`, which waits until the connection is free, and `run`, parts are made here and run there, one after the other.
    """

    def __init__(
        self,
        connection: Connection[Any],
        state: State,
        live: LiveRecords | None = None,
        settle: Callable[[], object] = lambda: None,
        run: Callable[[Callable[[], object]], object] = lambda work: work(),
    ) -> None:
        self._state = state
        self._run = run
        self._writer = PartWriter(connection, state, live or LiveRecords(connection), settle)
        self._writer.open_tx()

    def append_part(self, part: PendingTx) -> None:
        """Store the next entries. They stay invisible; nothing else moves.

        Raises LeaseLost as `append` does: a successor has trimmed what is above the head, and gives these versions itself.
        """
        writer = self._writer
        writer.begin(part.entries)
        writer.writes.put_step(partial(require_lease, writer.writes.connection, self._state))
        writer.writes.put_step(writer.confirm)
        writer.write_part(part)
        writer.flush()
        self._run(writer.writes.commit)

    def finish(self, last: PendingTx) -> Prepared:
        """Make what shows the tx, once its parts are stored: last entries, newest versions, head and checkpoint, in one commit."""
        writer = self._writer
        writer.begin_now(last.entries)
        writer.write_part(last)
        writer.close_tx(last, self._state.head)
        return writer.finish()


def trim_above_head(connection: Connection[Any], state: State) -> int:
    """Delete what a crash left of a large tx: rows that no pull could see. Returns how many.

    Raises LeaseLost: the head of a stale holder is an old one, and what is above it may be good.
    """
    deleted = 0
    while True:
        connection.begin()
        require_lease(connection, state)
        with connection.cursor() as cursor:
            count: int = cursor.execute(_TRIM, (state.head,))
        connection.commit()
        deleted += count
        if not count:
            return deleted
