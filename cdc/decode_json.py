"""MySQL's binary JSON as the JSON text that SELECT prints: keys in stored order, `, ` and `: ` between, no number changed.

The text is never parsed: integers up to 2^64, decimals and doubles keep their digits. Dates, times and binary values
become the strings that MySQL's own cast to text makes.

Source: MySQL 9.7, sql-common/json_binary.h (layout), sql-common/json_dom.cc `Json_wrapper::to_string` (text).
"""

from __future__ import annotations

import base64
import math
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from cdc.decimals import decimal_text
from cdc.events import Malformed
from cdc.temporal import json_date_text, json_datetime_text, json_time_text

_CONTAINERS: Final[Mapping[int, tuple[bool, int]]] = {0: (True, 2), 1: (True, 4), 2: (False, 2), 3: (False, 4)}
"""Whether it is an object, and the bytes of its offsets, by type."""
_LITERAL: Final = 4
_DOUBLE: Final = 11
_STRING: Final = 12
_OPAQUE: Final = 15

_BASE64_LINE: Final = 76
"""Characters of base64 after which MySQL puts a line end, also inside JSON."""
_DEPTH_MAX: Final = 100
"""MySQL refuses deeper documents (error 3157)."""
_LITERALS: Final = ("null", "true", "false")
_INTEGERS: Final[Mapping[int, tuple[int, bool]]] = {
    5: (2, True),
    6: (2, False),
    7: (4, True),
    8: (4, False),
    9: (8, True),
    10: (8, False),
}
"""Size and whether signed, by type."""
_F64: Final = struct.Struct("<d").unpack_from
_ESCAPED: Final = re.compile(r'["\\\x00-\x1f]')
_ESCAPES: Final[Mapping[str, str]] = {
    **{chr(code): f"\\u{code:04x}" for code in range(32)},
    '"': '\\"',
    "\\": "\\\\",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
}


Tree = str | list["Tree"] | dict[str, "Tree"]
"""A document whose containers can be changed; a string is the JSON text of a value that is none."""


class JsonText(str):
    """The text of a JSON document, to tell it from a string value."""

    __slots__ = ()


def json_text(data: bytes) -> JsonText:
    """The text of a stored JSON value. Raises ValueError, IndexError or struct.error on bytes that are none."""
    if not data:
        return JsonText("null")  # what MySQL reads from an empty value, as lax sessions once could store
    return JsonText(_value(data, data[0], 1, 0))


def json_tree(data: bytes) -> Tree:
    """The same document as what can be changed: objects and arrays as they nest, everything else as its text.

    Raises as `json_text` does.
    """
    return _subtree(data, data[0], 1, 0) if data else "null"


def _subtree(data: bytes, type_: int, at: int, depth: int) -> Tree:
    if type_ not in _CONTAINERS:
        return _value(data, type_, at, depth)
    if depth >= _DEPTH_MAX:
        raise Malformed("JSON is nested too deep")
    is_object, width = _CONTAINERS[type_]
    found = _members(data, at, width, is_object=is_object)
    if is_object:
        return {key: _subtree(data, inner, place, depth + 1) for key, inner, place in found}
    return [_subtree(data, inner, place, depth + 1) for _, inner, place in found]


def tree_text(tree: Tree) -> JsonText:
    """The text of a tree, its keys in MySQL's order: shorter ones first, then by their bytes."""
    return JsonText(_tree_text(tree))


def _tree_text(tree: Tree) -> str:
    if isinstance(tree, str):
        return tree
    if isinstance(tree, list):
        return "[" + ", ".join(map(_tree_text, tree)) + "]"
    keys = sorted(tree, key=lambda key: (len(raw := key.encode()), raw))
    return "{" + ", ".join([f"{quote(key)}: {_tree_text(tree[key])}" for key in keys]) + "}"


def quote(text: str) -> str:
    """A JSON string as MySQL writes it."""
    if _ESCAPED.search(text):
        text = _ESCAPED.sub(lambda found: _ESCAPES[found[0]], text)
    return f'"{text}"'


def _value(data: bytes, type_: int, at: int, depth: int) -> str:
    """The value of `type_` whose body starts at `at`."""
    if type_ == _STRING:
        size, start = _length(data, at)
        return quote(_slice(data, start, size).decode())
    if type_ in _INTEGERS:
        size, is_signed = _INTEGERS[type_]
        return str(int.from_bytes(_slice(data, at, size), "little", signed=is_signed))
    if type_ == _DOUBLE:
        return double_text(_F64(data, at)[0])
    if type_ == _LITERAL:
        return _LITERALS[data[at]]
    if type_ in _CONTAINERS:
        is_object, width = _CONTAINERS[type_]
        return _container(data, at, width, depth + 1, is_object=is_object)
    if type_ == _OPAQUE:
        size, start = _length(data, at + 1)
        return _opaque(data[at], _slice(data, start, size))
    raise Malformed(f"JSON type {type_} is not known")


