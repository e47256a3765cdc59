"""Replay: a stretch of binlog read again and compared with the change log, and what is missing put back as it was.

A change that is missing comes back with its old version, byte for byte, or not at all: its number follows from sync_tx, its
content from the binlog, what it inherits from older changes, and the chain hash of the change after it proves all of it
(`gap.py`). Rows that differ or are too many are reported and never touched.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from pymysql.connections import Connection

from cdc.compare import ChangeComparer
from cdc.differences import Difference, Kind, columns_that_differ
from cdc.entries import PendingTx
from cdc.expected import told_tx_columns
from cdc.gtid import Gtid, GtidSet
from cdc.lineage import Lineage, Spool
from cdc.live_check import LiveCheck
from cdc.missing_tx import MissingTxs, recorded_tx
from cdc.repair import Repair
from cdc.reread import Part, read_parts
from cdc.span import Span
from cdc.state import read_state
from cdc.stored import TxRow, read_txs, read_txs_between
from schema.changes import OriginKind
from schema.errors import StartError
from schema.settings import MySQLAddress, Settings

SPOOL_MEMORY_BYTES_MAX = 16 * 1024 * 1024
_BATCH_CHANGES = 1000
_BATCH_PARTS = 500
_NOT_EXACT = (
    "cannot be restored: its neighbours do not leave exactly the room it needs; begin --from earlier, or it was never stored"
)

_READ_COMMITTED = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"
_READ_BEGINNING = """
SELECT m.gtid_set_before,
    @@server_uuid = s.server_uuid AND NOT EXISTS (SELECT 1 FROM sync_audit WHERE action = 'server_changed'), r.txs_before_us
