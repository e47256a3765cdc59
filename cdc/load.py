"""LOAD DATA LOCAL from memory: many rows for half of what the server spends on an INSERT, held to the rules of one.

With LOCAL, MySQL skips a row that is there already and cuts a value that does not fit, and only warns. So the rows count as stored
where the server says that it took each of them without a warning; else all are taken back, and the caller's INSERT stores them or
is refused. No file is ever opened: PyMySQL refuses a server that asks for one by itself, as our sessions do not set `local_infile`.

Source: MySQL 9.7 manual, "LOAD DATA Statement", "Security Considerations for LOAD DATA LOCAL"; "LOCAL INFILE Request".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import pymysql
from pymysql.connections import Connection
from pymysql.constants import CLIENT
from pymysql.constants.COMMAND import COM_QUERY
from pymysql.protocol import OKPacketWrapper

ROWS_MIN: Final = 100
"""With fewer rows the round trips cost more than they save."""
_CHUNK_BYTES: Final = 1024 * 1024
_LINE_BYTES_MAX: Final = 4 * 1024 * 1024
"""A longer row is left to an INSERT, which shows that the server's packets can hold it: else it would be stored and never read."""
_LOAD: Final = (
    "LOAD DATA LOCAL INFILE '-' INTO TABLE {into[0]} CHARACTER SET binary "
    r"FIELDS TERMINATED BY '\t' ESCAPED BY '\\' LINES TERMINATED BY '\n' ({into[1]})"
)
_NOT_HERE: Final = frozenset({1148, 3948, 3950})
"""The server's local_infile is off."""


def field(value: str | int | None) -> str:
    """A text, number or NULL as a field of a line."""
    if value is None:
        return "\\N"
    if isinstance(value, str):
        return value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")
    return str(int(value))


@lru_cache(maxsize=10_000)
def field_again(value: str | None) -> str:
    """The same for a short text that many rows have."""
    return field(value)


def field_bytes(value: bytes) -> bytes:
    """Bytes as a field of a line."""
    return value.replace(b"\\", b"\\\\").replace(b"\t", b"\\t").replace(b"\n", b"\\n")


def may_load(connection: Connection[Any]) -> bool:
    """Whether the session was opened for it, and the server has not refused it."""
    return bool(connection.client_flag & CLIENT.LOCAL_FILES)


@dataclass(frozen=True, slots=True)
class Lines:
    """The bytes of so many rows, each a line of fields; `is_fit` where none is too long for a packet of the server's."""

    rows: int
    data: bytes
    is_fit: bool

    @classmethod
    def of(cls, lines: Iterable[bytes]) -> Lines:
        """Put lines together."""
        kept = list(lines)
        return cls(len(kept), b"".join(kept), max(map(len, kept), default=0) <= _LINE_BYTES_MAX)


def load_rows(connection: Connection[Any], into: tuple[str, str], lines: Lines) -> bool:
    """Store rows within the present transaction. `into` is the table and its columns.

    False where not every row was taken just as it is, or the server wants none this way: then none of them is stored.
    Raises pymysql errors.
    """
    if not may_load(connection) or not lines.is_fit:
        return False
    connection.query("SAVEPOINT load_rows")
    try:
        done = _run(connection, _LOAD.format(into=into), lines.data)
    except pymysql.err.MySQLError as problem:
        if problem.args[0] not in _NOT_HERE:
            raise
        connection.client_flag &= ~CLIENT.LOCAL_FILES
        return False
    if done.affected_rows == lines.rows and not done.warning_count:
        return True
    connection.query("ROLLBACK TO SAVEPOINT load_rows")
    return False


def _run(connection: Any, statement: str, data: bytes) -> OKPacketWrapper:
    """Run the statement with this for its file; the server's answer."""
    connection._execute_command(COM_QUERY, statement)
    asked = connection._read_packet()
    if not asked.is_load_local_packet():
        raise pymysql.err.InternalError(0, "the server wants no rows for LOAD DATA LOCAL")
    _send(connection, data)
    return OKPacketWrapper(connection._read_packet())


def _send(connection: Any, data: bytes) -> None:
    """In packets that a server of any `max_allowed_packet` takes; an empty one ends the file."""
    for start in range(0, len(data), _CHUNK_BYTES):
        connection.write_packet(data[start : start + _CHUNK_BYTES])
    connection.write_packet(b"")
