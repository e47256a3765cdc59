"""The change log against the tables, whole and online: every record whose newest image is not the row.

Range by range, rows are compared with newest images. While others write, the tailer is always a little behind, so what differs is
only a suspicion. It is confirmed when both are read again, the change log first with the checkpoint in the same snapshot, and no
transaction that the checkpoint lacks touches the row: then nothing that is under way can explain it. What such a transaction does
touch is looked at again, and counted as undecided where that does not end.

Writes nothing, needs no tailer, holds no locks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pymysql.connections import Connection

from cdc.gtid import GtidSet
from cdc.newest import NewestImage, read_bound, read_newest_ids, read_newest_range
from cdc.row_differences import RowDifference, find_differences
from cdc.runs import ID_MAX
from cdc.status import read_tailer_status
from cdc.table_rows import Row, TableRows
from cdc.unread import RecordId, read_unread
from schema.errors import Halt
from schema.settings import MySQLAddress
from schema.tables import TABLES, Table

CHUNK_ROWS: Final = 1000
CHUNK_BYTES: Final = 8 * 1024 * 1024
SUSPECTS_MAX: Final = 10_000
"""Records that are looked at again together."""
ROUNDS_MAX: Final = 12
PAUSE_SECONDS: Final = 0.05
_PAUSE_SECONDS_MAX: Final = 2.0
_IDS_PER_QUERY: Final = 1000
_LOCK_WAIT_SECONDS: Final = 60

_BEGIN_SNAPSHOT = "START TRANSACTION WITH CONSISTENT SNAPSHOT"
_READ_CHECKPOINT = "SELECT gtid_set FROM sync_state WHERE id = 1"


@dataclass(slots=True)
class Summary:
    """Counts of one run. `undecided`: records that transactions touch which the change log does not have yet. `unreadable` says
    why the binlog after the checkpoint could not be read: differences may then be of transactions that are still to come."""

    tables: int = 0
    rows: int = 0
    differences: int = 0
    undecided: int = 0
    unreadable: str = ""


class Verification:
    """One run over some tables. `address` is an account that may read tables and binlog."""

    def __init__(
        self,
        connection: Connection[Any],
        address: MySQLAddress,
        tables: Sequence[Table] = tuple(TABLES.values()),
        progress: Callable[[str, int], None] = lambda table, rows: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._connection = connection
        self._address = address
        self._tables = tables
        self._progress = progress
        self._sleep = sleep
        self.summary = Summary()

    def run(self) -> Iterator[RowDifference]:
        """Yield each difference once it is confirmed. Raises Halt where a row cannot be read, and pymysql errors."""
        suspects: list[RecordId] = []
        with TableRows(self._address, lock_wait_seconds=_LOCK_WAIT_SECONDS) as rows:
            for table in self._tables:
                for found in self._compare_table(table, rows):
                    suspects.append((table.name, found.record_id))
                    if len(suspects) >= SUSPECTS_MAX:
                        yield from self._confirm(suspects, rows)
                        suspects = []
                self.summary.tables += 1
            yield from self._confirm(suspects, rows)

    def _compare_table(self, table: Table, rows: TableRows) -> Iterator[RowDifference]:
        columns = tuple(table.by_name)
        first = 0
        while first <= ID_MAX:
            bound = read_bound(self._connection, table.name, first, CHUNK_ROWS)
            last = ID_MAX if bound is None else bound
            found = rows.read_range(table.name, columns, first, last, rows_max=CHUNK_ROWS, bytes_max=CHUNK_BYTES)
            if found.is_cut:
                last = _id_of(found.rows[-1])
            newest = read_newest_range(self._connection, table.name, first, last)
            self._connection.commit()
            self.summary.rows += len(found.rows)
            self._progress(table.name, self.summary.rows)
            yield from find_differences(table, found.rows, newest)
            first = last + 1

    def _confirm(self, suspects: Iterable[RecordId], rows: TableRows) -> Iterator[RowDifference]:
        """Look again until what is under way has passed, or it is known that it does not."""
        left = set(suspects)
        pause = PAUSE_SECONDS
        for number in range(ROUNDS_MAX):
            if not left:
                return
            if number:
                self._sleep(pause)
                pause = min(2 * pause, _PAUSE_SECONDS_MAX)
            checkpoint, found = self._look_again(left, rows)
            left = {_record_of(difference) for difference in found}
            if not left or number == 0:
                continue  # mere delay is over by then, mostly: no need to read the binlog
            unread = read_unread(self._address, checkpoint, left)
            if unread.halt is not None:
                self.summary.unreadable = _reason(unread.halt)
            for difference in found:
                if _record_of(difference) not in unread.touched:
                    self.summary.differences += 1
                    yield difference
            left &= unread.touched
            if read_tailer_status(self._connection, self._address.database).holder is None:
                break  # nobody is on the way to read them
        self.summary.undecided += len(left)

    def _look_again(self, left: set[RecordId], rows: TableRows) -> tuple[GtidSet, list[RowDifference]]:
        """The checkpoint, and how rows that were read after it differ from the newest images at it."""
        ids: dict[str, list[int]] = {}
        for table, record in sorted(left):
            ids.setdefault(table, []).append(record)
        newest: dict[str, list[NewestImage]] = {}
        with self._connection.cursor() as cursor:
            cursor.execute(_BEGIN_SNAPSHOT)
            cursor.execute(_READ_CHECKPOINT)
            row = cursor.fetchone()
        assert row is not None
        for table, wanted in ids.items():
            newest[table] = [image for part in _parts(wanted) for image in read_newest_ids(self._connection, table, part)]
        self._connection.commit()
        found: list[RowDifference] = []
        for table, wanted in ids.items():
            declared = TABLES[table]
            now = [row for part in _parts(wanted) for row in rows.read_ids(table, tuple(declared.by_name), part)]
            found += find_differences(declared, now, newest[table])
        return GtidSet.parse(row[0]), found


def _parts(ids: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(ids), _IDS_PER_QUERY):
        yield ids[start : start + _IDS_PER_QUERY]


def _record_of(difference: RowDifference) -> RecordId:
    return difference.table, difference.record_id


def _id_of(row: Row) -> int:
    number = row["id"]
    assert isinstance(number, int)
    return number


def _reason(halt: Halt) -> str:
    place = f" at {halt.details['gtid']}" if halt.details.get("gtid") else ""
    return f"{halt.code}{place}: {halt.message}"