FROM schema_migrations m JOIN sync_state s JOIN sync_retention r WHERE m.id = 1
"""
_READ_SKIPPED = """
SELECT COALESCE(details->>'$.gtids', details->>'$.gtid') FROM sync_audit WHERE action = 'checkpoint_skipped'
"""


@dataclass(slots=True)
class Summary:
    """Counts of one run. `txs_outside` were before the change log began, skipped by an operator, or pruned; `ahead` is the first
    transaction that the tailer has not reached, where the comparison ended."""

    txs: int = 0
    changes: int = 0
    differences: int = 0
    restored: int = 0
    txs_outside: int = 0
    ahead: str | None = None


class Replay:
    """One run over one span. Without a `repair` nothing is written."""

    def __init__(
        self, connection: Connection[Any], address: MySQLAddress, settings: Settings, span: Span, repair: Repair | None
    ) -> None:
        self._connection = connection
        self._address = address
        self._settings = settings
        self._span = span
        self._repair = repair
        self.summary = Summary()
        connection.autocommit(True)  # each look sees what the tailer has committed, and holds no lock against DDL
        with connection.cursor() as cursor:
            cursor.execute(_READ_COMMITTED)  # for the repairs: fewer gaps locked before the tailer's inserts
            cursor.execute(_READ_BEGINNING)
            row = cursor.fetchone()
            cursor.execute(_READ_SKIPPED)
            self._skipped = GtidSet.parse(",".join(str(found[0]) for found in cursor.fetchall()))
        if row is None:
            raise StartError("no_change_log", "there is no change log yet", hint="run `matrix-sync migrate`")
        self._beginning, self._is_same_server, self._pruned_before_us = GtidSet.parse(row[0]), bool(row[1]), int(row[2])
        self._state = read_state(connection)
        self._missing = MissingTxs(connection, address, settings, self._is_outside)
        self._resolved: dict[str, TxRow | None] = {}
        self._row: TxRow | None = None
        self._last_number: int | None = None

    def run(self) -> Iterator[Difference]:
        """Yield each difference as it is settled. Raises Halt where the binlog cannot be decoded."""
        with tempfile.SpooledTemporaryFile(max_size=SPOOL_MEMORY_BYTES_MAX) as file:
            spool = Spool(file)
            lineage, live = Lineage(self._connection, spool), LiveCheck(self._connection)
            comparer = ChangeComparer(self._connection, spool, lineage, live, self._repair)
            for difference in self._compare(comparer, live):
                self.summary.differences += 1
                self.summary.restored += difference.is_restored
                yield difference
            self.summary.changes = comparer.compared

    def _compare(self, comparer: ChangeComparer, live: LiveCheck) -> Iterator[Difference]:
        for batch in _batches(read_parts(self._address, self._settings, self._span)):
            gtids = [str(part.tx.gtid) for part in batch if part.is_first and part.tx.is_recorded]
            recorded = read_txs(self._connection, gtids)
            pairs: list[tuple[Part, TxRow]] = []
            for part in batch:
                if part.is_first:
                    self._row = None
                    if part.tx.is_recorded and not self._is_reached(part.tx.gtid):
                        self.summary.ahead = str(part.tx.gtid)
                        break
                    if part.tx.is_recorded:
                        yield from self._find_row(part.tx, recorded)
                if self._row is not None:
                    pairs.append((part, self._row))
            yield from comparer.compare(pairs)
            live.look()
            if self.summary.ahead:
                break
        yield from comparer.close()
        yield from live.differences(self._repair)

    def _find_row(self, tx: PendingTx, recorded: list[TxRow]) -> Iterator[Difference]:
        """Set the tx's row, as recorded or as its neighbours tell it, and report what is wrong with it."""
        row = recorded_tx([found for found in recorded if found.gtid == str(tx.gtid)], tx)
        if row is None and self._is_outside(tx):
            self.summary.txs_outside += 1
            return
        self.summary.txs += 1
        if row is None:
            row = self._resolve(tx)
            where = {"gtid": str(tx.gtid), "file": tx.file, "pos": tx.start_pos}
            if row is None:
                yield Difference(Kind.MISSING, "sync_tx", where, note=_NOT_EXACT)
                return
            if self._repair is not None:
                self._repair.restore_tx(row)
            told = {**where, "tx": row.tx, "first_version": row.first_version, "last_version": row.last_version}
            yield Difference(Kind.MISSING, "sync_tx", told, is_restored=self._repair is not None)
        else:
            columns = columns_that_differ(asdict(row), told_tx_columns(tx))
            if columns:
                yield Difference(Kind.DIFFERENT, "sync_tx", {"gtid": row.gtid, "tx": row.tx}, columns)
        yield from self._extra_txs(row)
        if row.origin != OriginKind.RECONCILE:  # its changes come from tables, not from the binlog
            self._row = row

    def _resolve(self, tx: PendingTx) -> TxRow | None:
        gtid = str(tx.gtid)
        if gtid not in self._resolved:
            self._resolved = self._missing.resolve(tx, self._state)
        return self._resolved.get(gtid)

    def _extra_txs(self, row: TxRow) -> Iterator[Difference]:
        """Recorded transactions between this one and the last that the binlog does not have between them."""
        last, self._last_number = self._last_number, row.tx
        if last is None or not self._is_same_server or row.tx <= last + 1:
            return
        for extra in read_txs_between(self._connection, last + 1, row.tx - 1):
            if extra.origin != OriginKind.RECONCILE:
                where = {
                    "gtid": extra.gtid,
                    "tx": extra.tx,
                    "first_version": extra.first_version,
                    "last_version": extra.last_version,
                }
                yield Difference(Kind.EXTRA, "sync_tx", where, note="the binlog has no such transaction here")

    def _is_reached(self, gtid: Gtid) -> bool:
        """Whether the checkpoint claims a transaction; it may have moved since we looked."""
        if gtid not in self._state.gtid_set:
            self._state = read_state(self._connection)
        return gtid in self._state.gtid_set

    def _is_outside(self, tx: PendingTx) -> bool:
        """Whether the change log is not to hold a transaction: it never was, or retention has pruned it."""
        is_old = tx.commit_time_us <= self._pruned_before_us
        return is_old or tx.gtid in self._beginning or tx.gtid in self._skipped


def _batches(parts: Iterable[Part]) -> Iterator[list[Part]]:
    batch: list[Part] = []
    changes = 0
    for part in parts:
        batch.append(part)
        changes += len(part.tx.entries)
        if changes >= _BATCH_CHANGES or len(batch) >= _BATCH_PARTS:
            yield batch
            batch, changes = [], 0
    if batch:
        yield batch
