"""Replay: a stretch of binlog read again and compared with the change log, and what is missing put back as it was.

A change that is missing comes back with its old version, byte for byte, or not at all: its number follows from sync_tx, its
content from the binlog, what it inherits from older changes, and the chain hash of the change after it proves all of it
(`gap.py`). Rows that differ or are too many are reported and never touched.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
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
from cdc.reread import Part, read_parts
from cdc.repair import Repair
from cdc.span import Span
from cdc.state import State, read_state
from cdc.stored import TxRow, read_txs, read_txs_between
from schema.errors import StartError
from schema.settings import MySQLAddress, Settings

SPOOL_MEMORY_BYTES_MAX = 16 * 1024 * 1024
_BATCH_CHANGES = 1000
_BATCH_PARTS = 500

_READ_COMMITTED = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"
_READ_BEGINNING = "SELECT gtid_set_before, @@server_uuid FROM schema_migrations WHERE id = 1"
_READ_MIN_VERSION = "SELECT min_version FROM sync_state WHERE id = 1"
_READ_SKIPPED = "SELECT details->>'$.gtid' FROM sync_audit WHERE action = 'checkpoint_skipped'"


@dataclass(slots=True)
class Summary:
    """Counts of one run. `txs_ahead`: transactions that the tailer has not reached; they were not compared."""

    txs: int = 0
    changes: int = 0
    differences: int = 0
    restored: int = 0
    txs_skipped: int = 0
    txs_ahead: int = 0


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
        with connection.cursor() as cursor:
            cursor.execute(_READ_COMMITTED)
            connection.commit()
            cursor.execute(_READ_BEGINNING)
            beginning = cursor.fetchone()
            cursor.execute(_READ_SKIPPED)
            self._skipped = {str(row[0]) for row in cursor.fetchall()}
            cursor.execute(_READ_MIN_VERSION)
            floor = cursor.fetchone()
        self._state = read_state(connection)
        if beginning is None or floor is None:
            raise StartError("no_change_log", "there is no change log yet", hint="run `matrix-sync migrate`")
        self._beginning = GtidSet.parse(beginning[0])
        self._is_same_server = beginning[1] == self._state.server_uuid
        self._min_version = int(floor[0])
        self._missing = MissingTxs(connection, address, settings, self._is_expected)
        self._resolved: dict[str, TxRow | None] = {}
        self._last_number: int | None = None

    def run(self) -> Iterator[Difference]:
        """Yield each difference as it is settled. Raises Halt where the binlog cannot be decoded."""
        with tempfile.SpooledTemporaryFile(max_size=SPOOL_MEMORY_BYTES_MAX) as file:
            spool = Spool(file)
            lineage = Lineage(self._connection, spool)
            live = LiveCheck(self._connection)
            comparer = ChangeComparer(self._connection, spool, lineage, live, self._repair, self._min_version)
            for difference in self._differences(comparer, live):
                self.summary.differences += 1
                self.summary.restored += difference.is_restored
                yield difference

    def _differences(self, comparer: ChangeComparer, live: LiveCheck) -> Iterator[Difference]:
        for batch in _batches(read_parts(self._address, self._settings, self._span)):
            rows = read_txs(self._connection, [str(part.tx.gtid) for part in batch if part.is_first and part.tx.is_recorded])
            known = self._known(batch, rows)
            comparer.prefetch([row for row in known.values() if row])
            for part in batch:
                if part.is_first and part.tx.is_recorded:
                    if not self._is_reached(part.tx):
                        yield from comparer.close()
                        yield from live.differences(self._repair)
                        return
                    yield from self._begin(comparer, part.tx, known.get(str(part.tx.gtid)))
                if part.tx.entries or part.is_last:
                    yield from comparer.compare(part)
            live.look()
        yield from comparer.close()
        yield from live.differences(self._repair)