def _container(data: bytes, base: int, width: int, depth: int, *, is_object: bool) -> str:
    """`width` is the size of its offsets; all of them count from `base`."""
    if depth > _DEPTH_MAX:
        raise Malformed("JSON is nested too deep")
    found = _members(data, base, width, is_object=is_object)
    if is_object:
        return "{" + ", ".join([f"{quote(key)}: {_value(data, type_, at, depth)}" for key, type_, at in found]) + "}"
    return "[" + ", ".join([_value(data, type_, at, depth) for _, type_, at in found]) + "]"


def _members(data: bytes, base: int, width: int, *, is_object: bool) -> Iterator[tuple[str, int, int]]:
    """Key ("" in an array), type and place of each member of a container; offsets of `width` bytes count from `base`."""
    count = int.from_bytes(_slice(data, base, width), "little")
    size = int.from_bytes(_slice(data, base + width, width), "little")
    if base + size > len(data):
        raise Malformed("JSON is cut off")
    key_at = base + 2 * width
    value_at = key_at + (count * (width + 2) if is_object else 0)
    if value_at + count * (1 + width) > base + size:
        raise Malformed("JSON has more members than bytes")
    key = ""
    for _ in range(count):
        type_ = data[value_at]
        if type_ == _LITERAL or type_ in (5, 6) or (width == 4 and type_ in (7, 8)):
            at = value_at + 1  # small enough to stand in place of the offset
        else:
            at = base + int.from_bytes(data[value_at + 1 : value_at + 1 + width], "little")
        value_at += 1 + width
        if is_object:
            key_offset = int.from_bytes(data[key_at : key_at + width], "little")
            key_size = data[key_at + width] | data[key_at + width + 1] << 8
            key_at += width + 2
            key = _slice(data, base + key_offset, key_size).decode()
        yield key, type_, at


def double_text(value: float) -> str:
    """The shortest digits that mean this double, laid out as MySQL does (`my_gcvt`, strings/dtoa.cc).

    It writes out up to 15 digits of a whole number and 14 zeros after the point, else it takes an exponent; a whole
    number gets `.0`.
    """
    if not math.isfinite(value):
        raise Malformed("JSON holds a double that is no number")
    sign = "-" if repr(value)[0] == "-" else ""
    mantissa, _, exponent_text = f"{abs(value)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent_text or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    if not digits:
        return f"{sign}0.0"
    if point >= -14 and (point <= 15 or len(digits) > point):
        if point <= 0:
            return f"{sign}0.{'0' * -point}{digits}"
        return f"{sign}{digits[:point].ljust(point, '0')}.{digits[point:] or '0'}"
    tail = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{tail}e{point - 1}"


def _opaque_decimal(raw: bytes) -> str:
    return decimal_text(raw[2:], raw[0], raw[1])


def _opaque_temporal(text: Callable[[int], str]) -> Callable[[bytes], str]:
    def read(raw: bytes) -> str:
        if len(raw) != 8:
            raise Malformed("a date or time in JSON is cut off")
        return f'"{text(int.from_bytes(raw, "little", signed=True))}"'

    return read


_OPAQUE_TEXT: Final[Mapping[int, Callable[[bytes], str]]] = {
    7: _opaque_temporal(json_datetime_text),
    10: _opaque_temporal(json_date_text),
    11: _opaque_temporal(json_time_text),
    12: _opaque_temporal(json_datetime_text),
    246: _opaque_decimal,
}


def _opaque(type_: int, raw: bytes) -> str:
    """A value that JSON has no type for. `type_` is a MySQL column type."""
    read = _OPAQUE_TEXT.get(type_)
    if read:
        return read(raw)
    encoded = base64.b64encode(raw).decode()
    lines = (encoded[at : at + _BASE64_LINE] for at in range(0, len(encoded), _BASE64_LINE))
    return quote(f"base64:type{type_}:" + "\n".join(lines))


def _length(data: bytes, at: int) -> tuple[int, int]:
    """A length of seven bits a byte, lowest first, and the position after it."""
    size = shift = 0
    while True:
        byte = data[at]
        at += 1
        size |= (byte & 127) << shift
        if byte < 128:
            return size, at
        shift += 7
        if shift > 28:
            raise Malformed("a length in JSON has no end")


def _slice(data: bytes, start: int, size: int) -> bytes:
    if start + size > len(data):
        raise Malformed("JSON is cut off")
    return data[start : start + size]
