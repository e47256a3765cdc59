"""The columns of a change's `data` or `sealed` as the bytes that stand there, so that comparing and copying changes none.

A number, or a JSON column's key order, that went through Python's values might come out in another way than the encoder of events
wrote it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import orjson

NULL = "null"
_VALUES = json.JSONDecoder(parse_int=str, parse_float=str)
"""Numbers stay text: no length limit, no rounding; only where a value ends is asked."""
_GAP = re.compile(r"[\s:,]*")


def split_columns(text: str | None) -> dict[str, str]:
    """Column → JSON text of its value, in the order they stand in. Of None, or of a text that is no object, there are none."""
    columns: dict[str, str] = {}
    if text is None or not text.startswith("{"):
        return columns
    try:
        at = _after_gap(text, 1)
        while text[at] != "}":
            name, end = _VALUES.raw_decode(text, at)
            at = _after_gap(text, end)
            _, end = _VALUES.raw_decode(text, at)
            columns[name] = text[at:end]
            at = _after_gap(text, end)
    except (ValueError, IndexError):
        return {}
    return columns


def _after_gap(text: str, at: int) -> int:
    found = _GAP.match(text, at)
    assert found is not None
    return found.end()


def join_columns(columns: Mapping[str, str]) -> str:
    """The reverse, as the encoder of events writes an object."""
    return f"{{{','.join(f'{orjson.dumps(name).decode()}:{value}' for name, value in columns.items())}}}"
