"""A record's newest change as of some version: where prev_version and the maker of a change that is missing come from.

Changes that were passed on the way are remembered, older ones are looked up. Missing changes are kept whole in a temporary file,
until the gap they stand in is closed and for the redeliveries that repeat them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO, Any

import orjson
from pymysql.connections import Connection

from cdc.change_row import ChangeRow, RecordKey
from cdc.stored import Maker, read_changes, read_live, read_newest_before

RECORDS_REMEMBERED_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A record's newest change below some version; `spooled` is its place in the spool where the change log lacks it."""

    version: int
    maker: Maker | None
    spooled: int | None = None


class Spool:
    """Rows in the order they were added, in a file that nobody else writes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._end = 0

    def append(self, row: ChangeRow) -> int:
        """Keep a row; returns its place."""
        line = orjson.dumps(tuple(row)) + b"\n"
        place = self._end
        self._file.seek(place)
        self._file.write(line)
        self._end += len(line)
        return place

    def read(self, place: int) -> ChangeRow:
        """One row."""
        self._file.seek(place)
        return ChangeRow(*orjson.loads(self._file.readline()))


class Lineage:
    """Told every change of the stretch in order of versions; asked for what came before one."""

    def __init__(self, connection: Connection[Any], spool: Spool) -> None:
        self._connection = connection
        self._spool = spool
        self._recent: OrderedDict[RecordKey, Ancestor | None] = OrderedDict()
        self._missing: dict[RecordKey, Ancestor] = {}

    def note(self, row: ChangeRow, spooled: int | None = None) -> None:
        """A change was passed. A redelivery is no base for others (contract §2.6)."""
        if row.for_device is not None:
            return
        ancestor = Ancestor(row.version, maker_of(row), spooled)
        if spooled is not None:
            self._missing[key_of(row)] = ancestor
        self._remember(key_of(row), ancestor)

    def note_pruned(self, key: RecordKey, version: int, maker: Maker | None) -> None:
        """A change was passed that retention has pruned; `maker` where its tx made the record. Else the record's stays."""
        if maker is None:
            known = self._recent.get(key)
            live = read_live(self._connection, (key,)).get(key) if known is None else None
            maker = known.maker if known is not None else live.maker if live is not None else None
        self._remember(key, Ancestor(version, maker))

    def prefetch(self, keys: Iterable[RecordKey], version: int) -> None:
        """Look up many records at once, as of `version`."""
        unknown = {key for key in keys if key not in self._recent}
        found = read_newest_before(self._connection, unknown, version)
        for key in unknown:
            self._remember(key, self._newer(key, found[key].row if key in found else None, version))

    def before(self, key: RecordKey, version: int) -> Ancestor | None:
        """The newest change of a record below `version`."""
        if key in self._recent:
            ancestor = self._recent[key]
            if ancestor is None or ancestor.version < version:
                return ancestor
            del self._recent[key]  # passed out of order: another server's binlog may hold transactions in another order
        self.prefetch((key,), version)
        return self._recent[key]

    def is_known(self, key: RecordKey) -> bool:
        """Whether `before` can tell without a look-up."""
        return key in self._recent

    def image(self, key: RecordKey, ancestor: Ancestor) -> ChangeRow | None:
        """The change itself; None where it is gone."""
        if ancestor.spooled is not None:
            return self._spool.read(ancestor.spooled)
        found = read_changes(self._connection, ancestor.version, ancestor.version).get(ancestor.version)
        return found.row if found and key_of(found.row) == key else None

    def _newer(self, key: RecordKey, stored: ChangeRow | None, version: int) -> Ancestor | None:
        missing = self._missing.get(key)
        if missing is not None and missing.version < version and (stored is None or missing.version >= stored.version):
            return missing
        return Ancestor(stored.version, maker_of(stored)) if stored is not None else None

    def _remember(self, key: RecordKey, ancestor: Ancestor | None) -> None:
        self._recent[key] = ancestor
        self._recent.move_to_end(key)
        while len(self._recent) > RECORDS_REMEMBERED_MAX:
            self._recent.popitem(last=False)


def key_of(row: ChangeRow) -> RecordKey:
    """The record a change is of."""
    return row.company_id, row.table, row.record_id


def maker_of(row: ChangeRow) -> Maker | None:
    """The device that made the record, and what it calls it."""
    return (row.device_id, row.local_id) if row.device_id is not None and row.local_id is not None else None
