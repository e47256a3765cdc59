"""TABLE_MAP events: the columns of a table as they were when the rows after them were written.

Names, signs, charsets and labels come from here and never from a later look at the schema, so `binlog_row_metadata=FULL`
is demanded of every table that is read. What the columns' bytes mean is `columns.py`.

Source: MySQL 9.7, libs/mysql/binlog/event/rows_event.h, "Table_map_event" and "Optional metadata fields".
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cdc.charsets import BINARY_COLLATION, text_decoder
from cdc.events import Malformed, read_lenenc
from schema.errors import Halt

if TYPE_CHECKING:
    from cdc.change_reader import ChangeReader
    from cdc.row_code import RowReader
    from schema.tables import Table

TINY: Final = 1
SHORT: Final = 2
LONG: Final = 3
FLOAT: Final = 4
DOUBLE: Final = 5
LONGLONG: Final = 8
INT24: Final = 9
DATE: Final = 10
YEAR: Final = 13
NEWDATE: Final = 14
VARCHAR: Final = 15
BIT: Final = 16
TIMESTAMP2: Final = 17
DATETIME2: Final = 18
TIME2: Final = 19
VECTOR: Final = 242
JSON: Final = 245
NEWDECIMAL: Final = 246
ENUM: Final = 247
SET: Final = 248
BLOB: Final = 252
VAR_STRING: Final = 253
STRING: Final = 254
GEOMETRY: Final = 255

TYPE_NAMES: Final[Mapping[int, str]] = {
    0: "DECIMAL (before 5.0)",
    7: "TIMESTAMP (before 5.6)",
    11: "TIME (before 5.6)",
    12: "DATETIME (before 5.6)",
    20: "typed array",
}

_META_BYTES: Final[Mapping[int, int]] = {
    **dict.fromkeys((0, TINY, SHORT, LONG, 6, 7, LONGLONG, INT24, DATE, 11, 12, YEAR, NEWDATE), 0),
    **dict.fromkeys((FLOAT, DOUBLE, TIMESTAMP2, DATETIME2, TIME2, VECTOR, JSON, BLOB, GEOMETRY), 1),
    **dict.fromkeys((VARCHAR, BIT, NEWDECIMAL, ENUM, SET, VAR_STRING, STRING), 2),
}
_SIGNED_TYPES: Final = frozenset({TINY, SHORT, INT24, LONG, LONGLONG, NEWDECIMAL, FLOAT, DOUBLE})
_TEXT_TYPES: Final = frozenset({STRING, VARCHAR, VAR_STRING, BLOB})
_CHARSET_TYPES: Final = _TEXT_TYPES | {VECTOR}
"""Types for which the metadata holds a charset."""

_SIGNEDNESS: Final = 1
_DEFAULT_CHARSET: Final = 2
_COLUMN_CHARSET: Final = 3
_COLUMN_NAME: Final = 4
_SET_LABELS: Final = 5
_ENUM_LABELS: Final = 6
_GEOMETRY_TYPE: Final = 7
_SIMPLE_PRIMARY_KEY: Final = 8
_PREFIXED_PRIMARY_KEY: Final = 9
_LABEL_DEFAULT_CHARSET: Final = 10
_LABEL_CHARSET: Final = 11
_VISIBILITY: Final = 12
_VECTOR_DIMENSIONS: Final = 13


@dataclass(frozen=True, slots=True)
class ColumnMeta:
    """One column. `type` is MySQL's binlog type number, with ENUM and SET told from STRING.

    `meta` holds the type's parameter: bytes of a string (STRING, VARCHAR), of a length (BLOB, JSON, GEOMETRY, VECTOR) or
    of the value (ENUM, SET, FLOAT, DOUBLE), digits of a fraction (TIMESTAMP2, DATETIME2, TIME2), bits (BIT),
    precision × 256 + scale (NEWDECIMAL).
    """

    name: str
    type: int
    meta: int
    is_nullable: bool
    is_unsigned: bool = False
    collation: int | None = None
    labels: tuple[str, ...] = ()
    is_visible: bool = True
    geometry_type: int | None = None
    vector_dimensions: int | None = None

    @property
    def is_binary(self) -> bool:
        """BINARY, VARBINARY or BLOB: bytes, not text."""
        return self.type in _TEXT_TYPES and self.collation == BINARY_COLLATION


@dataclass(eq=False, slots=True)
class TableMap:
    """A table's columns at one point of the binlog. `primary_key` holds column indices, in key order."""

    schema: str
    table: str
    columns: tuple[ColumnMeta, ...]
    primary_key: tuple[int, ...]
    names: tuple[str, ...] = field(init=False)
    index: Mapping[str, int] = field(init=False)
    reader: RowReader | None = field(init=False, default=None, repr=False)
    """What `decode.py` has made for this table, at its first row."""
    document_reader: RowReader | None = field(init=False, default=None, repr=False)
    """The same with JSON as its bytes, for partial updates."""
    change_reader: ChangeReader | None = field(init=False, default=None, repr=False)
    """What `change_reader.py` has made for it, if it is declared."""
    row_heads: dict[int, bytes] = field(init=False, default_factory=dict, repr=False)
    """Heads of row events that were found good, by event type."""
    declared: Table | None = field(init=False, default=None, repr=False)
    """Whose images its rows are read as."""

    def __post_init__(self) -> None:
        self.names = tuple(column.name for column in self.columns)
        self.index = {name: index for index, name in enumerate(self.names)}

    def declare(self, table: Table) -> None:
        """Have its rows read as images of a declared table."""
        self.declared = table


