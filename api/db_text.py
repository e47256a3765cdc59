"""Parameters written into SQL as literals of MySQL's, for sessions whose sql_mode keeps the backslash an escape (`api.db_pool`).

The driver does the same at several times the cost, which for a push of a hundred changes is milliseconds: a function, and no more,
for each value.
Source: MySQL 9.7 manual, "String Literals", "Hexadecimal Literals".
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from asyncmy.converters import escape_item

from api.db_errors import DataRefused


@dataclass(frozen=True, slots=True)
class Variable:
    """A parameter whose value a statement before it gave: a number of the session's (`SET @name = …`), and what is added to it.

    `name` is ours, never a client's. Source: MySQL 9.7 manual, "User-Defined Variables".
    """

    name: str
    offset: int


_TYPES = (str, bytes, float, Decimal, dt.date, dt.time, dt.timedelta)


def statement_text(sql: str, params: Sequence[Any]) -> str:
    """Return SQL with its parameters in the place of each `%s`.

    Raises TypeError for what is no value: a list or dict of a client's would become SQL of its own, and a number of a class of its
    own may only stand for one (`api.new_ids`); DataRefused for broken text.
    """
    return sql % tuple([_literal(value) for value in params]) if params else sql


def check_parameters(params: Sequence[Any]) -> None:
    """Raise what `statement_text` raises, for a statement whose parameters go apart from it."""
    for value in params:
        _literal(value)


def _literal(value: Any) -> str:
    kind = type(value)
    if kind is str:
        if not value.isascii():
            _check_text(value)
        if "'" in value or "\\" in value or "\0" in value:
            value = value.replace("\\", "\\\\").replace("'", "\\'").replace("\0", "\\0")
        return f"'{value}'"
    if kind is int:
        return str(value)
    if value is None:
        return "NULL"
    if kind is bool:
        return "1" if value else "0"
    if kind is bytes:
        return f"x'{value.hex()}'"
    return _rare(value)


def _rare(value: Any) -> str:
    """Decimals, times, floats, variables, and texts of classes derived from `str`."""
    if isinstance(value, Variable):
        return f"@{value.name}+{value.offset}"
    if not isinstance(value, _TYPES):
        raise TypeError(f"not a statement parameter: {type(value).__name__}")
    if isinstance(value, str):
        return _literal(str(value))
    text: str = format(value, "f") if isinstance(value, Decimal) else escape_item(value, "utf8mb4")
    return text


def _check_text(value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DataRefused(0, "text with half a surrogate pair") from None
