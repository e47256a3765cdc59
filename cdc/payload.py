"""Compressed transactions (binlog_transaction_compression): the events inside a TRANSACTION_PAYLOAD event.

The payload is unpacked as a stream, so that a small packet cannot fill the memory.

Source: MySQL 9.7, libs/mysql/binlog/event/codecs/binary.cc, "Transaction_payload"; worklog WL#3549.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import IO, Final

import zstandard

from cdc.events import HEADER_BYTES, Malformed, RawEvent, read_lenenc
from schema.errors import Halt

_END_OF_FIELDS: Final = 0
_PAYLOAD_SIZE: Final = 1
_COMPRESSION: Final = 2
_UNPACKED_SIZE: Final = 3

_ZSTD: Final = 0
_NONE: Final = 255
_HEADER: Final = struct.Struct("<IBIIIH")


def unpack_payload(event: RawEvent) -> Iterator[RawEvent]:
    """The events inside, each with the place of the outer one; they have no checksums of their own.

    Raises Halt `event_malformed` or `unknown_compression`.
    """
    try:
        fields, at = _read_fields(event.body)
        payload = memoryview(event.body)[at:]
        if fields.get(_PAYLOAD_SIZE, len(payload)) != len(payload):
            raise Malformed("the payload has another size than it says")
        yield from _read_events(event, _open(fields.get(_COMPRESSION, _NONE), payload), fields.get(_UNPACKED_SIZE))
    except (ValueError, IndexError, struct.error, zstandard.ZstdError) as problem:
        raise Halt(
            "event_malformed",
            f"a compressed transaction cannot be unpacked: {problem}",
            hint="mysqlbinlog shows whether the file is damaged",
            details={"file": event.file, "pos": event.start_pos},
        ) from problem


def _read_fields(body: bytes) -> tuple[dict[int, int], int]:
    """The fields before the payload, by number, and where the payload starts."""
    fields: dict[int, int] = {}
    at = 0
    while True:
        kind, at = read_lenenc(body, at)
        if kind == _END_OF_FIELDS:
            return fields, at
        size, at = read_lenenc(body, at)
        if kind in (_PAYLOAD_SIZE, _COMPRESSION, _UNPACKED_SIZE):
            fields[kind], _ = read_lenenc(body[at : at + size], 0)
        at += size


def _open(compression: int, payload: memoryview) -> IO[bytes]:
    if compression == _ZSTD:
        return zstandard.ZstdDecompressor().stream_reader(payload, read_across_frames=True)
    if compression == _NONE:
        return io.BytesIO(payload)
    raise Halt("unknown_compression", f"a transaction is compressed by method {compression}, which is not known")


def _read_events(outer: RawEvent, stream: IO[bytes], unpacked_size: int | None) -> Iterator[RawEvent]:
    total = 0
    while header := _read(stream, HEADER_BYTES):
        if len(header) != HEADER_BYTES:
            raise Malformed("the header of an event is cut off")
        timestamp, type_, server_id, size, _, flags = _HEADER.unpack(header)
        body = _read(stream, size - HEADER_BYTES) if size >= HEADER_BYTES else b""
        if len(body) != size - HEADER_BYTES:
            raise Malformed("an event is cut off")
        total += size
        if unpacked_size is not None and total > unpacked_size:
            raise Malformed("the payload unpacks to more than it says")
        yield RawEvent(type_, timestamp, server_id, flags, outer.file, outer.start_pos, outer.end_pos, body)
    if unpacked_size is not None and total != unpacked_size:
        raise Malformed("the payload unpacks to less than it says")


def _read(stream: IO[bytes], size: int) -> bytes:
    """`size` bytes, fewer only at the end. In pieces, so that a false size asks for no more memory than there is data."""
    parts: list[bytes] = []
    while size > 0 and (part := stream.read(min(size, 1 << 20))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
