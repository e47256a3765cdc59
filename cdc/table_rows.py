"""Rows of a table by SELECT, each value just as `cdc.columns` reads it from a row event.

Text comes as the bytes that are stored, with the column's own collation beside it (character_set_results = NULL), and is decoded
by the tailer's tables: MySQL's own conversion puts `?` where it knows no character. Numbers and times come as digits. FLOAT and
DOUBLE are asked for as a product with 1e0, which shows all their bits and keeps the sign of zero.

Source: MySQL 9.7 manual, "Connection Character Sets and Collations" (character_set_results), "Column Definition Packet".
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Self

import pymysql
from pymysql.connections import Connection
from pymysql.constants import FIELD_TYPE, FLAG
from pymysql.converters import encoders

from cdc.charsets import BINARY_COLLATION, charset_name, text_decoder
from cdc.columns import Value, shortest_float
from cdc.decode_json import JsonText
from schema.connect import open_connection
from schema.errors import Halt
from schema.settings import MySQLAddress

Row = dict[str, Value]

_SESSION = "SET SESSION character_set_results = NULL, SESSION lock_wait_timeout = %s"
_READ_SHAPE = "SELECT {columns} FROM `{table}` LIMIT 0"
_READ_RANGE = "SELECT {columns} FROM `{table}` WHERE `id` BETWEEN %s AND %s ORDER BY `id` LIMIT %s"
_READ_IDS = "SELECT {columns} FROM `{table}` WHERE `id` IN %s"

_INTEGERS: Final = frozenset(
    {FIELD_TYPE.TINY, FIELD_TYPE.SHORT, FIELD_TYPE.INT24, FIELD_TYPE.LONG, FIELD_TYPE.LONGLONG, FIELD_TYPE.YEAR}
)
_FLOATS: Final = frozenset({FIELD_TYPE.FLOAT, FIELD_TYPE.DOUBLE})
_TIMES: Final = frozenset(
    {FIELD_TYPE.DATE, FIELD_TYPE.NEWDATE, FIELD_TYPE.DATETIME, FIELD_TYPE.TIMESTAMP, FIELD_TYPE.TIME},
)
_STRINGS: Final = frozenset(
    {
        FIELD_TYPE.STRING,
        FIELD_TYPE.VAR_STRING,
        FIELD_TYPE.VARCHAR,
        FIELD_TYPE.BLOB,
        FIELD_TYPE.TINY_BLOB,
        FIELD_TYPE.MEDIUM_BLOB,
        FIELD_TYPE.LONG_BLOB,
    }
)
_LABELLED: Final = FLAG.ENUM | FLAG.SET
_VECTOR: Final = 242
"""Unknown to PyMySQL."""
_AS_STORED: Final = frozenset({FIELD_TYPE.GEOMETRY, _VECTOR})
_DIGITS: Final = frozenset({FIELD_TYPE.DECIMAL, FIELD_TYPE.NEWDECIMAL})


class Found(NamedTuple):
    """Rows of a range by ascending id. `is_cut`: the limit was reached, and the range is known up to the last of them only."""

    rows: list[Row]
    is_cut: bool


class TableRows:
    """A session that reads rows of one database. Each SELECT is a snapshot of its own and holds no lock after it.

    pymysql errors come through; 1205 says that an ALTER or LOCK TABLES holds the table for longer than `lock_wait_seconds`.
    """

    def __init__(self, address: MySQLAddress, *, lock_wait_seconds: int, read_timeout: int | None = None) -> None:
        self.connection: Connection[Any] = open_connection(
            address, autocommit=True, use_unicode=False, conv={**encoders}, read_timeout=read_timeout
        )
        with self.connection.cursor() as cursor:
            cursor.execute(_SESSION, (lock_wait_seconds,))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the session."""
        if self.connection.open:
            self.connection.close()

    def read_range(self, table: str, columns: Sequence[str], first: int, last: int, *, rows_max: int, bytes_max: int) -> Found:
        """Rows whose id is in [first, last]: at most `rows_max`, and no more once they hold `bytes_max`.

        Raises Halt `undecodable_text`, `charset_unsupported`, `unknown_type`.
        """
        shape = self._read_shape(table, columns)
        query = _READ_RANGE.format(columns=_selected(shape), table=table)
        found: list[Row] = []
        size = 0
        with self.connection.cursor(pymysql.cursors.SSCursor) as cursor:
            cursor.execute(query, (first, last, rows_max))
            decode = _row_decoder(table, shape, _fields(self.connection))
            for raw in cursor:
                found.append(decode(raw))
                size += sum(len(value) for value in raw if value is not None)
                if size >= bytes_max:
                    return Found(found, is_cut=True)
        return Found(found, is_cut=len(found) >= rows_max)

    def read_ids(self, table: str, columns: Sequence[str], ids: Sequence[int]) -> list[Row]:
        """The rows of these ids, as far as they exist. Raises Halt as `read_range` does."""
        shape = self._read_shape(table, columns)
        with self.connection.cursor() as cursor:
            cursor.execute(_READ_IDS.format(columns=_selected(shape), table=table), (list(ids),))
            decode = _row_decoder(table, shape, _fields(self.connection))
            return [decode(raw) for raw in cursor.fetchall()]

    def _read_shape(self, table: str, columns: Sequence[str]) -> dict[str, int]:
        """Type numbers by column name."""
        names = ", ".join(f"`{name}`" for name in columns)
        with self.connection.cursor() as cursor:
            cursor.execute(_READ_SHAPE.format(columns=names, table=table))
            return {name: field.type_code for name, field in zip(columns, _fields(self.connection), strict=True)}