def read_table_name(body: bytes) -> tuple[str, str]:
    """Schema and table of a TABLE_MAP event, without the rest of it."""
    try:
        schema, position = _read_name(body, 8)
        table, _ = _read_name(body, position)
    except (IndexError, ValueError) as problem:
        raise Halt("event_malformed", f"a table map event cannot be read: {problem}") from problem
    return schema, table


def parse_table_map(body: bytes) -> TableMap:
    """Read a TABLE_MAP event's body (6 bytes table id, 2 bytes flags, then the definition).

    Raises Halt: `metadata_minimal`, `unknown_type`, `event_malformed`.
    """
    try:
        return _parse(body)
    except (IndexError, ValueError, struct.error) as problem:
        raise Halt("event_malformed", f"a table map event cannot be read: {problem}") from problem


def _parse(body: bytes) -> TableMap:
    schema, position = _read_name(body, 8)
    table, position = _read_name(body, position)
    count, position = read_lenenc(body, position)
    types = body[position : position + count]
    size, position = read_lenenc(body, position + count)
    kinds = _read_kinds(f"{schema}.{table}", types, body[position : position + size])
    position += size
    null_bytes = (count + 7) // 8
    nullable = int.from_bytes(body[position : position + null_bytes], "little")
    position += null_bytes
    if len(types) != count or position > len(body):
        raise Malformed("columns are cut off")
    fields = _read_fields(body, position)
    if _COLUMN_NAME not in fields:
        raise Halt(
            "metadata_minimal",
            f"the binlog holds no column names for {schema}.{table}",
            hint="SET PERSIST binlog_row_metadata = FULL, skip this event, then `matrix-sync reconcile`",
            details={"schema": schema, "table": table},
        )
    columns = _build_columns(kinds, nullable, fields)
    return TableMap(schema, table, columns, _read_primary_key(fields, count))


def _read_name(body: bytes, position: int) -> tuple[str, int]:
    end = position + 1 + body[position]
    if body[end] != 0:
        raise Malformed("a name does not end with a zero byte")
    return body[position + 1 : end].decode(), end + 1


def _read_kinds(table: str, types: bytes, meta: bytes) -> list[tuple[int, int]]:
    """(type, parameter) of each column."""
    kinds: list[tuple[int, int]] = []
    position = 0
    for number, type_ in enumerate(types):
        size = _META_BYTES.get(type_)
        if size is None:
            raise _unknown_type(table, f"column {number + 1}", type_)
        raw = meta[position : position + size]
        if len(raw) != size:
            raise Malformed("column parameters are cut off")
        position += size
        kinds.append(_read_kind(type_, raw))
    if position != len(meta):
        raise Malformed("more column parameters than columns")
    return kinds


def _read_kind(type_: int, raw: bytes) -> tuple[int, int]:
    if type_ == STRING:
        # CHAR lengths above 255 borrow two bits of the real type, which has both set (MySQL bug 37426).
        real, length = raw[0], raw[1]
        if real & 0x30 != 0x30:
            return real | 0x30, length | ((real & 0x30) ^ 0x30) << 4
        return real, length
    if type_ == BIT:
        return BIT, raw[1] * 8 + raw[0]
    if type_ == NEWDECIMAL:
        return NEWDECIMAL, raw[0] << 8 | raw[1]
    return type_, int.from_bytes(raw, "little")


def _read_fields(body: bytes, position: int) -> dict[int, bytes]:
    fields: dict[int, bytes] = {}
    while position < len(body):
        kind = body[position]
        size, position = read_lenenc(body, position + 1)
        if position + size > len(body):
            raise Malformed("optional metadata is cut off")
        fields[kind] = body[position : position + size]
        position += size
    return fields


