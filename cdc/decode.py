"""Row events as row changes: whole images before and after, every value exact or a Halt.

Knows the events 23–25 (v1), 30–32 (v2) and 39 (partial JSON updates: `decode_partial.py`). An image that lacks columns
(`binlog_row_image` MINIMAL or NOBLOB) halts: an absent value is never taken for NULL.

Source: MySQL 9.7, libs/mysql/binlog/event/rows_event.h, "Rows_event".
"""

from __future__ import annotations

import struct
from typing import Final, Literal, NamedTuple

from cdc import events as e
from cdc.columns import column_codec
from cdc.decode_partial import read_partial_updates
from cdc.events import Malformed, RawEvent, read_lenenc
from cdc.images import image_of, image_reader
from cdc.row_code import Row, RowReader
from cdc.table_map import TableMap
from schema.errors import Halt

Kind = Literal["insert", "update", "delete"]


class RowChange(NamedTuple):
    """One row's change. `before` is None for an insert, `after` for a delete; else they hold every column.

    Of a table map that was declared they are images of the declared table (`cdc.images`).
    """

    kind: Kind
    before: Row | None
    after: Row | None


KINDS: dict[int, Kind] = {
    e.WRITE_ROWS_V1: "insert",
    e.UPDATE_ROWS_V1: "update",
    e.DELETE_ROWS_V1: "delete",
    e.WRITE_ROWS: "insert",
    e.UPDATE_ROWS: "update",
    e.DELETE_ROWS: "delete",
    e.PARTIAL_UPDATE_ROWS: "update",
}


_HEAD_BYTES: Final = 8
"""Table id and flags."""


def table_id(body: bytes) -> bytes:
    """The number that ties a row event to its TABLE_MAP, as its bytes."""
    return body[:6]


def ends_statement(body: bytes) -> bool:
    """Whether a row event is its statement's last; table ids mean nothing after it."""
    return bool(body[6] & 1)


def decode_rows(table: TableMap, event: RawEvent) -> list[RowChange]:
    """The changes of a row event of `table`, in order.

    Raises Halt: `row_image_not_full`, `partial_json`, `unknown_type`, `charset_unsupported`, `undecodable_text`,
    `event_malformed`.
    """
    try:
        return _read_images(table, event, first_row(table, event))
    except (IndexError, ValueError, struct.error, OverflowError) as problem:
        raise class_unreadable(table, problem) from problem


def class_unreadable(table: TableMap, problem: Exception) -> Halt:
    """What it means that rows of a table cannot be read."""
    if isinstance(problem, UnicodeDecodeError):
        return Halt(
            "undecodable_text",
            f"{table.schema}.{table.table} holds bytes that are no {problem.encoding} text",
            hint="repair the row's text with UPDATE, skip this event, then `matrix-sync reconcile`",
            details={"table": table.table},
        )
    return Halt(
        "event_malformed",
        f"a row event of {table.schema}.{table.table} cannot be read: {problem}",
        details={"table": table.table},
    )


def first_row(table: TableMap, event: RawEvent) -> int:
    """Check that the images of a row event hold every column; where the first one begins.

    Raises Halt `row_image_not_full`, and ValueError or IndexError on bytes that are no row event.
    """
    body = event.body
    known = table.row_heads.get(event.type)
    if known is not None and body.startswith(known, _HEAD_BYTES):
        return _HEAD_BYTES + len(known)
    at = _HEAD_BYTES
    if event.type >= e.WRITE_ROWS:
        at += int.from_bytes(body[8:10], "little")  # extra row information, with the size's own two bytes
    count, at = read_lenenc(body, at)
    if count != len(table.columns):
        raise Malformed(f"{count} columns, but the table map has {len(table.columns)}")
    at = _check_image(table, body, at, count)
    if KINDS[event.type] == "update":
        at = _check_image(table, body, at, count)
    table.row_heads[event.type] = body[_HEAD_BYTES:at]  # the same in nearly every event: then one comparison checks all of it
    return at


def _check_image(table: TableMap, body: bytes, at: int, count: int) -> int:
    """Check that an image holds every column; the position after its bitmap."""
    end = at + (count + 7) // 8
    if end > len(body):
        raise Malformed("a column bitmap is cut off")
    present = int.from_bytes(body[at:end], "little") & (1 << count) - 1
    if present != (1 << count) - 1:
        missing = [column.name for index, column in enumerate(table.columns) if not present >> index & 1]
        raise Halt(
            "row_image_not_full",
            f"a row event of {table.schema}.{table.table} lacks the columns {', '.join(missing)}",
            hint="SET PERSIST binlog_row_image = FULL, look for sessions that set it, skip, then `matrix-sync reconcile`",
            details={"table": table.table, "missing": missing},
        )
    return end


def row_reader(table: TableMap) -> RowReader:
    """The table map's reader, made at its first row."""
    if table.reader is None and table.declared is not None:
        table.reader = image_reader(table, table.declared)
    if table.reader is None:
        label = f"{table.schema}.{table.table}"
        table.reader = RowReader([column_codec(label, column) for column in table.columns])
    return table.reader


def _read_images(table: TableMap, event: RawEvent, at: int) -> list[RowChange]:
    kind, body = KINDS[event.type], event.body
    if event.type == e.PARTIAL_UPDATE_ROWS:
        return [
            RowChange(kind, _given(table, before), _given(table, after)) for before, after in read_partial_updates(table, body, at)
        ]
    changes: list[RowChange] = []
    add, read, end = changes.append, row_reader(table).read, len(body)
    if kind == "insert":
        while at < end:
            row, at = read(body, at)
            add(RowChange("insert", None, row))
    elif kind == "delete":
        while at < end:
            row, at = read(body, at)
            add(RowChange("delete", row, None))
    else:
        while at < end:
            before, at = read(body, at)
            after, at = read(body, at)
            add(RowChange("update", before, after))
    if at != end:
        raise Malformed("the last row is cut off")
    return changes


def _given(table: TableMap, row: Row) -> Row:
    return image_of(table.declared, dict(zip(table.names, row, strict=True))) if table.declared is not None else row
