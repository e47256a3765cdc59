"""The newest version of each record, as sync_live holds it: read where it must be, remembered while that is exact, written a batch
at a time.

What the holder of the lease has read or written needs no second look, for nobody else moves a record forward. Three may write
sync_live beside it. Retention deletes tombstones, so what is deleted is remembered for one MySQL transaction only. A replay that
puts rows back counts that in sync_state, in the same commit: a count that has moved ends all memory, and whatever was made of it.
Another tailer has another fencing token; then nothing of ours is committed any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

from pymysql.connections import Connection

from cdc.change_row import RecordKey, record_of
from cdc.entries import Entry, Redelivery
from cdc.load import field, field_again
from cdc.sql import insert_rows, literal, literal_again, store_rows
from cdc.together import Together
from schema.errors import Retry

KEYS_PER_QUERY_MAX = 1000
RECORDS_KEPT_MAX = 200_000
"""Records remembered from one append to the next: some 30 MB. With more of them all are forgotten."""
ROWS_WAITING_MAX = 50_000
"""Of a transaction of millions no more rows wait to be written than these: some 15 MB."""
COUNT_MENDED: Final = "UPDATE sync_state SET live_mended = live_mended + 1 WHERE id = 1"
"""Last in the transaction of whoever puts rows back into sync_live beside the tailer."""
READ_MENDED: Final = "SELECT live_mended FROM sync_state WHERE id = 1"

_READ = """
SELECT company_id, table_name, record_id, version, is_deleted, device_id, local_id FROM sync_live
WHERE (company_id, table_name, record_id) IN ({keys})
"""
_READ_HIGHEST = "SELECT MAX(record_id) FROM sync_live WHERE table_name = %s"
_INTO = ("sync_live", "company_id, table_name, record_id, version, is_deleted, device_id, local_id")
_STORE_NEWER = """ AS new ON DUPLICATE KEY UPDATE
    version = new.version, is_deleted = new.is_deleted, device_id = new.device_id, local_id = new.local_id"""

_Row = tuple[int, str, int, int, int, str | None, str | None]
"""A row of sync_live."""

_UNASKED: Final = -1
"""Nothing is remembered yet."""
_DELETED: Final = 1
_FLAG_BITS: Final = 1


class LiveRecord(NamedTuple):
    """`maker` is (device_id, local_id) of the device that made the record."""

    version: int
    is_deleted: bool
    maker: tuple[str, str] | None


class _Records:
    """A company's records of one table, by id: version and flag in one number, for a transaction may hold a million; 0 is none."""

    __slots__ = ("known", "makers", "put")

    def __init__(self) -> None:
        self.known: dict[int, int] = {}
        self.put: dict[int, int] = {}
        self.makers: dict[int, tuple[str, str]] = {}

    def forget(self) -> None:
        self.known.clear()
        self.makers = {record_id: maker for record_id, maker in self.makers.items() if record_id in self.put}


