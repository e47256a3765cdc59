"""Changes by generated code: from the bytes of a row event straight to the JSON that is stored and sent.

For a declared table, what an event does and a pattern of NULLs there is one straight-line function, made at the first such row. It
says what `derive.py` says of images, at a third of the time: no value becomes an object of its own, and of two images only what
differs is looked at. The code holds names of `schema.tables`, numbers and sizes, never a value of a row. `change_reader.py` calls
it, and goes through `images.py` and `derive.py` where there is none; tests compare both ways.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from json.encoder import encode_basestring
from typing import Any, Final, NamedTuple, cast

import orjson

from cdc import table_map as t
from cdc.columns import Codec, Fixed, Prefixed
from cdc.images import AS_DECODED, FLAGS
from cdc.row_code import text_lines
from cdc.table_map import ColumnMeta
from schema.changes import Operation, RecordChange
from schema.columns import Column, Kind
from schema.tables import Table
from schema.values import SAFE_INTEGER_MAX, rfc3339_from_us

ChangeFunction = Callable[[bytes, int, int], tuple[RecordChange | None, int]]
"""Reads a row's image, or both, whose values begin at a position; the time of the commit is in µs.

None where the row moved to another company or got another id, which makes two changes.
"""
UpdateFunction = Callable[[bytes, int, int], tuple[RecordChange | None, int] | int]
"""The same of an update, for one pattern of NULLs in both images; where the second has another one, the position of its bitmap."""

WAS_LIVE: Final = '{"deleted_at":null}'
"""What was before a row was deleted that was not deleted softly before."""
_FLAG_TEXTS: Final = {value: "true" if value else "false" for value in FLAGS}
_IS_SAFE: Final = f"{-SAFE_INTEGER_MAX} <= {{0}} <= {SAFE_INTEGER_MAX}"
_PLAIN_TYPES: Final = {
    Kind.DECIMAL: (t.NEWDECIMAL,),
    Kind.DATE: (t.DATE, t.NEWDATE),
    Kind.TIMESTAMP: (t.TIMESTAMP2,),
}
"""Kinds whose text has nothing in it that JSON escapes, if the column is of such a type."""


class _Read(NamedTuple):
    """One column of a table map: how to read it, and where it goes."""

    codec: Codec
    meta: ColumnMeta
    column: Column | None


@dataclass(frozen=True, slots=True)
class ChangeCode:
    """Makes the functions of one table map. `codecs` read images (`cdc.images.image_codecs`), one for each of its columns."""

    table: Table
    columns: Sequence[ColumnMeta]
    codecs: Sequence[Codec]

    def stored(self, nulls: int) -> ChangeFunction:
        """The function of an insert. Bit n of `nulls` says that column n is NULL."""
        writer = self._writer()
        writer.read("v", nulls)
        operation = "INSERT" if writer.is_null("deleted_at", nulls) else "DELETE"
        writer.check_rest("v", nulls)
        return cast(ChangeFunction, writer.function(f"({writer.change('v', nulls, operation)}, at)"))

    def deleted(self, nulls: int) -> ChangeFunction:
        """The function of a delete; a row that was not deleted softly before is so at the time of its commit."""
        writer = self._writer()
        writer.read("v", nulls)
        writer.check_rest("v", nulls)
        if not writer.is_null("deleted_at", nulls):
            return cast(ChangeFunction, writer.function(f"({writer.change('v', nulls, 'DELETE')}, at)"))
        change = writer.change("v", nulls, "DELETE", before="WAS_LIVE", deleted_at='"{time_text(time_us)}"')
        return cast(ChangeFunction, writer.function(f"({change}, at)"))

    def updated(self, nulls_before: int, nulls: int) -> UpdateFunction:
        """The function of an update with these patterns of NULLs before and after."""
        writer = self._writer()
        size = (len(self.columns) + 7) // 8
        writer.read("b", nulls_before)
        writer.names["bitmap"] = nulls.to_bytes(size, "little")
        writer.lines += [f" if body[at:at + {size}] != bitmap:", "  return at", f" at += {size}"]
        writer.read("v", nulls)
        writer.compare(nulls_before, nulls)
        writer.check_rest("v", nulls)
        was_deleted = not writer.is_null("deleted_at", nulls_before)
        is_deleted = not writer.is_null("deleted_at", nulls)
        operation = "DELETE" if is_deleted else "INSERT" if was_deleted else "UPDATE"
        change = writer.change("v", nulls, operation, before="'{' + before[1:] + '}'")
        return cast(UpdateFunction, writer.function(f"({change}, at)"))

    def _writer(self) -> _Writer:
        by_name = self.table.by_name
        reads = [_Read(codec, meta, by_name.get(meta.name)) for codec, meta in zip(self.codecs, self.columns, strict=True)]
        return _Writer(self.table, reads)


class _Writer:
    """One function while it is written. A column's raw value is a variable: `v3` after, or alone, and `b3` before."""

    def __init__(self, table: Table, reads: Sequence[_Read]) -> None:
        self._table = table
        self._reads = reads
        self._places = {read.meta.name: place for place, read in enumerate(reads)}
        self.lines: list[str] = []
        self.names: dict[str, Any] = {
            "new": tuple.__new__, "RecordChange": RecordChange, "table": table.name, "escaped": encode_basestring, "json": _json,
            "document": _document, "number": _number, "time_text": rfc3339_from_us, "WAS_LIVE": WAS_LIVE, **Operation.__members__,
        }  # fmt: skip
        for place, (codec, meta, column) in enumerate(reads):
            self.names[f"f{place}"] = codec.convert
            if column is not None and isinstance(codec, Fixed):
                self.names[f"texts{place}"] = _texts(codec, meta, column)

    def is_null(self, name: str, nulls: int) -> bool:
        return bool(nulls >> self._places[name] & 1)

    def read(self, prefix: str, nulls: int) -> None:
        """Lines that take an image's raw values: neighbours of fixed size by one call."""
        run: list[int] = []

        def end_run() -> None:
            if run:
                reader = struct.Struct("<" + "".join(cast(Fixed, self._reads[place].codec).code for place in run))
                self.names[f"unpack_{prefix}{run[0]}"] = reader.unpack_from
                variables = "".join(f"{prefix}{place}, " for place in run)
                self.lines.extend((f" {variables}= unpack_{prefix}{run[0]}(body, at)", f" at += {reader.size}"))
                run.clear()

        for place, (codec, _, _) in enumerate(self._reads):
            if nulls >> place & 1:
                continue
            if isinstance(codec, Fixed):
                run.append(place)
            else:
                end_run()
                self.lines += text_lines(f"{prefix}{place}", codec.length_bytes)
        end_run()

    def compare(self, nulls_before: int, nulls: int) -> None:
        """Lines that leave for a row that moved, and make `before`: the public columns that differ, as they were."""
        for name in ("id", self._table.company_column):
            old, new = self._number("b", name, nulls_before), self._number("v", name, nulls)
            self.lines += [f" if {old} != {new}:", "  return None, at"]
        self.lines.append(" before = ''")
        public = {column.name for column in self._table.public} - {"id", self._table.company_column}
        in_order = sorted(range(len(self._reads)), key=self._order)
        for place in in_order:
            name, was_null, is_null = self._reads[place].meta.name, nulls_before >> place & 1, nulls >> place & 1
            if was_null and is_null:
                continue
            differs = "True" if was_null or is_null else self._differs(place)
            if name in public:
                self.lines += [f" if {differs}:", f"  before += f''',{_key(name)}:{self._wire('b', place, nulls_before)}'''"]
            elif not was_null and (check := self._image("b", place)) != f"b{place}":
                self.lines += [f" if {differs}:", f"  {check}"]  # what is left out must make sense all the same

    def check_rest(self, prefix: str, nulls: int) -> None:
        """Lines that read the values which no JSON has."""
        sent = {column.name for column in (*self._table.public, *self._table.restricted)}
        for place, read in enumerate(self._reads):
            image = self._image(prefix, place)
            if read.meta.name not in sent and not nulls >> place & 1 and image != f"{prefix}{place}":
                self.lines.append(f" {image}")

    def change(self, prefix: str, nulls: int, operation: str, *, before: str = "None", deleted_at: str = "") -> str:
        """An expression for the change that an image makes; `deleted_at` is what it has there in place of its own value."""
        texts = [self._document(columns, prefix, nulls, deleted_at) for columns in (self._table.public, self._table.restricted)]
        data, sealed = texts[0], texts[1] if self._table.restricted else "None"
        company, record_id = (self._number(prefix, name, nulls) for name in (self._table.company_column, "id"))
        is_deleted = operation == "DELETE"
        return f"new(RecordChange, ({company}, table, {record_id}, {operation}, {data}, {sealed}, {before}, {is_deleted}))"

    def function(self, result: str) -> Any:
        """Compile what was written, with what it returns."""
        code = "def change(body, at, time_us):\n" + "\n".join(self.lines) + f"\n return {result}\n"
        exec(compile(code, "<change>", "exec"), self.names)
        return self.names["change"]

    def _order(self, place: int) -> int:
        column = self._reads[place].column
        return self._table.columns.index(column) if column is not None else len(self._table.columns)

    def _document(self, columns: Sequence[Column], prefix: str, nulls: int, deleted_at: str) -> str:
        parts = []
        for column in columns:
            is_told = deleted_at and column.name == "deleted_at"
            text = deleted_at if is_told else self._wire(prefix, self._places[column.name], nulls)
            parts.append(f"{_key(column.name)}:{text}")
        return f"f'''{{{{{','.join(parts)}}}}}'''"

    def _differs(self, place: int) -> str:
        """Whether the value differs. For what has a text of its own, equal bytes are enough, but different ones are not."""
        codec, differs = self._reads[place].codec, f"b{place} != v{place}"
        is_plain = codec.convert is None or (isinstance(codec, Prefixed) and codec.is_utf8)
        return differs if is_plain else f"{differs} and {self._image('b', place)} != {self._image('v', place)}"

    def _image(self, prefix: str, place: int) -> str:
        """An expression for what an image holds."""
        codec, raw = self._reads[place].codec, f"{prefix}{place}"
        if isinstance(codec, Prefixed) and codec.is_utf8:
            return f"{raw}.decode()"
        value = f"f{place}({raw})" if codec.convert is not None else raw
        return f"({codec.expression.format(value)})" if isinstance(codec, Fixed) and codec.expression else value

    def _wire(self, prefix: str, place: int, nulls: int) -> str:
        """The value as JSON, as a part of an f-string."""
        codec, meta, column = self._reads[place]
        assert column is not None
        raw, image = f"{prefix}{place}", self._image(prefix, place)
        if nulls >> place & 1:
            return "null"
        if column.kind is Kind.JSON:
            return f"{{document({image})}}" if meta.type != t.JSON else f"{{{image}}}"
        if isinstance(codec, Prefixed):
            return f"{{escaped({image})}}" if codec.is_utf8 and column.kind in AS_DECODED else f"{{json({image})}}"
        if self.names[f"texts{place}"] is not None:
            return f"{{texts{place}[{raw}]}}"
        if column.kind is Kind.INTEGER and codec.convert is None:
            return f"{{{raw}}}" if not codec.expression else f"{{{raw} if {_IS_SAFE.format(raw)} else json(str({raw}))}}"
        if meta.type in _PLAIN_TYPES.get(column.kind, ()):
            return f'"{{{image}}}"'
        return f"{{json({image})}}"

    def _number(self, prefix: str, name: str, nulls: int) -> str:
        place = self._places[name]
        codec = self._reads[place].codec
        if nulls >> place & 1:
            return "None"
        return f"{prefix}{place}" if isinstance(codec, Fixed) and codec.convert is None else f"number({self._image(prefix, place)})"


def _key(name: str) -> str:
    """A declared column's name as JSON; it is an identifier, so nothing in it means anything to an f-string."""
    assert name.isidentifier()
    return f'"{name}"'


def _texts(codec: Fixed, meta: ColumnMeta, column: Column) -> Mapping[int, str] | Sequence[str] | None:
    """The JSON of each raw value, where there are few."""
    if column.kind is Kind.BOOLEAN and codec.convert == FLAGS.__getitem__:
        return _FLAG_TEXTS
    if column.kind is Kind.ENUM and meta.type == t.ENUM:
        return tuple(map(_json, ("", *meta.labels)))
    return None


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _document(value: Any) -> str:
    """What stands where a document is due: text, or nothing that can be sent."""
    if not isinstance(value, str):
        raise TypeError("a JSON column holds no text")
    return value


def _number(value: Any) -> Any:
    """Ids beyond 2^53 − 1 are text on the wire."""
    return int(value) if isinstance(value, str) else value
