"""How the values of each column type are read: what `row_code.py` puts together to read rows.

One Python type for each MySQL type, exact in every case; what a value looks like on the wire is `schema/values.py`.

    integers, BIT, YEAR         int; BIT is unsigned, YEAR 0 is 0
    DECIMAL                     str, the digits of SELECT: "12.50", "-0.10"
    FLOAT                       float: the shortest digits that mean the stored 32 bits (SELECT shows six digits only)
    DOUBLE                      float
    CHAR, VARCHAR, TEXT         str; ENUM its label ("" for index 0), SET "a,b"
    BINARY, VARBINARY, BLOB     bytes; BINARY(n) padded with zero bytes to n
    DATE, DATETIME, TIME        str as SELECT prints, with the column's digits of fraction
    TIMESTAMP                   the same, in UTC
    JSON                        JsonText, as SELECT prints
    GEOMETRY, VECTOR            bytes as stored (SRID and WKB; little-endian 32-bit floats)

A Prefixed does not check that a string ends inside the event: the sum of all lengths is checked once for each event.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Final

from cdc import table_map as t
from cdc.charsets import charset_name, is_utf8, text_decoder
from cdc.decimals import decimal_bytes, decimal_reader
from cdc.decode_json import json_text
from cdc.events import Malformed
from cdc.table_map import ColumnMeta
from cdc.temporal import date_text, datetime_text, fraction_text, time_text, timestamp_text
from schema.errors import Halt

Value = int | float | str | bytes | None
"""What a column holds; JSON is a JsonText, which is a str."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """A value of fixed size: the code by which `struct` reads it, little-endian, and what makes the value of that, if anything."""

    code: str
    convert: Callable[[Any], Value] | None = None
    expression: str = ""
    """The same as code: an expression in which `{0}` stands for what `struct` read."""


@dataclass(frozen=True, slots=True)
class Prefixed:
    """A value behind its length in 1 … 4 bytes, and what makes the value of its bytes, if anything."""

    length_bytes: int
    convert: Callable[[bytes], Value] | None = None
    is_utf8: bool = False
    """Text that `bytes.decode` reads, as nearly every text column has it."""

    def __call__(self, data: bytes, at: int) -> tuple[Value, int]:
        """The value at a position, and the position after it."""
        start = at + self.length_bytes
        end = start + int.from_bytes(data[at:start], "little")
        raw = data[start:end]
        if self.is_utf8:
            return raw.decode(), end
        return self.convert(raw) if self.convert is not None else raw, end


Codec = Fixed | Prefixed

_F32: Final = struct.Struct("<f")
_STRUCT_CODES: Final[Mapping[int, str]] = {t.TINY: "b", t.SHORT: "h", t.LONG: "i", t.LONGLONG: "q"}


def column_codec(table: str, column: ColumnMeta) -> Codec:
    """How to read one column. `table` is for messages.

    Raises Halt `unknown_type` or `charset_unsupported`, naming table and column.
    """
    make = _MAKERS.get(column.type)
    if make is None:
        raise Halt(
            "unknown_type",
            f"column {column.name} of {table} has the type {t.TYPE_NAMES.get(column.type, column.type)}, which cannot be decoded",
            hint="take the table out of the synced ones, or use a version of matrix-sync that knows the type",
            details={"table": table, "column": column.name, "type": column.type},
        )
    try:
        return make(column)
    except LookupError as problem:
        raise Halt(
            "charset_unsupported",
            f"column {column.name} of {table} is in {charset_name(column.collation or 0)}, which cannot be decoded",
            hint="ALTER TABLE … CONVERT TO CHARACTER SET utf8mb4",
            details={"table": table, "column": column.name, "collation": column.collation},
        ) from problem


def shortest_float(raw: bytes) -> float:
    """The double with the fewest digits that rounds to these 32 bits (little-endian)."""
    stored = _F32.unpack(raw)[0]
    for digits in range(6, 9):
        short = float(f"{stored:.{digits}g}")
        if _pack_float(short) == raw:
            return short
    return float(f"{stored:.9g}")


def _pack_float(value: float) -> bytes:
    try:
        return _F32.pack(value)
    except OverflowError:  # six digits of the largest floats round up beyond them
        return b""


def _integer(column: ColumnMeta) -> Fixed:
    code = _STRUCT_CODES[column.type]
    return Fixed(code.upper() if column.is_unsigned else code)


def _integer24(column: ColumnMeta) -> Fixed:
    return Fixed("3s", partial(int.from_bytes, byteorder="little", signed=not column.is_unsigned))


def _float(_: ColumnMeta) -> Fixed:
    return Fixed("4s", shortest_float)


def _double(_: ColumnMeta) -> Fixed:
    return Fixed("d")


def _decimal(column: ColumnMeta) -> Fixed:
    precision, scale = column.meta >> 8, column.meta & 255
    read = decimal_reader(precision, scale)
    return Fixed(f"{decimal_bytes(precision, scale)}s", read)


def _year(_: ColumnMeta) -> Fixed:
    return Fixed("B", lambda year: year + 1900 if year else 0)


def _date(_: ColumnMeta) -> Fixed:
    return Fixed("3s", date_text)


def _fraction_digits(column: ColumnMeta) -> tuple[int, int]:
    """Digits of the fraction and the bytes that hold it."""
    if column.meta > 6:
        raise Malformed(f"{column.meta} digits of fraction cannot be")
    return column.meta, (column.meta + 1) // 2


def _timestamp(column: ColumnMeta) -> Fixed:
    digits, extra = _fraction_digits(column)

    def convert(raw: bytes) -> str:
        text = timestamp_text(int.from_bytes(raw[:4], "big"))
        return text + fraction_text(int.from_bytes(raw[4:], "big"), digits) if digits else text

    return Fixed(f"{4 + extra}s", convert)


def _datetime(column: ColumnMeta) -> Fixed:
    digits, extra = _fraction_digits(column)

    def convert(raw: bytes) -> str:
        text = datetime_text(int.from_bytes(raw[:5], "big") & 0x7FFFFFFFFF)
        return text + fraction_text(int.from_bytes(raw[5:], "big"), digits) if digits else text

    return Fixed(f"{5 + extra}s", convert)


def _time(column: ColumnMeta) -> Fixed:
    """Stored as one big-endian number with its sign as an offset, so that a negative fraction borrows from the second."""
    digits, extra = _fraction_digits(column)
    size, bits = 3 + extra, 8 * extra
    zero, mask = 1 << 8 * size - 1, (1 << bits) - 1

    def convert(raw: bytes) -> str:
        packed = int.from_bytes(raw, "big") - zero
        length = abs(packed)
        text = ("-" if packed < 0 else "") + time_text(length >> bits)
        return text + fraction_text(length & mask, digits) if digits else text

    return Fixed(f"{size}s", convert)


def _bit(column: ColumnMeta) -> Fixed:
    return Fixed(f"{(column.meta + 7) // 8}s", partial(int.from_bytes, byteorder="big"))


def _enum(column: ColumnMeta) -> Fixed:
    labels = ("", *column.labels)
    return Fixed("B" if column.meta == 1 else "H", labels.__getitem__)


def _set(column: ColumnMeta) -> Fixed:
    labels = column.labels

    @lru_cache(maxsize=1000)
    def convert(raw: bytes) -> str:
        bits = int.from_bytes(raw, "little")
        if bits >> len(labels):
            raise Malformed("a SET has a bit without a label")
        return ",".join(label for place, label in enumerate(labels) if bits >> place & 1)

    return Fixed(f"{column.meta}s", convert)


def _string(column: ColumnMeta) -> Prefixed:
    """CHAR, VARCHAR, BINARY and VARBINARY; `meta` is the most bytes they hold."""
    size = column.meta
    if column.type == t.STRING and column.is_binary:
        return Prefixed(2 if size > 255 else 1, lambda raw: raw.ljust(size, b"\0"))  # the binlog leaves trailing zero bytes out
    return _text_or_bytes(column, 2 if size > 255 else 1)


def _blob(column: ColumnMeta) -> Prefixed:
    return _text_or_bytes(column, _length_bytes(column))


def opaque_codec(column: ColumnMeta) -> Prefixed:
    """How to read a column's bytes as they are stored: GEOMETRY, VECTOR, JSON."""
    return Prefixed(_length_bytes(column))


