"""Damaged bytes: whatever is cut or flipped, the result is exact changes or one of our errors, never another exception."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc import events as e
from cdc.events import RawEvent
from cdc.items import Item, Rows, TxEnd
from cdc.payload import unpack_payload
from cdc.tx import assemble
from schema.errors import TailerError

RECORDED = Path(__file__).parent / "data" / "every_type.binlog"
"""A binlog file of MySQL 9.7: database `app`, every column type, a tagged and a compressed transaction."""
HEADER = struct.Struct("<IBIIIH")


def events_of(content: bytes) -> Iterator[RawEvent]:
    """Events of a binlog file, after its four bytes of magic."""
    at = 4
    while at < len(content):
        timestamp, type_, server_id, size, log_pos, flags = HEADER.unpack_from(content, at)
        assert zlib.crc32(content[at : at + size - 4]) == int.from_bytes(content[at + size - 4 : at + size], "little")
        body = content[at + e.HEADER_BYTES : at + size - 4]
        yield RawEvent(type_, timestamp, server_id, flags, "binlog.000001", at, log_pos, body)
        at += size


EVENTS = list(events_of(RECORDED.read_bytes()))
INTERESTING = [index for index, found in enumerate(EVENTS) if found.type not in (e.FORMAT_DESCRIPTION, e.XID)]


def read(events: list[RawEvent]) -> list[Item]:
    flat: list[RawEvent] = []
    for found in events:
        flat.extend(unpack_payload(found) if found.type == e.TRANSACTION_PAYLOAD else [found])
    return list(assemble(flat, "app", lambda *_: True))


def with_body(index: int, body: bytes) -> list[RawEvent]:
    old = EVENTS[index]
    new = RawEvent(old.type, old.timestamp, old.server_id, old.flags, old.file, old.start_pos, old.end_pos, body)
    return [*EVENTS[:index], new, *EVENTS[index + 1 :]]


def test_the_recorded_file_reads_whole() -> None:
    items = read(EVENTS)
    ends = [item for item in items if isinstance(item, TxEnd)]
    assert {end.gtid.tag for end in ends} == {"", "recorded"}
    assert sum(len(item.changes) for item in items if isinstance(item, Rows)) == 9


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(INTERESTING), st.data())
def test_a_cut_event_gives_our_error_or_the_same_items(index: int, data: st.DataObject) -> None:
    body = EVENTS[index].body
    size = data.draw(st.integers(0, len(body)))
    try:
        read(with_body(index, body[:size]))
    except TailerError as problem:
        assert problem.code


@settings(max_examples=800, deadline=None)
@given(st.sampled_from(INTERESTING), st.data())
def test_flipped_bytes_give_our_error_or_readable_items(index: int, data: st.DataObject) -> None:
    body = bytearray(EVENTS[index].body)
    for place in data.draw(st.lists(st.integers(0, max(0, len(body) - 1)), min_size=1, max_size=4)):
        if body:
            body[place] ^= data.draw(st.integers(1, 255))
    try:
        read(with_body(index, bytes(body)))
    except TailerError as problem:
        assert problem.code


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(range(len(EVENTS))), max_size=12))
def test_events_in_any_order_give_our_error_or_whole_transactions(order: list[int]) -> None:
    try:
        read([EVENTS[index] for index in order])
    except TailerError as problem:
        assert problem.code


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 45), st.binary(max_size=200), st.integers(0, 0xFFFF))
def test_events_of_random_bytes_give_our_error_or_nothing(type_: int, body: bytes, flags: int) -> None:
    gtid = next(found for found in EVENTS if found.type == e.GTID)
    made = RawEvent(type_, 0, 1, flags, "f", 4, 9, body)
    for before in ([], [gtid]):
        try:
            read([*before, made])
        except TailerError as problem:
            assert problem.code


def test_each_row_event_that_lost_its_last_byte_is_refused() -> None:
    for index, found in enumerate(EVENTS):
        if found.type in e.ROWS_EVENTS:
            with pytest.raises(TailerError, match="event_malformed"):
                read(with_body(index, found.body[:-1]))


def test_rows_read_without_generated_code_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    by_code = [item.changes for item in read(EVENTS) if isinstance(item, Rows)]
    monkeypatch.setattr("cdc.row_code.PATTERNS_MAX", 0)
    assert [item.changes for item in read(EVENTS) if isinstance(item, Rows)] == by_code
