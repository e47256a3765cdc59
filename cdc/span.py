"""Which stretch of binlog an operator means: `--from` and `--to` as places where transactions start.

`start` is the earliest binlog there is. FILE:POS must be the start of a transaction; as an end it is where the stretch stops,
as in mysqlbinlog. One GTID is that transaction, included as a start and as an end. A GTID set is a checkpoint: what it lacks
follows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from secrets import randbits
from typing import Any, cast

from pymysql.connections import Connection

from cdc import events as e
from cdc.dump import ConnectionSettings
from cdc.events import RawEvent
from cdc.gtid import Gtid, GtidSet
from cdc.gtid_event import parse_gtid_event
from cdc.source import BinlogSource, FilePosition
from schema.errors import MatrixError, StartError, TailerError
from schema.settings import MySQLAddress

FIRST_EVENT_POS = 4
"""Where the first event of every binlog file starts, after its magic number."""
_SERVER_ID_BASE = 0x4E000000
_BETWEEN_TXS = frozenset({e.GTID, e.GTID_TAGGED, e.ANONYMOUS_GTID, e.FORMAT_DESCRIPTION, e.PREVIOUS_GTIDS, e.ROTATE, e.STOP})
_GTID_EVENTS = frozenset({e.GTID, e.GTID_TAGGED})

_FILES = "SHOW BINARY LOGS"
_READ_SETS = "SELECT @@GLOBAL.gtid_executed, @@GLOBAL.gtid_purged"


@dataclass(frozen=True, slots=True)
class Span:
    """Where to begin, and the place from which on transactions are left out. `files` are the server's binlogs in order."""

    start: FilePosition | GtidSet
    end: FilePosition
    files: tuple[str, ...]

    def is_over(self, file: str, pos: int) -> bool:
        """Whether a transaction that starts here is outside. Files made since the span was resolved are."""
        if file not in self.files:
            return True
        return (self.files.index(file), pos) >= (self.files.index(self.end.file), self.end.pos)


def open_source(address: MySQLAddress, start: FilePosition | GtidSet) -> BinlogSource:
    """A stream that ends where the binlog does, under a server id that no tailer has."""
    connect = ConnectionSettings(
        host=address.host, port=address.port, user=address.user, password=address.password, unix_socket=address.socket
    )
    return BinlogSource(connect=connect, server_id=_SERVER_ID_BASE | randbits(24), start=start, blocking=False)


def resolve(connection: Connection[Any], address: MySQLAddress, start: str, end: str | None) -> Span:
    """Read the operator's words against what the server has now; without `end` up to the present end of the binlog.

    Raises StartError: `bad_position`, `no_such_binlog`, `not_a_tx_start`, `not_executed`, `binlog_purged`, `empty_span`.
    """
    return _Resolver(connection, address).resolve(start, end)


