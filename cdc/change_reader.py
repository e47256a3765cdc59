"""Row events of declared tables as changes: by generated functions, and by images where there are none.

By images go updates that hold parts of documents, rows that moved to another company or got another id, and rows with a pattern of
NULLs for which there is no place any more.
"""

from __future__ import annotations

import struct

from cdc import events as e
from cdc.change_code import ChangeCode, ChangeFunction, UpdateFunction
from cdc.decode import KINDS, class_unreadable, decode_rows, first_row, row_reader
from cdc.derive import derive_changes
from cdc.events import Malformed, RawEvent
from cdc.images import image_codecs
from cdc.row_code import PATTERNS_MAX
from cdc.table_map import TableMap
from schema.changes import RecordChange
from schema.errors import Halt
from schema.logs import get_logger
from schema.tables import Table

log = get_logger(__name__)


def read_changes(table: TableMap, event: RawEvent, time_us: int) -> list[RecordChange]:
    """The changes that a row event of a declared table makes, in order; `time_us` is when they were committed.

    Raises Halt as `cdc.decode.decode_rows` and `cdc.images.image_reader` do, and `not_derivable`.
    """
    declared = table.declared
    assert declared is not None
    try:
        if event.type == e.PARTIAL_UPDATE_ROWS:
            rows = decode_rows(table, event)
            return [change for _, before, after in rows for change in derive_changes(declared, before, after, time_us)]
        at = first_row(table, event)
        reader = table.change_reader
        if reader is None:
            reader = table.change_reader = ChangeReader(table, declared)
        kind = KINDS[event.type]
        if kind == "update":
            return reader.read_updates(event.body, at, time_us)
        return reader.read_rows(event.body, at, time_us, is_insert=kind == "insert")
    except Halt:
        raise
    except (ValueError, IndexError, OverflowError, struct.error) as problem:
        raise class_unreadable(table, problem) from problem
    except Exception as problem:  # whatever it is, it would be met again: better a place and a reason than a restart loop
        log.error("derive_failed", exc_info=True, table=table.table)
        reason = f"rows of {table.table} cannot be made changes: {type(problem).__name__}"
        raise Halt("not_derivable", reason, hint="report this with the binlog file; the stack is in the log") from problem


class ChangeReader:
    """Reads the rows of one table map, which begin at a position; raises what reading bytes that are no row raises."""

    def __init__(self, table: TableMap, declared: Table) -> None:
        self._map = table
        self._table = declared
        self._code = ChangeCode(declared, table.columns, image_codecs(table, declared))
        self._bitmap_bytes = (len(table.columns) + 7) // 8
        self._stored: dict[bytes, ChangeFunction] = {}
        self._deleted: dict[bytes, ChangeFunction] = {}
        self._updated: dict[tuple[bytes, bytes], UpdateFunction] = {}
        self._expected: dict[bytes, UpdateFunction] = {}
        """By the NULLs before: the function of the last such update, whose NULLs after are most likely the next one's."""

    def read_rows(self, body: bytes, at: int, time_us: int, *, is_insert: bool) -> list[RecordChange]:
        """The changes of an event that inserts or deletes."""
        changes: list[RecordChange] = []
        functions, size, end = self._stored if is_insert else self._deleted, self._bitmap_bytes, len(body)
        while at < end:
            bitmap = body[at : at + size]
            function = functions.get(bitmap)
            if function is None:
                if not self._has_room():
                    image, at = row_reader(self._map).read(body, at)
                    before, after = (None, image) if is_insert else (image, None)
                    changes += derive_changes(self._table, before, after, time_us)
                    continue
                make = self._code.stored if is_insert else self._code.deleted
                function = functions[bitmap] = make(int.from_bytes(bitmap, "little"))
            change, at = function(body, at + size, time_us)
            assert change is not None
            changes.append(change)
        _check_end(at, end)
        return changes

    def read_updates(self, body: bytes, at: int, time_us: int) -> list[RecordChange]:
        """The changes of an event that updates whole rows."""
        changes: list[RecordChange] = []
        expected, size, end = self._expected, self._bitmap_bytes, len(body)
        while at < end:
            start, bitmap = at, body[at : at + size]
            function = expected.get(bitmap)
            found = function(body, start + size, time_us) if function is not None else row_reader(self._map).read(body, start)[1]
            if isinstance(found, int):  # the place of the second bitmap, which another function expects
                if found + size > end:
                    raise Malformed("the last row is cut off")
                function = self._function(bitmap, body[found : found + size])
                found = function(body, start + size, time_us) if function is not None else (None, -1)
                assert not isinstance(found, int)
            change, at = found
            if change is not None:
                changes.append(change)
            else:
                at = self._add_by_images(changes, body, start, time_us)
        _check_end(at, end)
        return changes

    def _function(self, bitmap: bytes, bitmap_after: bytes) -> UpdateFunction | None:
        """The function of an update with these NULLs before and after, expected from now on; None where there is no room for it."""
        function = self._updated.get((bitmap, bitmap_after))
        if function is None and self._has_room():
            nulls = int.from_bytes(bitmap, "little"), int.from_bytes(bitmap_after, "little")
            function = self._updated[bitmap, bitmap_after] = self._code.updated(*nulls)
        if function is not None:
            self._expected[bitmap] = function
        return function

    def _add_by_images(self, changes: list[RecordChange], body: bytes, at: int, time_us: int) -> int:
        """Add what the update at a place makes; the place after it."""
        read = row_reader(self._map).read
        before, at = read(body, at)
        after, at = read(body, at)
        changes += derive_changes(self._table, before, after, time_us)
        return at

    def _has_room(self) -> bool:
        return len(self._stored) + len(self._deleted) + len(self._updated) < PATTERNS_MAX


def _check_end(at: int, end: int) -> None:
    if at != end:
        raise Malformed("the last row is cut off")
