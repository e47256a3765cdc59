"""Hand-built multi-row INSERTs: escaped once, split so that no statement outgrows the server's packet."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pymysql.connections import Connection
from pymysql.converters import escape_string

STATEMENT_CHARACTERS_MAX = 4 * 1024 * 1024


def literal(value: Any) -> str:
    """Return None, a bool, an int or a str as an SQL literal (sql_mode without NO_BACKSLASH_ESCAPES)."""
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return f"'{escape_string(value)}'"
    return str(int(value))


def literal_bytes(value: bytes) -> str:
    """Return bytes as a hexadecimal literal."""
    return f"X'{value.hex()}'"


def insert_rows(connection: Connection[Any], head: str, rows: Iterable[str], tail: str = "") -> None:
    """Run `head row,row,… tail` as often as the size needs; nothing where there is no row. `rows` are value lists in brackets."""
    part: list[str] = []
    size = 0
    for row in rows:
        if part and size + len(row) > STATEMENT_CHARACTERS_MAX:
            connection.query(f"{head}{','.join(part)}{tail}")
            part, size = [], 0
        part.append(row)
        size += len(row) + 1
    if part:
        connection.query(f"{head}{','.join(part)}{tail}")