class LiveRecords:
    """sync_live as one holder of the lease sees it: what is stored, overlaid with what was put and not stored yet.

    After an error, whether of a COMMIT or before it, it must not be used again.
    """

    def __init__(self, connection: Connection[Any]) -> None:
        self._connection = connection
        self._tables: dict[tuple[int, str], _Records] = {}
        self._highest: dict[str, int] = {}
        """By table, the highest id that sync_live may hold: a record above it is not there."""
        self._passing: list[tuple[_Records, int]] = []
        """Records that were read as deleted."""
        self._mended = _UNASKED
        self._kept = 0

    def begin(self) -> None:
        """First for each MySQL transaction: give up the tombstones that were read, which retention may take."""
        for records, record_id in self._passing:
            records.known.pop(record_id, None)
        self._passing.clear()

    def note_mended(self, mended: int) -> None:
        """Give up what somebody else may have changed. `mended` is the answer to `READ_MENDED` in the transaction that begins."""
        if mended != self._mended:
            self._mended = mended
            self._forget()

    @property
    def is_as_known(self) -> str:
        """A condition in SQL on the row of sync_state: what is remembered is as it is stored."""
        return f"live_mended = {literal(self._mended)}" if self._mended != _UNASKED else "TRUE"

    def confirm(self, mended: int) -> None:
        """Raise Retry where what is remembered, and was used before the transaction began, is not as it is stored any more."""
        if self._mended not in (_UNASKED, mended):
            raise live_mended()

    def unknown(self, entries: Iterable[Entry | Redelivery]) -> list[RecordKey]:
        """Those records that MySQL has to be asked for."""
        tables, highest = self._tables, self._highest
        wanted = set()
        for entry in entries:
            company, table, record_id = key = record_of(entry)
            records = tables.get((company, table))
            if records is None:
                records = tables[company, table] = _Records()
            if record_id not in records.put and record_id not in records.known and record_id <= highest.get(table, record_id):
                wanted.add(key)
        return sorted(wanted)

    def read(self, unknown: Iterable[RecordKey]) -> None:
        """Read what is stored of these records."""
        highest = self._highest
        keys = []
        for key in unknown:
            _, table, record_id = key
            if table not in highest:
                highest[table] = self._read_highest(table)
            if record_id <= highest[table]:
                keys.append(key)
        for start in range(0, len(keys), KEYS_PER_QUERY_MAX):
            self._read_keys(keys[start : start + KEYS_PER_QUERY_MAX])

    def get(self, company: int, table: str, record_id: int) -> LiveRecord | None:
        """Return a record that was read or put."""
        records = self._tables.get((company, table))
        packed = records and (records.put.get(record_id) or records.known.get(record_id))
        if not packed:
            return None
        assert records is not None
        return LiveRecord(packed >> _FLAG_BITS, bool(packed & _DELETED), records.makers.get(record_id))

    def supersede(
        self, company: int, table: str, record_id: int, version: int, is_deleted: bool, maker: tuple[str, str] | None
    ) -> tuple[int | None, tuple[str, str] | None]:
        """Take over a newer version of a record that was read or put; the version before it, and the record's maker from now on.

        `maker` is who made it, where the newer version says so.
        """
        records = self._tables[company, table]
        put = records.put
        older = put.get(record_id) or records.known.get(record_id)
        put[record_id] = version << _FLAG_BITS | is_deleted
        if maker is not None:
            records.makers[record_id] = maker
        elif records.makers:
            if older:
                maker = records.makers.get(record_id)
            else:
                records.makers.pop(record_id, None)
        return older >> _FLAG_BITS if older else None, maker

    def store(self, writes: Together, settle: Callable[[], object] = lambda: None) -> None:
        """Have all that was put written with what else the transaction writes. Of very many, all but the last go now.

        `settle` waits until the connection is free.
        """
        new: list[_Row] = []
        known: list[_Row] = []
        for (company, table), records in sorted(self._tables.items()):
            put, stored, makers = records.put, records.known, records.makers
            for record_id in sorted(put):
                packed = put[record_id]
                device_id, local_id = makers.get(record_id) or (None, None)
                row = company, table, record_id, packed >> _FLAG_BITS, packed & _DELETED, device_id, local_id
                (known if stored.get(record_id) else new).append(row)
                if len(new) + len(known) == ROWS_WAITING_MAX:
                    _put(writes, new, known)
                    settle()
                    writes.run()
                    new, known = [], []
        _put(writes, new, known)
        if self._kept + sum(len(records.put) for records in self._tables.values()) > RECORDS_KEPT_MAX:
            self._tables.clear()
            self._highest.clear()
            self._kept = 0
            return
        for (_, table), records in self._tables.items():
            self._keep(table, records)

    def _keep(self, table: str, records: _Records) -> None:
        """Remember what has been stored. A tombstone is asked for again: retention may have taken it."""
        if not records.put:
            return
        if table in self._highest:
            self._highest[table] = max(self._highest[table], *records.put)
        for record_id, packed in records.put.items():
            if packed & _DELETED:
                records.known.pop(record_id, None)
                records.makers.pop(record_id, None)
            else:
                records.known[record_id] = packed
        self._kept += len(records.put)
        records.put.clear()

    def _read_highest(self, table: str) -> int:
        with self._connection.cursor() as cursor:
            cursor.execute(_READ_HIGHEST, (table,))
            (highest,) = cursor.fetchone() or (None,)
        return highest or 0

    def _read_keys(self, keys: list[RecordKey]) -> None:
        for company, table, record_id in keys:
            records = self._tables[company, table]
            records.known[record_id] = 0
            records.makers.pop(record_id, None)
        self._kept += len(keys)
        text = ",".join(f"({company},{literal_again(table)},{record_id})" for company, table, record_id in keys)
        with self._connection.cursor() as cursor:
            cursor.execute(_READ.format(keys=text))
            for company, table, record_id, version, is_deleted, device_id, local_id in cursor.fetchall():
                records = self._tables[company, table]
                records.known[record_id] = version << _FLAG_BITS | bool(is_deleted)
                if device_id is not None:
                    records.makers[record_id] = (device_id, local_id)
                if is_deleted:
                    self._passing.append((records, record_id))

    def _forget(self) -> None:
        self._highest.clear()
        self._kept = 0
        for records in self._tables.values():
            records.forget()


def live_mended() -> Retry:
    """What was made of memory alone is to be made anew."""
    return Retry("live_mended", "a replay has put back rows of sync_live meanwhile")


def _put(writes: Together, new: list[_Row], known: list[_Row]) -> None:
    store_rows(writes, _INTO, new, as_lines=_lines, as_values=_values, tail=_STORE_NEWER)
    insert_rows(writes.put, f"INSERT INTO {_INTO[0]} ({_INTO[1]}) VALUES ", map(_values, known), _STORE_NEWER)


def _values(row: _Row) -> str:
    company, table, record_id, version, is_deleted, device_id, local_id = row
    return f"({company},{literal_again(table)},{record_id},{version},{is_deleted},{literal_again(device_id)},{literal(local_id)})"


def _lines(rows: Iterable[_Row]) -> Iterator[bytes]:
    for company, table, record_id, version, is_deleted, device_id, local_id in rows:
        text = f"{company}\t{table}\t{record_id}\t{version}\t{is_deleted}\t{field_again(device_id)}\t{field(local_id)}\n"
        yield text.encode()