class _Resolver:
    def __init__(self, connection: Connection[Any], address: MySQLAddress) -> None:
        self._address = address
        with connection.cursor() as cursor:
            cursor.execute(_FILES)
            self._sizes = {str(row[0]): int(row[1]) for row in cursor.fetchall()}
            cursor.execute(_READ_SETS)
            executed, purged = cast("tuple[str, str]", cursor.fetchone())
        connection.rollback()
        self._executed, self._purged = GtidSet.parse(executed), GtidSet.parse(purged)

    def resolve(self, start: str, end: str | None) -> Span:
        files = tuple(self._sizes)
        begin = self._start(start)
        span = Span(begin, self._end(end), files)
        if isinstance(begin, FilePosition) and end is not None and span.is_over(begin.file, begin.pos):
            raise StartError("empty_span", f"{end} is not after {start}", hint="exchange --from and --to")
        return span

    def _start(self, text: str) -> FilePosition | GtidSet:
        if text == "start":
            return FilePosition(next(iter(self._sizes)), FIRST_EVENT_POS)
        place = self._file_position(text)
        if place is not None:
            self._require_tx_start(place)
            return place
        gtids = _parse_gtids(text)
        if gtids.count() == 1:
            return self._locate(Gtid.parse(text))
        missing = self._purged.subtract(gtids)
        if missing:
            raise _purged(missing)
        return gtids

    def _end(self, text: str | None) -> FilePosition:
        if text is None:
            last = next(reversed(self._sizes))
            return FilePosition(last, self._sizes[last])
        place = self._file_position(text)
        if place is not None:
            return place
        if _parse_gtids(text).count() != 1:
            raise StartError("bad_position", f"--to is one GTID or FILE:POS, not a set: {text}", hint=_FORMS)
        found = self._locate(Gtid.parse(text))
        return FilePosition(found.file, found.pos + 1)

    def _file_position(self, text: str) -> FilePosition | None:
        """A file's name has no colon, and a GTID begins with a uuid."""
        file, _, pos = text.rpartition(":")
        if not file or not pos.isdecimal() or re.fullmatch(r"[0-9A-Fa-f-]{36}(:\w+)?", file) or ":" in file:
            return None
        if file not in self._sizes:
            first, last = next(iter(self._sizes)), next(reversed(self._sizes))
            raise StartError("no_such_binlog", f"the server has no binlog {file}", hint=f"it has {first} to {last}")
        if not FIRST_EVENT_POS <= int(pos) <= self._sizes[file]:
            raise StartError(
                "no_such_binlog",
                f"{file} has no position {pos}",
                hint=f"it goes from {FIRST_EVENT_POS} to {self._sizes[file]}",
            )
        return FilePosition(file, int(pos))

    def _locate(self, gtid: Gtid) -> FilePosition:
        """Where a transaction starts: the server sends all that a set lacks, so it is asked with that one lacking."""
        if gtid in self._purged:
            raise _purged(GtidSet().add(gtid))
        if gtid not in self._executed:
            raise StartError("not_executed", f"the server never executed {gtid}", hint="SELECT @@GLOBAL.gtid_executed")
        events = open_source(self._address, self._executed.subtract(GtidSet().add(gtid))).events()
        with closing(cast("Any", events)):
            for event in events:
                if event.type in _GTID_EVENTS and parse_gtid_event(event).gtid == gtid:
                    return FilePosition(event.file, event.start_pos)
        raise StartError("not_executed", f"no binlog of the server holds {gtid}", hint="SHOW BINARY LOGS")

    def _require_tx_start(self, place: FilePosition) -> None:
        if place.pos == self._sizes[place.file] or self._is_tx_start(place):
            return
        before, after = self._neighbours(place)
        raise StartError(
            "not_a_tx_start",
            f"{place.file}:{place.pos} is not the start of a transaction",
            hint=f"one starts at {before}" + (f", the next one at {after}" if after else ""),
        )

    def _is_tx_start(self, place: FilePosition) -> bool:
        """Whether a whole, sound event that stands between transactions begins here."""
        try:
            with closing(cast("Any", self._file_events(place))) as events:
                event = next(events, None)
        except TailerError:
            return False
        return event is None or (event.type in _BETWEEN_TXS and event.start_pos == place.pos)

    def _neighbours(self, place: FilePosition) -> tuple[str, str | None]:
        before = FIRST_EVENT_POS
        with closing(cast("Any", self._file_events(FilePosition(place.file, FIRST_EVENT_POS)))) as events:
            for event in events:
                if event.type in _GTID_EVENTS and event.start_pos > place.pos:
                    return f"{place.file}:{before}", f"{place.file}:{event.start_pos}"
                if event.type in _GTID_EVENTS:
                    before = event.start_pos
        return f"{place.file}:{before}", None

    def _file_events(self, start: FilePosition) -> Iterator[RawEvent]:
        """The events of one file that stand in it, without those the server makes up for a stream."""
        for event in open_source(self._address, start).events():
            if event.file != start.file:
                return
            if not event.flags & e.FLAG_ARTIFICIAL and event.end_pos > start.pos:
                yield event


_FORMS = "write start, FILE:POS (binlog.000007:1234), a GTID (uuid:23) or a GTID set"


def _parse_gtids(text: str) -> GtidSet:
    try:
        gtids = GtidSet.parse(text)
    except MatrixError:
        gtids = GtidSet()
    if not gtids:
        raise StartError("bad_position", f"not a place in the binlog: {text[:200]!r}", hint=_FORMS)
    return gtids


def _purged(missing: GtidSet) -> StartError:
    return StartError("binlog_purged", f"the server has purged {missing}", hint="--from start begins with what there is")
