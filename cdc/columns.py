"""Decoders of single column values: from a column's meta to a function (bytes, position) → (value, next position).

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

A function does not check that a string ends inside the event: the sum of all lengths is checked once for each event.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Final

from cdc import table_map as t
from cdc.charsets import charset_name, text_decoder
from cdc.decimals import decimal_bytes, decimal_reader
from cdc.decode_json import json_text
from cdc.events import Malformed
from cdc.table_map import ColumnMeta
from cdc.temporal import date_text, datetime_text, fraction_text, time_text, timestamp_text
from schema.errors import Halt

Value = int | float | str | bytes | None
"""What a column holds; JSON is a JsonText, which is a str."""
Decoder = Callable[[bytes, int], tuple[Value, int]]
ByteReader = Callable[[bytes, int], tuple[bytes, int]]

_F32: Final = struct.Struct("<f")
_F64: Final = struct.Struct("<d")
_STRUCT_CODES: Final[Mapping[int, str]] = {t.TINY: "b", t.SHORT: "h", t.LONG: "i", t.LONGLONG: "q"}


def column_decoder(table: str, column: ColumnMeta) -> Decoder:
    """The decoder of one column. `table` is for messages.

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


def _integer(column: ColumnMeta) -> Decoder:
    code = _STRUCT_CODES[column.type]
    number = struct.Struct("<" + (code.upper() if column.is_unsigned else code))
    unpack, size = number.unpack_from, number.size

    def decode(data: bytes, at: int) -> tuple[Value, int]:
        return unpack(data, at)[0], at + size

    return decode


def _integer24(column: ColumnMeta) -> Decoder:
    is_signed = not column.is_unsigned

    def decode(data: bytes, at: int) -> tuple[Value, int]:
        return int.from_bytes(data[at : at + 3], "little", signed=is_signed), at + 3

    return decode


def _float(_: ColumnMeta) -> Decoder:
    def decode(data: bytes, at: int) -> tuple[Value, int]:
        return shortest_float(data[at : at + 4]), at + 4

    return decode


def _double(_: ColumnMeta) -> Decoder:
    unpack = _F64.unpack_from

    def decode(data: bytes, at: int) -> tuple[Value, int]:
        return unpack(data, at)[0], at + 8

    return decode


def _decimal(column: ColumnMeta) -> Decoder:
    precision, scale = column.meta >> 8, column.meta & 255
    read = decimal_reader(precision, scale)
    size = decimal_bytes(precision, scale)

    def decode(data: bytes, at: int) -> tuple[Value, int]:
        end = at + size
        return read(data[at:end]), end

    return decode


def _year(_: ColumnMeta) -> Decoder:
    def decode(data: bytes, at: int) -> tuple[Value, int]:
        return data[at] + 1900 if data[at] else 0, at + 1

    return decode


def _date(_: ColumnMeta) -> Decoder:
    def decode(data: bytes, at: int) -> tuple[Value, int]:
        return date_text(int.from_bytes(data[at : at + 3], "little")), at + 3

    return decode


def _fraction_digits(column: ColumnMeta) -> tuple[int, int]:
    """Digits of the fraction and the bytes that hold it."""
    if column.meta > 6:
        raise Malformed(f"{column.meta} digits of fraction cannot be")
    return column.meta, (column.meta + 1) // 2


def _timestamp(column: ColumnMeta) -> Decoder:
    digits, extra = _fraction_digits(column)
    size = 4 + extra

    def decode(data: bytes, at: int) -> tuple[Value, int]:
        text, end = timestamp_text(int.from_bytes(data[at : at + 4], "big")), at + size
        return text + fraction_text(int.from_bytes(data[at + 4 : end], "big"), digits) if digits else text, end

    return decode


def _datetime(column: ColumnMeta) -> Decoder:
    digits, extra = _fraction_digits(column)
    size = 5 + extra

    def decode(data: bytes, at: int) -> tuple[Value, int]:
        packed, end = int.from_bytes(data[at : at + 5], "big") & 0x7FFFFFFFFF, at + size
        text = datetime_text(packed)
        return text + fraction_text(int.from_bytes(data[at + 5 : end], "big"), digits) if digits else text, end

    return decode


