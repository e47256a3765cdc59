"""GTID events, plain (33) and tagged (42): which transaction begins, and when it was committed.

Source: MySQL 9.7, libs/mysql/binlog/event/control_events.h, "Gtid_event"; the tagged form is a message of
libs/mysql/serialization, whose fields come in order and may be left out.
"""

from __future__ import annotations

import uuid
from functools import lru_cache
from typing import Final, NamedTuple

from cdc import events as e
from cdc.events import Malformed, RawEvent, read_signed_varlen, read_varlen
from cdc.gtid import Gtid

_UUID_BYTES: Final = 16
_HAS_ORIGINAL: Final = 1 << 55
_MESSAGE_VERSION: Final = 1
_LAST_KNOWN_FIELD: Final = 11


class TxStart(NamedTuple):
    """What a GTID event says. `commit_time_us` is Unix time in µs of the commit on the server that wrote it first."""

    gtid: Gtid
    commit_time_us: int


def parse_gtid_event(event: RawEvent) -> TxStart:
    """Read event 33 or 42. Raises ValueError or IndexError on bytes that are neither."""
    return _parse_tagged(event.body) if event.type == e.GTID_TAGGED else _parse_plain(event.body)


def _parse_plain(body: bytes) -> TxStart:
    """1 byte flags, 16 uuid, 8 number, 1 + 16 logical clock, 7 commit time, 7 of the first server if that differs."""
    if len(body) < 49:
        raise Malformed("a GTID event without commit time: written by a server before 8.0")
    gtid = Gtid(_uuid_text(body[1:17]), "", int.from_bytes(body[17:25], "little"))
    committed = int.from_bytes(body[42:49], "little")
    if committed & _HAS_ORIGINAL:
        if len(body) < 56:
            raise Malformed("a GTID event is cut off")
        committed = int.from_bytes(body[49:56], "little")
    return TxStart(gtid, committed)


def _parse_tagged(body: bytes) -> TxStart:
    """A message: version, its size, last field that must be known, then (field number, value) …

    Fields: 0 flags, 1 uuid as 16 integers, 2 number, 3 tag, 4 and 5 logical clock, 6 commit time, 7 commit time on the
    first server if that differs, 8 length, 9 and 10 server versions, 11 ticket.
    """
    version, at = read_varlen(body, 0)
    size, at = read_varlen(body, at)
    last_needed, at = read_varlen(body, at)
    if version != _MESSAGE_VERSION or last_needed > _LAST_KNOWN_FIELD:
        raise Malformed(f"a tagged GTID event of version {version} with field {last_needed}")
    if size > len(body):
        raise Malformed("a tagged GTID event is cut off")
    numbers: dict[int, int] = {}
    source, tag = "", ""
    while at < size:
        field, at = read_varlen(body, at)
        if field == 1:
            source, at = _read_uuid(body, at)
        elif field == 3:
            length, at = read_varlen(body, at)
            tag, at = body[at : at + length].decode("ascii"), at + length
        elif field <= _LAST_KNOWN_FIELD:
            read = read_signed_varlen if field in _SIGNED_FIELDS else read_varlen
            numbers[field], at = read(body, at)
        else:
            break  # fields that may be ignored, as last_needed says
    if not source or 2 not in numbers or 6 not in numbers:
        raise Malformed("a tagged GTID event lacks its GTID or commit time")
    return TxStart(Gtid(source, tag, numbers[2]), numbers.get(7, numbers[6]))


_SIGNED_FIELDS: Final = frozenset({2, 4, 5})


def _read_uuid(body: bytes, at: int) -> tuple[str, int]:
    octets = bytearray()
    for _ in range(_UUID_BYTES):
        octet, at = read_varlen(body, at)
        octets.append(octet)
    return _uuid_text(bytes(octets)), at


@lru_cache(maxsize=1000)
def _uuid_text(raw: bytes) -> str:
    return str(uuid.UUID(bytes=raw))
