"""Whether sync_live knows the newest change of each record that a replay passed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pymysql.connections import Connection

from cdc.change_row import ChangeRow, RecordKey
from cdc.differences import Difference, Kind, columns_that_differ
from cdc.lineage import key_of, maker_of
from cdc.repair import Repair
from cdc.state import read_state
from cdc.stored import LiveRow, read_live, read_newest_before


class LiveCheck:
    """Told every change that is there, or was put back; it asks sync_live in batches and keeps only what looks wrong."""

    def __init__(self, connection: Connection[Any]) -> None:
        self._connection = connection
        self._passed: dict[RecordKey, LiveRow] = {}
        self._suspects: dict[RecordKey, LiveRow] = {}
        self._wrong: list[Difference] = []

    def note(self, row: ChangeRow) -> None:
        """A change was passed. A redelivery supersedes nothing."""
        if row.for_device is None:
            self._passed[key_of(row)] = _live_row(row)

    def look(self) -> None:
        """Compare what was passed since the last look."""
        stored = read_live(self._connection, self._passed)
        for key, passed in self._passed.items():
            found = stored.get(key)
            if found is None or found.version < passed.version:
                self._suspects[key] = passed
            elif found.version == passed.version and found != passed:
                columns = columns_that_differ(_fields(found), _fields(passed))
                self._wrong.append(Difference(Kind.DIFFERENT, "sync_live", _where(key, passed), columns))
        self._passed.clear()

    def differences(self, repair: Repair | None) -> Iterator[Difference]:
        """What is wrong, after moving sync_live forward to each record's newest change, in this stretch or after it."""
        self.look()
        yield from self._wrong
        stored = read_live(self._connection, self._suspects)
        newest = read_newest_before(self._connection, self._suspects, read_state(self._connection).head + 1)
        behind: dict[RecordKey, LiveRow] = {}
        for key, passed in self._suspects.items():
            found, later = stored.get(key), newest.get(key)
            wanted = _live_row(later.row) if later and later.row.version > passed.version else passed
            if found is None or found.version < wanted.version:
                behind[key] = wanted
        if repair is not None:
            repair.restore_live(behind)
        for key, wanted in behind.items():
            found = stored.get(key)
            columns = columns_that_differ(_fields(found), _fields(wanted)) if found else {}
            kind = Kind.DIFFERENT if found else Kind.MISSING
            yield Difference(kind, "sync_live", _where(key, wanted), columns, is_restored=repair is not None)


def _live_row(row: ChangeRow) -> LiveRow:
    return LiveRow(row.version, row.operation == "DELETE", maker_of(row))


def _fields(row: LiveRow) -> dict[str, Any]:
    device_id, local_id = row.maker or (None, None)
    return {"version": row.version, "is_deleted": row.is_deleted, "device_id": device_id, "local_id": local_id}


def _where(key: RecordKey, row: LiveRow) -> dict[str, Any]:
    company_id, table, record_id = key
    return {"company_id": company_id, "table": table, "record_id": record_id, "version": row.version}
