"""Appends to the change log: versions, rows, head and checkpoint in one MySQL transaction, under the fencing token.

A tx larger than a batch is stored in parts above the head, where no pull looks, and shown by one last commit: memory stays
bounded, and a crash on the way leaves nothing but rows that `trim_above_head` takes away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from pymysql.connections import Connection

from cdc.change_row import ChangeRow, Image, TxColumns, record_of, row_again, row_of_change, tx_columns
from cdc.entries import Entry, PendingTx, Redelivery
from cdc.gtid import Gtid
from cdc.live import READ_MENDED, LiveRecords
from cdc.load import field, field_again, field_bytes
from cdc.sql import literal, literal_again, literal_bytes, quoted, store_rows
from cdc.state import Anchor, State, commit_moved, require_lease, with_gtids
from cdc.together import Together, begin
from schema.versions import advance

CHANGE_COLUMNS = (
    "company_id, version, table_name, record_id, operation, data, sealed, `before`, timestamp, tx, origin, origin_id, "
    "origin_device_id, is_exact, device_id, local_id, for_device, prev_version, chain"
)
TX_COLUMNS = (
    "tx, epoch, gtid, server_id, commit_time_us, binlog_file, binlog_pos, origin, origin_id, first_version, last_version, statement"
)
_TRIM = "DELETE FROM sync_changes WHERE version > %s LIMIT 10000"
_NULL, _ONE, _TWO = "\\N", "\\", "\\\\"
_TxValues = tuple[int | str | None, ...]
"""A row of sync_tx."""
_READ_NEWEST = "SELECT operation, data, sealed FROM sync_changes WHERE company_id = %s AND version = %s"


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
    Raises LeaseLost (nothing written) and pymysql errors (nothing written, or, when COMMIT's answer was lost, all of it).
    """
    writer = PartWriter(connection, state, live or LiveRecords(connection))
    writer.begin(entry for tx in batch for entry in tx.entries)
    for tx in batch:
        writer.write(tx)
    writer.flush()
    writer.live.store(writer.writes)
    if also is not None:
        writer.writes.run()
        also()
    return _commit(writer)


class PartWriter:
    """Gives versions and stores rows; `state` runs ahead of the stored one until the caller commits.

    Rows come together until `flush`, so that a batch of many small txs costs no more statements than one large tx; and few rows
    wait in `writes` for the packet that commits them.
    """

    def __init__(self, connection: Connection[Any], state: State, live: LiveRecords) -> None:
        self.writes = Together(connection)
        self.live = live
        self._before = state
        self._head = state.head
        self._chain = state.chain
        self._tx = state.tx
        self._last: PendingTx | None = None
        self._anchor = state.anchor
        self._gtids: list[Gtid] = []
        self._changes: list[tuple[ChangeRow, bytes]] = []
        self._txs: list[_TxValues] = []

    def begin(self, entries: Iterable[Entry | Redelivery]) -> None:
        """Begin a transaction that will write these."""
        found = begin(self.writes.connection, READ_MENDED)
        self.live.begin(found[0] if found is not None else None)
        self.live.read(entries)

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
        """Write what has come together."""
        into = "sync_changes", CHANGE_COLUMNS
        store_rows(self.writes, into, self._changes, as_lines=_change_lines, as_values=_change_values)
        store_rows(self.writes, ("sync_tx", TX_COLUMNS), self._txs, as_lines=_tx_lines, as_values=_tx_values)
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
            self._txs.append(_tx_values_of(self._tx, self._before.epoch, tx, versions))

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
    """One tx stored in parts, each its own commit above the head; `finish` shows all of it at once."""

    def __init__(self, connection: Connection[Any], state: State, live: LiveRecords | None = None) -> None:
        self._state = state
        self._writer = PartWriter(connection, state, live or LiveRecords(connection))
        self._writer.open_tx()

    def append_part(self, part: PendingTx) -> None:
        """Store the next entries. They stay invisible; nothing else moves.

        Raises LeaseLost as `append` does: a successor has trimmed what is above the head, and gives these versions itself.
        """
        self._writer.begin(part.entries)
        require_lease(self._writer.writes.connection, self._state)
        self._writer.write_part(part)
        self._writer.flush()
        self._writer.writes.commit()

    def finish(self, last: PendingTx) -> State:
        """Store the last entries, then show the tx: newest versions, head and checkpoint in one commit. Returns the new state."""
        self._writer.begin(last.entries)
        self._writer.write_part(last)
        self._writer.close_tx(last, self._state.head)
        self._writer.flush()
        self._writer.live.store(self._writer.writes)
        return _commit(self._writer)


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


def change_literal(row: ChangeRow, chain: bytes) -> str:
    """The row as one SQL value list."""
    (
        company_id, version, table, record_id, operation, data, sealed, before, timestamp, tx, origin, origin_id,
        origin_device_id, is_exact, device_id, local_id, for_device, prev_version,
    ) = row  # fmt: skip
    return (
        f"({company_id},{version},{literal_again(table)},{record_id},{literal_again(operation)},{quoted(data)},"
        f"{literal(sealed)},{literal(before)},{literal_again(timestamp)},{tx},{literal_again(origin)},{literal(origin_id)},"
        f"{literal_again(origin_device_id)},{1 if is_exact else 0},{literal_again(device_id)},{literal(local_id)},"
        f"{literal_again(for_device)},{literal(prev_version)},{literal_bytes(chain)})"
    )


def _change_values(change: tuple[ChangeRow, bytes]) -> str:
    return change_literal(*change)


def _change_lines(changes: Iterable[tuple[ChangeRow, bytes]]) -> Iterator[bytes]:
    """Lines of rows; what JSON has no tabs and line ends in needs to have its backslashes escaped only."""
    number, told = 0, ""
    for (
        company_id, version, table, record_id, operation, data, sealed, before, timestamp, tx, origin, origin_id,
        origin_device_id, is_exact, device_id, local_id, for_device, prev_version,
    ), chain in changes:  # fmt: skip
        if tx != number:  # the same in all rows of a tx
            number = tx
            told = f"{timestamp}\t{tx}\t{origin}\t{field(origin_id)}\t{field(origin_device_id)}"
        text = (
            f"{company_id}\t{version}\t{table}\t{record_id}\t{operation}\t{data.replace(_ONE, _TWO)}\t"
            f"{_NULL if sealed is None else sealed.replace(_ONE, _TWO)}\t"
            f"{_NULL if before is None else before.replace(_ONE, _TWO)}\t"
            f"{told}\t{1 if is_exact else 0}\t{_NULL if device_id is None else field_again(device_id)}\t"
            f"{_NULL if local_id is None else field(local_id)}\t{_NULL if for_device is None else field_again(for_device)}\t"
            f"{_NULL if prev_version is None else prev_version}\t"
        )
        yield text.encode() + field_bytes(chain) + b"\n"


def _tx_values_of(number: int, epoch: int, tx: PendingTx, versions: tuple[int | None, int]) -> _TxValues:
    return (
        number,
        epoch,
        str(tx.gtid),
        tx.server_id,
        tx.commit_time_us,
        tx.file,
        tx.start_pos,
        tx.origin.kind.value,
        tx.origin.id,
        *versions,
        tx.statement,
    )


def _tx_values(values: _TxValues) -> str:
    return f"({','.join(map(literal, values))})"


def _tx_lines(rows: Iterable[_TxValues]) -> Iterator[bytes]:
    for values in rows:
        yield ("\t".join(map(field, values)) + "\n").encode()


def _commit(writer: PartWriter) -> State:
    state = writer.state()
    commit_moved(writer.writes, state)
    return state