def _build_columns(kinds: list[tuple[int, int]], nullable: int, fields: Mapping[int, bytes]) -> tuple[ColumnMeta, ...]:
    count = len(kinds)
    names = [raw.decode() for raw in _read_strings(fields[_COLUMN_NAME])]
    if len(names) != count:
        raise Malformed(f"{len(names)} column names for {count} columns")

    def places(wanted: Callable[[int], bool]) -> list[int]:
        return [index for index, (type_, _) in enumerate(kinds) if wanted(type_)]

    unsigned = _read_bits(fields.get(_SIGNEDNESS, b""), places(_SIGNED_TYPES.__contains__))
    visible = _read_bits(fields[_VISIBILITY], list(range(count))) if _VISIBILITY in fields else set(range(count))
    texts = places(_CHARSET_TYPES.__contains__)
    collations = _read_collations(fields, _DEFAULT_CHARSET, _COLUMN_CHARSET, texts)
    labelled = places((ENUM, SET).__contains__)
    collations.update(_read_collations(fields, _LABEL_DEFAULT_CHARSET, _LABEL_CHARSET, labelled))
    labels = _read_labels(fields.get(_ENUM_LABELS, b""), places(ENUM.__eq__), collations)
    labels.update(_read_labels(fields.get(_SET_LABELS, b""), places(SET.__eq__), collations))
    geometry = dict(zip(places(GEOMETRY.__eq__), _read_numbers(fields.get(_GEOMETRY_TYPE, b"")), strict=False))
    vectors = dict(zip(places(VECTOR.__eq__), _read_numbers(fields.get(_VECTOR_DIMENSIONS, b"")), strict=False))
    return tuple(
        ColumnMeta(
            name=names[index],
            type=type_,
            meta=meta,
            is_nullable=bool(nullable >> index & 1),
            is_unsigned=index in unsigned,
            collation=collations.get(index),
            labels=labels.get(index, ()),
            is_visible=index in visible,
            geometry_type=geometry.get(index),
            vector_dimensions=vectors.get(index),
        )
        for index, (type_, meta) in enumerate(kinds)
    )


def _read_strings(raw: bytes) -> list[bytes]:
    strings: list[bytes] = []
    position = 0
    while position < len(raw):
        size, position = read_lenenc(raw, position)
        strings.append(raw[position : position + size])
        position += size
    if position != len(raw):
        raise Malformed("a string of the metadata is cut off")
    return strings


def _read_numbers(raw: bytes) -> list[int]:
    numbers: list[int] = []
    position = 0
    while position < len(raw):
        number, position = read_lenenc(raw, position)
        numbers.append(number)
    return numbers


def _read_bits(raw: bytes, places: list[int]) -> set[int]:
    """Those of `places` whose bit is set; bits stand highest first."""
    if len(raw) < (len(places) + 7) // 8:
        raise Malformed("a bitmap of the metadata is cut off")
    return {place for bit, place in enumerate(places) if raw[bit >> 3] & 0x80 >> (bit & 7)}


def _read_collations(fields: Mapping[int, bytes], default: int, each: int, places: list[int]) -> dict[int, int]:
    """Collation numbers by column, from either of the two ways in which the server writes them."""
    if not places:
        return {}
    if each in fields:
        return dict(zip(places, _read_numbers(fields[each]), strict=True))
    if default not in fields:
        raise Malformed("the metadata gives no charset")
    common, *pairs = _read_numbers(fields[default])
    collations = dict.fromkeys(places, common)
    for nth, collation in zip(pairs[::2], pairs[1::2], strict=True):
        collations[places[nth]] = collation
    return collations


def _read_labels(raw: bytes, places: list[int], collations: Mapping[int, int]) -> dict[int, tuple[str, ...]]:
    labels: dict[int, tuple[str, ...]] = {}
    position = 0
    for place in places:
        decode = text_decoder(collations[place]) or bytes.decode
        count, position = read_lenenc(raw, position)
        found: list[str] = []
        for _ in range(count):
            size, position = read_lenenc(raw, position)
            found.append(decode(raw[position : position + size]))
            position += size
        labels[place] = tuple(found)
    if position != len(raw):
        raise Malformed("labels of ENUM or SET do not fill their field")
    return labels


def _read_primary_key(fields: Mapping[int, bytes], count: int) -> tuple[int, ...]:
    key = _read_numbers(fields.get(_SIMPLE_PRIMARY_KEY, b"")) or _read_numbers(fields.get(_PREFIXED_PRIMARY_KEY, b""))[::2]
    if any(index >= count for index in key):
        raise Malformed("the primary key names a column that is not there")
    return tuple(key)


def _unknown_type(table: str, column: str, type_: int) -> Halt:
    return Halt(
        "unknown_type",
        f"{column} of {table} has the type {TYPE_NAMES.get(type_, type_)}, which cannot be decoded",
        hint="take the column out of the synced table, or use a version of matrix-sync that knows the type",
        details={"table": table, "column": column, "type": type_},
    )
