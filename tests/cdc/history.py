"""A change log written by the tailer's own append, without a binlog: small, exact and fast."""

from __future__ import annotations

import itertools
import time
from typing import Any

from pymysql.connections import Connection

from cdc.entries import Entry, PendingTx, Redelivery
from cdc.gtid import Gtid
from cdc.log import append
from cdc.state import State
from schema.changes import EXTERNAL, Operation, Origin, RecordChange
from tests.sql_client import SqlClient

UUID = "22222222-2222-2222-2222-222222222222"
FIRST_US = time.time_ns() // 1000 - 24 * 3600 * 1_000_000
_numbers = itertools.count(1)

EMPTY = (
    *(f"DELETE FROM {table}" for table in ("sync_changes", "sync_live", "sync_tx", "sync_pruned", "sync_pushed", "sync_origins")),
    "DELETE FROM sync_redeliveries",
    "DELETE FROM sync_epochs WHERE epoch > 0",
    "UPDATE sync_state SET epoch = 0, head = 1, tx = 0, min_version = 1, gtid_set = '', chain = REPEAT(x'00', 32)",
    "UPDATE sync_retention SET images_walked = 1, images_from = 1, tombstones_walked = 1, txs_walked = 0, txs_before_us = 0",
)


def change(record_id: int, operation: Operation = Operation.UPDATE, *, company: int = 1, data: str | None = None) -> Entry:
    """One change of a party; its data says which version of the record it is."""
    text = data if data is not None else f'{{"id":{record_id},"n":{next(_numbers)}}}'
    return Entry(RecordChange(company, "parties", record_id, operation, text, None, None, operation is Operation.DELETE))


def inserted(record_id: int, *, company: int = 1) -> Entry:
    return change(record_id, Operation.INSERT, company=company)


def deleted(record_id: int, *, company: int = 1) -> Entry:
    return change(record_id, Operation.DELETE, company=company)


def again(record_id: int, device_id: str, *, company: int = 1) -> Redelivery:
    return Redelivery(company, device_id, "parties", record_id)


def tx(*entries: Entry | Redelivery, origin: Origin = EXTERNAL) -> PendingTx:
    """A tx with a GTID of its own, a second after the one before."""
    number = next(_numbers)
    gtid = Gtid.parse(f"{UUID}:{number}")
    return PendingTx(
        gtid=gtid, gtids_done=(gtid,), server_id=1, commit_time_us=FIRST_US + number * 1_000_000, file="binlog.000001",
        start_pos=number, end_pos=number + 1, origin=origin, statement=None, entries=entries, is_recorded=True,
    )  # fmt: skip


class History:
    """Appends txs and remembers what each version says, as an independent witness."""

    def __init__(self, connection: Connection[Any], state: State, sql: SqlClient) -> None:
        self.connection = connection
        self.state = state
        self.sql = sql
        self.images: list[tuple[int, int, str | None]] = []
        """Version, record, data; None where it is a deletion."""

    def write(self, *entries: Entry | Redelivery, origin: Origin = EXTERNAL) -> int:
        """One tx; returns the head after it."""
        before = self.state.head
        self.state = append(self.connection, self.state, [tx(*entries, origin=origin)])
        for version, entry in enumerate(entries, before + 1):
            if isinstance(entry, Entry):
                is_deleted = entry.change.operation is Operation.DELETE
                self.images.append((version, entry.change.record_id, None if is_deleted else entry.change.data))
        return self.state.head

    def rows_at(self, version: int) -> dict[int, str]:
        """Live rows at a version."""
        rows: dict[int, str] = {}
        for at, record_id, data in self.images:
            if at <= version:
                rows.pop(record_id, None)
                if data is not None:
                    rows[record_id] = data
        return rows

    @property
    def versions(self) -> list[int]:
        """Versions that are kept."""
        return [row[0] for row in self.sql.rows("SELECT version FROM sync_changes ORDER BY version")]