def _json(column: ColumnMeta) -> Prefixed:
    return Prefixed(_length_bytes(column), json_text)


def _length_bytes(column: ColumnMeta) -> int:
    if not 1 <= column.meta <= 4:
        raise Malformed(f"a length of {column.meta} bytes cannot be")
    return column.meta


def _text_or_bytes(column: ColumnMeta, length_bytes: int) -> Prefixed:
    """Raises LookupError when there is no decoder for the column's charset."""
    if column.is_binary:
        return Prefixed(length_bytes)
    to_text = text_decoder(column.collation or 0)
    if to_text is None:
        raise LookupError(column.collation)
    return Prefixed(length_bytes, to_text, is_utf8=is_utf8(column.collation or 0))


_MAKERS: Final[Mapping[int, Callable[[ColumnMeta], Codec]]] = {
    t.TINY: _integer,
    t.SHORT: _integer,
    t.INT24: _integer24,
    t.LONG: _integer,
    t.LONGLONG: _integer,
    t.FLOAT: _float,
    t.DOUBLE: _double,
    t.NEWDECIMAL: _decimal,
    t.YEAR: _year,
    t.DATE: _date,
    t.NEWDATE: _date,
    t.TIMESTAMP2: _timestamp,
    t.DATETIME2: _datetime,
    t.TIME2: _time,
    t.BIT: _bit,
    t.ENUM: _enum,
    t.SET: _set,
    t.STRING: _string,
    t.VARCHAR: _string,
    t.VAR_STRING: _string,
    t.BLOB: _blob,
    t.JSON: _json,
    t.GEOMETRY: opaque_codec,
    t.VECTOR: opaque_codec,
}
