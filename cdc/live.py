"""The newest version of each record, as sync_live holds it, read and written a batch at a time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pymysql.connections import Connection

from cdc.change_row import RecordKey, record_of
from cdc.entries import Entry, Redelivery
from cdc.sql import insert_rows, literal

KEYS_PER_QUERY_MAX = 1000

_READ = """
SELECT company_id, table_name, record_id, version, is_deleted, device_id, local_id FROM sync_live
WHERE (company_id, table_name, record_id) IN ({keys})
"""
_STORE = "INSERT INTO sync_live (company_id, table_name, record_id, version, is_deleted, device_id, local_id) VALUES "
_STORE_NEWER = """ AS new ON DUPLICATE KEY UPDATE
    version = new.version, is_deleted = new.is_deleted, device_id = new.device_id, local_id = new.local_id"""


@dataclass(frozen=True, slots=True)
class LiveRecord:
    """`maker` is (device_id, local_id) of the device that made the record."""

    version: int
    is_deleted: bool
    maker: tuple[str, str] | None


class LiveRecords:
    """sync_live as one append sees it: what is stored, overlaid with what this append puts."""

    def __init__(self, connection: Connection[Any]) -> None:
        self._connection = connection
        self._known: dict[RecordKey, LiveRecord | None] = {}
        self._put: set[RecordKey] = set()

    def read(self, entries: Iterable[Entry | Redelivery]) -> None:
        """Read what is stored of these records, those already known left out."""
        wanted = {record_of(entry) for entry in entries} - self._known.keys()
        keys = sorted(wanted)
        self._known.update(dict.fromkeys(keys))
        for start in range(0, len(keys), KEYS_PER_QUERY_MAX):
            part = keys[start : start + KEYS_PER_QUERY_MAX]
            text = ",".join(f"({company},{literal(table)},{record})" for company, table, record in part)
            with self._connection.cursor() as cursor:
                cursor.execute(_READ.format(keys=text))
                for company, table, record, version, is_deleted, device_id, local_id in cursor.fetchall():
                    maker = (device_id, local_id) if device_id is not None else None
                    self._known[company, table, record] = LiveRecord(version, bool(is_deleted), maker)

    def get(self, key: RecordKey) -> LiveRecord | None:
        """Return a record that was read or put."""
        return self._known.get(key)

    def put(self, key: RecordKey, record: LiveRecord) -> None:
        """Take over a newer version."""
        self._known[key] = record
        self._put.add(key)

    def store(self) -> None:
        """Write all that was put."""
        rows = (_literal(key, self._known[key]) for key in sorted(self._put))
        insert_rows(self._connection, _STORE, rows, _STORE_NEWER)
        self._put.clear()


def _literal(key: RecordKey, record: LiveRecord | None) -> str:
    assert record is not None
    device_id, local_id = record.maker or (None, None)
    return f"({','.join(map(literal, (*key, record.version, record.is_deleted, device_id, local_id)))})"
