"""Hand-built multi-row INSERTs: escaped once, split so that no statement outgrows the server's packet. For many rows they are the
way out where `load.py` can't store them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from cdc.load import ROWS_MIN, Lines, load_rows, may_load
from cdc.together import PACKET_CHARACTERS_MAX, Together

_T = TypeVar("_T")


def quoted(text: str) -> str:
    """Return text as an SQL literal, for sessions in utf8mb4 whose sql_mode is without NO_BACKSLASH_ESCAPES, as all of ours are.

    Between single quotes two characters mean something to MySQL's lexer, the backslash and the single quote; all others, zero bytes
    and line ends too, stand for themselves (manual, "String Literals": the other escapes are for clients).
    """
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def literal(value: Any) -> str:
    """Return None, a bool, an int or a str as an SQL literal."""
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return quoted(value)
    return str(int(value))


@lru_cache(maxsize=10_000)
def literal_again(value: str | None) -> str:
    """The same for a short text that many rows have: a table's name, a device, a time."""
    return literal(value)


def literal_bytes(value: bytes) -> str:
    """Return bytes as a hexadecimal literal."""
    return f"X'{value.hex()}'"


def insert_rows(run: Callable[[str], object], head: str, rows: Iterable[str], tail: str = "") -> None:
    """`run` `head row,row,… tail` as often as the size needs; nothing where there is no row. `rows` are value lists in brackets."""
    part: list[str] = []
    size = 0
    for row in rows:
        if part and size + len(row) > PACKET_CHARACTERS_MAX:
            run(f"{head}{','.join(part)}{tail}")
            part, size = [], 0
        part.append(row)
        size += len(row) + 1
    if part:
        run(f"{head}{','.join(part)}{tail}")


def store_rows(
    writes: Together,
    into: tuple[str, str],
    rows: Sequence[_T],
    *,
    as_lines: Callable[[Sequence[_T]], Iterable[bytes]],
    as_values: Callable[[_T], str],
    tail: str = "",
) -> None:
    """Have new rows stored, many of them by LOAD DATA LOCAL, few with what else waits. `into` is the table and its columns.

    `as_lines` makes the line of each row, `as_values` a row's value list; `tail` ends the INSERT. `rows` must stay as they are.
    """

    def insert(run: Callable[[str], object]) -> None:
        insert_rows(run, f"INSERT INTO {into[0]} ({into[1]}) VALUES ", map(as_values, rows), tail)

    if len(rows) < ROWS_MIN or not may_load(writes.connection):
        insert(writes.put)
        return
    lines = Lines.of(as_lines(rows))

    def load() -> None:
        if not load_rows(writes.connection, into, lines):
            insert(writes.connection.query)

    writes.put_step(load)
