"""Compressed transactions that are not what they say: refused, never read as a shorter transaction."""

from __future__ import annotations

import struct

import pytest
import zstandard

from cdc import events as e
from cdc.events import RawEvent
from cdc.payload import unpack_payload
from schema.errors import Halt

NONE = b"\xfc\xff\x00"
"""255, the number of no compression, as a length-encoded integer."""
ZSTD = b"\x00"


def inner(type_: int, body: bytes) -> bytes:
    """An event as it stands in a payload: without checksum."""
    size = e.HEADER_BYTES + len(body)
    return struct.pack("<IBIIIH", 0, type_, 1, size, 0, 0) + body


def payload(content: bytes, *, unpacked: int, compression: bytes = NONE) -> RawEvent:
    fields = b"".join(bytes([kind, len(value)]) + value for kind, value in ((2, compression), (3, bytes([unpacked]))))
    return RawEvent(e.TRANSACTION_PAYLOAD, 0, 1, 0, "binlog.000007", 1234, 1300, fields + b"\0" + content)


EVENTS = inner(e.QUERY, b"first") + inner(e.XID, b"12345678")


@pytest.mark.parametrize("compression", [NONE, ZSTD])
def test_the_events_inside_have_the_place_of_the_one_around_them(compression: bytes) -> None:
    content = EVENTS if compression == NONE else zstandard.ZstdCompressor().compress(EVENTS)
    found = list(unpack_payload(payload(content, unpacked=len(EVENTS), compression=compression)))
    assert [(event.type, event.body) for event in found] == [(e.QUERY, b"first"), (e.XID, b"12345678")]
    assert {(event.file, event.start_pos, event.end_pos) for event in found} == {("binlog.000007", 1234, 1300)}


def test_a_compressed_transaction_that_ends_early_halts() -> None:
    first = len(inner(e.QUERY, b"first"))
    for content in (EVENTS[:first], EVENTS[: first + 5], EVENTS[:-1], b""):
        with pytest.raises(Halt, match="event_malformed") as halt:
            list(unpack_payload(payload(content, unpacked=len(EVENTS))))
        assert halt.value.details == {"file": "binlog.000007", "pos": 1234}


def test_a_compressed_transaction_that_goes_on_too_long_or_in_another_way_halts() -> None:
    with pytest.raises(Halt, match="event_malformed"):
        list(unpack_payload(payload(EVENTS, unpacked=len(EVENTS) - 1)))
    with pytest.raises(Halt, match="event_malformed"):
        list(unpack_payload(payload(b"no zstd", unpacked=7, compression=ZSTD)))
    with pytest.raises(Halt, match="unknown_compression"):
        list(unpack_payload(payload(EVENTS, unpacked=len(EVENTS), compression=b"\x07")))
