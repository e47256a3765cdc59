"""Row events of updates that hold parts of JSON documents (`binlog_row_value_options = PARTIAL_JSON`), made whole.

After each image before stand the row's value options, one bit for each JSON column that says whether it holds differences,
and an image after in which those columns hold them. Both forms are bytes behind a length of four, so one reader reads both.

Source: MySQL 9.7, libs/mysql/binlog/event/rows_event.h, "Partial_update_rows_event"; sql/rpl_record.cc `unpack_row`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from cdc.columns import Codec, Value, column_codec, opaque_codec
from cdc.decode_json import json_text
from cdc.events import Malformed, read_lenenc
from cdc.json_diff import DoesNotApply, apply_differences
from cdc.row_code import Row, RowReader
from cdc.table_map import JSON, ColumnMeta, TableMap
from schema.errors import Halt

_PARTIAL_JSON: Final = 1


def read_partial_updates(table: TableMap, body: bytes, at: int) -> Iterator[tuple[Row, Row]]:
    """The whole images before and after of each row that begins at `at`.

    Raises Halt `partial_json` where a difference does not fit its document; else as a full row event does.
    """
    documents = [index for index, column in enumerate(table.columns) if column.type == JSON]
    bits_size = (len(documents) + 7) // 8
    read = _reader(table).read
    while at < len(body):
        before, at = read(body, at)
        options, at = read_lenenc(body, at)
        if options & ~_PARTIAL_JSON:
            raise Malformed(f"value options {options:#x} are not known")
        partial = 0
        if options:
            partial = int.from_bytes(body[at : at + bits_size], "little")
            at += bits_size
        after, at = read(body, at)
        whole_before, whole_after = list(before), list(after)
        for bit, index in enumerate(documents):
            old, new = before[index], after[index]
            whole_before[index] = _text(old)
            whole_after[index] = _applied(table, table.columns[index], old, new) if partial >> bit & 1 else _text(new)
        yield tuple(whole_before), tuple(whole_after)
    if at != len(body):
        raise Malformed("the last row is cut off")


def _reader(table: TableMap) -> RowReader:
    """A reader that leaves documents as their bytes, made at the table map's first such row."""
    if table.document_reader is None:
        label = f"{table.schema}.{table.table}"
        codecs: list[Codec] = [
            opaque_codec(column) if column.type == JSON else column_codec(label, column) for column in table.columns
        ]
        table.document_reader = RowReader(codecs)
    return table.document_reader


def _text(document: Value) -> Value:
    return json_text(document) if isinstance(document, bytes) else document


def _applied(table: TableMap, column: ColumnMeta, document: Value, differences: Value) -> Value:
    try:
        if not isinstance(document, bytes) or not isinstance(differences, bytes):
            raise DoesNotApply("there is no document for a difference")
        return apply_differences(document, differences)
    except DoesNotApply as problem:
        raise Halt(
            "partial_json",
            f"column {column.name} of {table.schema}.{table.table} was updated in part, and the part does not fit: {problem}",
            hint="SET PERSIST binlog_row_value_options = '', skip this event and reconcile",
            details={"table": table.table, "column": column.name},
        ) from problem
