"""The newest version of each record, as sync_live holds it, read and written a batch at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

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


_DELETED: Final = 1
_PUT: Final = 2
_FLAG_BITS: Final = 2


class LiveRecords:
    """sync_live as one append sees it: what is stored, overlaid with what this append puts.

    A transaction of a million rows is one append, so each record is two integers here: its id, and its version with two flags.
    """

    def __init__(self, connection: Connection[Any]) -> None:
        self._connection = connection
        self._known: dict[tuple[int, str], dict[int, int]] = {}
        """Of a company's table, by record id: version, put, deleted; 0 where there is none."""
        self._makers: dict[RecordKey, tuple[str, str]] = {}

    def read(self, entries: Iterable[Entry | Redelivery]) -> None:
        """Read what is stored of these records, those already known left out."""
        keys = sorted({key for key in map(record_of, entries) if key[2] not in self._of(key)})
        for key in keys:
            self._of(key)[key[2]] = 0
        for start in range(0, len(keys), KEYS_PER_QUERY_MAX):
            part = keys[start : start + KEYS_PER_QUERY_MAX]
            text = ",".join(f"({company},{literal(table)},{record})" for company, table, record in part)
            with self._connection.cursor() as cursor:
                cursor.execute(_READ.format(keys=text))
                for company, table, record, version, is_deleted, device_id, local_id in cursor.fetchall():
                    maker = (device_id, local_id) if device_id is not None else None
                    self._set((company, table, record), LiveRecord(version, bool(is_deleted), maker), 0)

    def get(self, key: RecordKey) -> LiveRecord | None:
        """Return a record that was read or put."""
        packed = self._of(key).get(key[2])
        if not packed:
            return None
        return LiveRecord(packed >> _FLAG_BITS, bool(packed & _DELETED), self._makers.get(key))

    def put(self, key: RecordKey, record: LiveRecord) -> None:
        """Take over a newer version."""
        self._set(key, record, _PUT)

    def store(self) -> None:
        """Write all that was put."""
        insert_rows(self._connection, _STORE, self._take_put(), _STORE_NEWER)

    def _of(self, key: RecordKey) -> dict[int, int]:
        return self._known.setdefault(key[:2], {})

    def _set(self, key: RecordKey, record: LiveRecord, flag: int) -> None:
        self._of(key)[key[2]] = record.version << _FLAG_BITS | flag | record.is_deleted
        if record.maker is not None:
            self._makers[key] = record.maker
        else:
            self._makers.pop(key, None)

    def _take_put(self) -> Iterator[str]:
        for (company, table), records in sorted(self._known.items()):
            for record_id in sorted(records):
                if records[record_id] & _PUT:
                    key = (company, table, record_id)
                    yield _literal(key, self.get(key))
                    records[record_id] &= ~_PUT


def _literal(key: RecordKey, record: LiveRecord | None) -> str:
    assert record is not None
    device_id, local_id = record.maker or (None, None)
    return f"({','.join(map(literal, (*key, record.version, record.is_deleted, device_id, local_id)))})"
