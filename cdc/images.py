"""Rows of declared tables as images: wire values in the order of the declaration, read straight from a row event's bytes.

A column's codec and what `schema.values` says of its kind become one function, so that a row is made once, in the form in which it
is sent. Tests compare it with the slow way, `image_of`, which goes through the values of `cdc.columns`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

import orjson

from cdc import table_map as t
from cdc.columns import Codec, Fixed, Prefixed, column_codec
from cdc.row_code import RowReader
from cdc.table_map import ColumnMeta, TableMap
from cdc.temporal import timestamp_text
from schema.columns import Column, Kind
from schema.errors import Halt
from schema.tables import Table
from schema.values import SAFE_INTEGER_MAX, wire_from_mysql

Image = tuple[Any, ...]
"""One wire value for each of `Table.columns`; a JSON column has its text. Two values are equal where the stored ones are."""

FLAGS: Final[Mapping[int, Any]] = {
    **{value: orjson.Fragment(b"true") for value in range(-128, 256)},  # 1 → 2 is a change, though both are shown as true
    0: False,
    1: True,
}
AS_DECODED: Final = frozenset({Kind.TEXT, Kind.ENUM, Kind.DECIMAL, Kind.DATE, Kind.JSON})
"""Kinds whose decoded values are their wire values: text."""
_SAFE: Final = f"{{0}} if {-SAFE_INTEGER_MAX} <= {{0}} <= {SAFE_INTEGER_MAX} else str({{0}})"
_VALUES_REMEMBERED: Final = 20_000
_SECONDS: Final = struct.Struct(">I")


def image_of(table: Table, row: Mapping[str, Any]) -> Image:
    """The image of a row whose values are as `cdc.columns` gives them. Raises Halt `column_missing`."""
    _require_columns(table, row)
    return tuple(image_value(column, row[column.name]) for column in table.columns)


def image_value(column: Column, value: Any) -> Any:
    """What an image holds of a decoded value."""
    if value is None or column.kind is Kind.JSON:
        return value
    if column.kind is Kind.BOOLEAN and value in FLAGS:
        return FLAGS[value]
    return wire_from_mysql(column, value)


def image_reader(table: TableMap, declared: Table) -> RowReader:
    """Reads rows of a table map as images of a declared table.

    Raises Halt `column_missing`, and as `column_codec` does; its reader raises `not_derivable` where a column's type is not one
    that its declaration could mean.
    """
    return RowReader(image_codecs(table, declared), [table.index[column.name] for column in declared.columns])


def image_codecs(table: TableMap, declared: Table) -> list[Codec]:
    """How to read each column of a table map as what an image holds of it. Raises Halt as `image_reader` does."""
    _require_columns(declared, table.index)
    label = f"{table.schema}.{table.table}"
    codecs: list[Codec] = []
    for meta in table.columns:
        codec, column = column_codec(label, meta), declared.by_name.get(meta.name)
        codecs.append(codec if column is None else _image_codec(label, meta, codec, column))
    return codecs


def _image_codec(label: str, meta: ColumnMeta, codec: Codec, column: Column) -> Codec:
    if isinstance(codec, Fixed):
        return _fixed(label, meta, codec, column)
    if column.kind in AS_DECODED:
        return codec
    decode, convert = codec.convert, _converter(label, column)
    return Prefixed(codec.length_bytes, convert if decode is None else lambda raw: convert(decode(raw)))


def _fixed(label: str, meta: ColumnMeta, codec: Fixed, column: Column) -> Fixed:
    decode = codec.convert
    if column.kind is Kind.DECIMAL and decode is not None:
        return Fixed(codec.code, lru_cache(_VALUES_REMEMBERED)(decode))
    if column.kind in AS_DECODED:
        return codec
    if column.kind is Kind.INTEGER and decode is None and codec.code in "bBhHiI":
        return codec
    if column.kind is Kind.INTEGER and decode is None and codec.code in "qQ":
        return Fixed(codec.code, expression=_SAFE)
    if column.kind is Kind.BOOLEAN and decode is None and codec.code in "bB":
        return Fixed(codec.code, FLAGS.__getitem__)
    if column.kind is Kind.TIMESTAMP and meta.type == t.TIMESTAMP2 and meta.meta == 6:
        return Fixed(codec.code, timestamp_image)
    convert = _converter(label, column)
    return Fixed(codec.code, convert if decode is None else lambda raw: convert(decode(raw)))


@lru_cache(_VALUES_REMEMBERED)
def timestamp_image(raw: bytes) -> str:
    """A TIMESTAMP(6)'s seven bytes as RFC 3339."""
    text = _second_text(_SECONDS.unpack_from(raw)[0])
    fraction = int.from_bytes(raw[4:], "big")
    return f"{text}.{fraction:06d}Z" if fraction else f"{text}Z"


@lru_cache(_VALUES_REMEMBERED)
def _second_text(seconds: int) -> str:
    return timestamp_text(seconds).replace(" ", "T")


def _converter(label: str, column: Column) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        try:
            return image_value(column, value)
        except Exception as problem:
            raise Halt(
                "not_derivable",
                f"column {column.name} of {label} holds a value that is no {column.kind.value}: {type(problem).__name__}",
                hint="undo the ALTER TABLE, or change schema/tables.py with a migration",
            ) from problem

    return convert


def _require_columns(table: Table, names: Mapping[str, Any]) -> None:
    missing = [c.name for c in table.columns if c.name not in names]
    if missing:
        raise Halt(
            "column_missing",
            f"the binlog's rows of {table.name} lack {', '.join(missing)}",
            hint="undo the DROP or RENAME COLUMN, or change schema/tables.py with a migration",
        )