def _time(column: ColumnMeta) -> Decoder:
    """Stored as one big-endian number with its sign as an offset, so that a negative fraction borrows from the second."""
    digits, extra = _fraction_digits(column)
    size, bits = 3 + extra, 8 * extra
    zero, mask = 1 << 8 * size - 1, (1 << bits) - 1

    def decode(data: bytes, at: int) -> tuple[Value, int]:
        end = at + size
        packed = int.from_bytes(data[at:end], "big") - zero
        length = abs(packed)
        text = ("-" if packed < 0 else "") + time_text(length >> bits)
        return text + fraction_text(length & mask, digits) if digits else text, end

    return decode


def _bit(column: ColumnMeta) -> Decoder:
    size = (column.meta + 7) // 8

    def decode(data: bytes, at: int) -> tuple[Value, int]:
        return int.from_bytes(data[at : at + size], "big"), at + size

    return decode


def _enum(column: ColumnMeta) -> Decoder:
    size, labels = column.meta, ("", *column.labels)

    def decode(data: bytes, at: int) -> tuple[Value, int]:
        return labels[int.from_bytes(data[at : at + size], "little")], at + size

    return decode


def _set(column: ColumnMeta) -> Decoder:
    size, labels = column.meta, column.labels
    known: dict[int, str] = {}

    def decode(data: bytes, at: int) -> tuple[Value, int]:
        bits = int.from_bytes(data[at : at + size], "little")
        text = known.get(bits)
        if text is None:
            if bits >> len(labels):
                raise Malformed("a SET has a bit without a label")
            text = ",".join(label for place, label in enumerate(labels) if bits >> place & 1)
            if len(known) < 1000:
                known[bits] = text
        return text, at + size

    return decode


def _length_prefixed(size: int) -> ByteReader:
    """Bytes after their length in 1 … 4 bytes."""
    if size == 1:

        def read_short(data: bytes, at: int) -> tuple[bytes, int]:
            end = at + 1 + data[at]
            return data[at + 1 : end], end

        return read_short

    def read(data: bytes, at: int) -> tuple[bytes, int]:
        start = at + size
        end = start + int.from_bytes(data[at:start], "little")
        return data[start:end], end

    return read


def _string(column: ColumnMeta) -> Decoder:
    """CHAR, VARCHAR, BINARY and VARBINARY; `meta` is the most bytes they hold."""
    decode = _text_or_bytes(column, 2 if column.meta > 255 else 1)
    if column.type != t.STRING or not column.is_binary:
        return decode
    size = column.meta

    def decode_padded(data: bytes, at: int) -> tuple[Value, int]:
        value, end = decode(data, at)
        assert isinstance(value, bytes)
        return value.ljust(size, b"\0"), end  # the binlog leaves trailing zero bytes out

    return decode_padded


def _blob(column: ColumnMeta) -> Decoder:
    return _text_or_bytes(column, _length_bytes(column))


def _opaque(column: ColumnMeta) -> Decoder:
    return _length_prefixed(_length_bytes(column))


def _json(column: ColumnMeta) -> Decoder:
    read = _length_prefixed(_length_bytes(column))

    def decode(data: bytes, at: int) -> tuple[Value, int]:
        raw, end = read(data, at)
        return json_text(raw), end

    return decode


def _length_bytes(column: ColumnMeta) -> int:
    if not 1 <= column.meta <= 4:
        raise Malformed(f"a length of {column.meta} bytes cannot be")
    return column.meta


def _text_or_bytes(column: ColumnMeta, length_bytes: int) -> Decoder:
    """Raises LookupError when there is no decoder for the column's charset."""
    read = _length_prefixed(length_bytes)
    if column.is_binary:
        return read
    to_text = text_decoder(column.collation or 0)
    if to_text is None:
        raise LookupError(column.collation)

    def decode(data: bytes, at: int) -> tuple[Value, int]:
        raw, end = read(data, at)
        return to_text(raw), end

    return decode


_MAKERS: Final[Mapping[int, Callable[[ColumnMeta], Decoder]]] = {
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
    t.GEOMETRY: _opaque,
    t.VECTOR: _opaque,
}