def _selected(shape: dict[str, int]) -> str:
    return ", ".join(f"`{name}` * 1e0" if type_ in _FLOATS else f"`{name}`" for name, type_ in shape.items())


def _fields(connection: Connection[Any]) -> list[Any]:
    """Column definitions of the result that has just begun: type, flags, collation. PyMySQL keeps them to itself."""
    fields: list[Any] = connection._result.fields  # type: ignore[attr-defined]
    return fields


def _row_decoder(table: str, shape: dict[str, int], fields: Sequence[Any]) -> Callable[[Sequence[bytes | None]], Row]:
    readers = [(name, _value_reader(table, name, type_, field)) for (name, type_), field in zip(shape.items(), fields, strict=True)]

    def decode(raw: Sequence[bytes | None]) -> Row:
        try:
            return {name: None if value is None else read(value) for (name, read), value in zip(readers, raw, strict=True)}
        except UnicodeDecodeError as problem:
            raise Halt(
                "undecodable_text",
                f"a row of {table} holds bytes that are no {problem.encoding} text",
                hint="repair the row's text with UPDATE, then `matrix-sync reconcile` again",
                details={"table": table},
            ) from problem

    return decode


def _value_reader(table: str, name: str, type_: int, field: Any) -> Callable[[bytes], Value]:
    """How to read a column. `type_` is its own type, `field` what was sent of it."""
    if type_ == FIELD_TYPE.FLOAT:
        return lambda raw: shortest_float(struct.pack("<f", float(raw)))
    if type_ == FIELD_TYPE.DOUBLE:
        return float
    found = field.type_code
    if found in _INTEGERS:
        return int
    if found in _DIGITS:
        return _unfilled if field.flags & FLAG.ZEROFILL else _ascii
    if found in _TIMES:
        return _ascii
    if found == FIELD_TYPE.JSON:
        return lambda raw: JsonText(raw.decode())
    if found == FIELD_TYPE.BIT:
        return lambda raw: int.from_bytes(raw, "big")
    if found in _AS_STORED:
        return bytes
    if found in _STRINGS:
        return _text_reader(table, name, field)
    raise Halt(
        "unknown_type",
        f"column {name} of {table} has the type {found}, which cannot be read",
        hint="take the table out of the synced ones, or use a version of matrix-sync that knows the type",
        details={"table": table, "column": name, "type": found},
    )


def _text_reader(table: str, name: str, field: Any) -> Callable[[bytes], Value]:
    if field.charsetnr == BINARY_COLLATION:
        return _utf8 if field.flags & _LABELLED else bytes
    decode = text_decoder(field.charsetnr)
    if decode is None:
        raise Halt(
            "charset_unsupported",
            f"column {name} of {table} is in {charset_name(field.charsetnr)}, which cannot be decoded",
            hint="ALTER TABLE … CONVERT TO CHARACTER SET utf8mb4",
            details={"table": table, "column": name, "collation": field.charsetnr},
        )
    return decode


def _ascii(raw: bytes) -> str:
    return raw.decode("ascii")


def _utf8(raw: bytes) -> str:
    return raw.decode()


def _unfilled(raw: bytes) -> str:
    """Digits of a ZEROFILL column without the zeros that SELECT puts before them."""
    whole, point, fraction = raw.decode("ascii").partition(".")
    return f"{whole.lstrip('0') or '0'}{point}{fraction}"
