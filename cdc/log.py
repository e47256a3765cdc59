"""Appends to the change log: versions, rows, head and checkpoint in one MySQL transaction, under the fencing token.

A tx larger than a batch is stored in parts above the head, where no pull looks, and shown by one last commit: memory stays
bounded, and a crash on the way leaves nothing but rows that `trim_above_head` takes away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from pymysql.connections import Connection

from cdc.change_row import ChangeRow, RecordKey, complete_row, inherited_columns, record_of, told_columns
from cdc.entries import Entry, PendingTx, Redelivery
from cdc.live import LiveRecord, LiveRecords
from cdc.sql import insert_rows, literal, literal_bytes
from cdc.state import Anchor, State, move_state, require_lease, with_gtids
from schema.connect import read_timeout
from schema.versions import advance

CHANGE_COLUMNS = (
    "company_id, version, table_name, record_id, operation, data, sealed, `before`, timestamp, tx, origin, origin_id, "
    "origin_device_id, is_exact, device_id, local_id, for_device, prev_version, chain"
)
TX_COLUMNS = (
    "tx, epoch, gtid, server_id, commit_time_us, binlog_file, binlog_pos, origin, origin_id, first_version, last_version, statement"
)
COMMIT_SECONDS_MAX = 120
"""A COMMIT may wait for a slow disk longer than any other statement; what became of one that was given up, the next pass reads."""
_TRIM = "DELETE FROM sync_changes WHERE version > %s LIMIT 10000"
_READ_NEWEST = "SELECT operation, data, sealed FROM sync_changes WHERE company_id = %s AND version = %s"


def append(connection: Connection[Any], state: State, batch: Sequence[PendingTx], also: Callable[[], None] | None = None) -> State:
    """Store whole committed txs and move head and checkpoint, in one MySQL transaction. Returns the new state.

    Versions are head + 1 …, one per change, without gaps, in binlog order. A batch without changes still moves the GTID set.
    `also` writes what must be true together with it.
    Raises LeaseLost (nothing written) and pymysql errors (nothing written, or, when COMMIT's answer was lost, all of it).
    """
    connection.begin()
    writer = PartWriter(connection, state)
    writer.live.read(entry for tx in batch for entry in tx.entries)
    for tx in batch:
        writer.write(tx)
    writer.flush()
    writer.live.store()
    if also is not None:
        also()
    return _commit_moved(connection, writer)


class PartWriter:
    """Gives versions and stores rows; `state` runs ahead of the stored one until the caller commits.

    Rows come together until `flush`, so that a batch of many small txs costs no more statements than one large tx.
    """

    def __init__(self, connection: Connection[Any], state: State) -> None:
        self.connection = connection
        self.state = state
        self.live = LiveRecords(connection)
        self._changes: list[str] = []
        self._txs: list[str] = []

    def flush(self) -> None:
        """Store what has come together."""
        insert_rows(self.connection, f"INSERT INTO sync_changes ({CHANGE_COLUMNS}) VALUES ", self._changes)
        insert_rows(self.connection, f"INSERT INTO sync_tx ({TX_COLUMNS}) VALUES ", self._txs)
        self._changes, self._txs = [], []

    def write(self, tx: PendingTx) -> None:
        """Take a tx that fits a batch, with its row in sync_tx; its records have been read into `live`."""
        first = self.state.head
        self.state = replace(self.state, tx=advance(self.state.tx, 1)) if tx.is_recorded else self.state
        self.write_part(tx)
        self.close_tx(tx, first)

    def write_part(self, tx: PendingTx) -> None:
        """Take these entries under the present tx number."""
        chain = self.state.chain
        version = self.state.head
        for entry in tx.entries:
            row = self._row(tx, entry, advance(version, 1))
            if row is not None:
                version, chain = row.version, row.chained(chain)
                self._changes.append(change_literal(row, chain))
        self.state = replace(self.state, head=version, chain=chain)

    def close_tx(self, tx: PendingTx, head_before: int) -> None:
        """Record a finished tx in sync_tx, where it has to be, and its GTIDs in the checkpoint to come."""
        gtid_set = with_gtids(self.state.gtid_set, tx.gtids_done)
        anchor = Anchor(tx.gtid, tx.commit_time_us) if tx.gtids_done[-1:] == (tx.gtid,) else self.state.anchor
        self.state = replace(self.state, gtid_set=gtid_set, file=tx.file, pos=tx.end_pos, anchor=anchor)
        if tx.is_recorded:
            has_changes = self.state.head > head_before
            versions = (head_before + 1 if has_changes else None, self.state.head)
            self._txs.append(_tx_literal(self.state, tx, versions))

    def _row(self, tx: PendingTx, entry: Entry | Redelivery, version: int) -> ChangeRow | None:
        key = record_of(entry)
        previous = self.live.get(key)
        told = told_columns(tx, self.state.tx, entry)
        if isinstance(entry, Redelivery):
            newest = self._read_newest(key, previous)
            if newest is None:
                return None
            told |= newest
        row = complete_row(version, told, inherited_columns(entry, previous))
        if isinstance(entry, Entry):  # a redelivery supersedes nothing, so sync_live does not learn of it
            maker = (row.device_id, row.local_id) if row.device_id is not None and row.local_id is not None else None
            self.live.put(key, LiveRecord(version, entry.change.is_deleted, maker))
        return row

    def _read_newest(self, key: RecordKey, newest: LiveRecord | None) -> dict[str, Any] | None:
        """What a redelivery repeats; None where the change log has nothing of the record yet."""
        if newest is None:
            return None
        self.flush()  # the newest may be among what has come together
        with self.connection.cursor() as cursor:
            cursor.execute(_READ_NEWEST, (key[0], newest.version))
            found = cursor.fetchone()
        return dict(zip(("operation", "data", "sealed"), found, strict=True)) if found is not None else None


class LargeTx:
    """One tx stored in parts, each its own commit above the head; `finish` shows all of it at once."""

    def __init__(self, connection: Connection[Any], state: State) -> None:
        self._connection = connection
        self._head_before = state.head
        self._writer = PartWriter(connection, replace(state, tx=advance(state.tx, 1)))

    def append_part(self, part: PendingTx) -> None:
        """Store the next entries. They stay invisible; nothing else moves.

        Raises LeaseLost as `append` does: a successor has trimmed what is above the head, and gives these versions itself.
        """
        self._connection.begin()
        require_lease(self._connection, self._writer.state)
        self._write(part)
        _commit(self._connection)

    def _write(self, part: PendingTx) -> None:
        self._writer.live.read(part.entries)
        self._writer.write_part(part)
        self._writer.flush()

    def finish(self, last: PendingTx) -> State:
        """Store the last entries, then show the tx: newest versions, head and checkpoint in one commit. Returns the new state."""
        self._connection.begin()
        self._write(last)
        self._writer.close_tx(last, self._head_before)
        self._writer.flush()
        self._writer.live.store()
        return _commit_moved(self._connection, self._writer)


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
    return f"({','.join(map(literal, row.values()))},{literal_bytes(chain)})"


def _tx_literal(state: State, tx: PendingTx, versions: tuple[int | None, int]) -> str:
    values: Iterable[Any] = (
        state.tx,
        state.epoch,
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
    return f"({','.join(map(literal, values))})"


def _commit_moved(connection: Connection[Any], writer: PartWriter) -> State:
    move_state(connection, writer.state)
    _commit(connection)
    return writer.state


def _commit(connection: Connection[Any]) -> None:
    with read_timeout(connection, COMMIT_SECONDS_MAX):
        connection.commit()
