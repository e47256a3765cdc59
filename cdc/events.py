"""The events of a binlog as bytes with their place, and the numbers that name them.

`source.py` makes RawEvents; `table_map.py`, `decode.py` and `tx.py` read their bodies. Nothing here needs a server.

Source: MySQL 9.7, libs/mysql/binlog/event/binlog_event.h (enum Log_event_type, the header layout).
"""

from __future__ import annotations

from typing import Final, NamedTuple

QUERY: Final = 2
STOP: Final = 3
ROTATE: Final = 4
INTVAR: Final = 5
APPEND_BLOCK: Final = 9
DELETE_FILE: Final = 11
RAND: Final = 13
USER_VAR: Final = 14
FORMAT_DESCRIPTION: Final = 15
XID: Final = 16
BEGIN_LOAD_QUERY: Final = 17
EXECUTE_LOAD_QUERY: Final = 18
TABLE_MAP: Final = 19
WRITE_ROWS_V1: Final = 23
UPDATE_ROWS_V1: Final = 24
DELETE_ROWS_V1: Final = 25
INCIDENT: Final = 26
HEARTBEAT: Final = 27
IGNORABLE: Final = 28
ROWS_QUERY: Final = 29
WRITE_ROWS: Final = 30
UPDATE_ROWS: Final = 31
DELETE_ROWS: Final = 32
GTID: Final = 33
ANONYMOUS_GTID: Final = 34
PREVIOUS_GTIDS: Final = 35
TRANSACTION_CONTEXT: Final = 36
VIEW_CHANGE: Final = 37
XA_PREPARE: Final = 38
PARTIAL_UPDATE_ROWS: Final = 39
TRANSACTION_PAYLOAD: Final = 40
HEARTBEAT_V2: Final = 41
GTID_TAGGED: Final = 42

ROWS_EVENTS: Final = frozenset(
    {
        WRITE_ROWS_V1,
        UPDATE_ROWS_V1,
        DELETE_ROWS_V1,
        WRITE_ROWS,
        UPDATE_ROWS,
        DELETE_ROWS,
        PARTIAL_UPDATE_ROWS,
    }
)

WITHOUT_MEANING: Final = (
    INTVAR,
    RAND,
    USER_VAR,
    BEGIN_LOAD_QUERY,
    APPEND_BLOCK,
    DELETE_FILE,
    IGNORABLE,
    TRANSACTION_CONTEXT,
    VIEW_CHANGE,
)
"""Parts of statements in text form, whose QUERY event decides, and of group replication, which carry no rows."""

HEADER_BYTES: Final = 19
FLAG_ARTIFICIAL: Final = 0x20
"""Made by the server for the stream; not in the file."""
FLAG_IGNORABLE: Final = 0x80
"""Whoever does not know the event's type may pass over it."""


class RawEvent(NamedTuple):
    """One event. `body` is without header and checksum; positions are in bytes and may pass 4 GiB.

    Events from inside a compressed transaction carry the place of the event that wrapped them.
    """

    type: int
    timestamp: int
    server_id: int
    flags: int
    file: str
    start_pos: int
    end_pos: int
    body: bytes


class Malformed(ValueError):
    """Bytes that contradict themselves. Never leaves `cdc`: `tx.py` and `decode.py` make a Halt of it."""


def read_lenenc(data: bytes, position: int) -> tuple[int, int]:
    """A length-encoded integer of the MySQL protocol and the position after it."""
    first = data[position]
    if first < 251:
        return first, position + 1
    if first in {251, 255}:
        raise Malformed(f"{first:#x} is not the start of a length")
    size = {252: 2, 253: 3, 254: 8}[first]
    end = position + 1 + size
    if end > len(data):
        raise Malformed("a length is cut off")
    return int.from_bytes(data[position + 1 : end], "little"), end


def read_varlen(data: bytes, position: int) -> tuple[int, int]:
    """An unsigned integer of MySQL's serialization library: the low set bits of the first byte count the bytes more.

    Source: libs/mysql/serialization/variable_length_integers.h.
    """
    first = data[position]
    more = (~first & (first + 1)).bit_length() - 1  # trailing one bits
    end = position + 1 + more
    if end > len(data):
        raise Malformed("a variable-length integer is cut off")
    return int.from_bytes(data[position:end], "little") >> min(more + 1, 8), end


def read_signed_varlen(data: bytes, position: int) -> tuple[int, int]:
    """As read_varlen; the lowest bit of the number is its sign, and a negative one is stored as its complement."""
    number, end = read_varlen(data, position)
    return -(number >> 1) - 1 if number & 1 else number >> 1, end
