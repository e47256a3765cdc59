"""Packets on a socket: in sequence, whole, and nothing made up where the line breaks."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from cdc.packets import PacketReader
from schema.errors import Retry

Pair = tuple[socket.socket, PacketReader]


@pytest.fixture
def line() -> Iterator[Pair]:
    """A server's end, and a reader that expects packet 1."""
    here, there = socket.socketpair()
    with here, there:
        yield there, PacketReader(here, sequence=1, timeout_seconds=0.2, on_wait=lambda: None)


def packet(number: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "little") + bytes([number]) + payload


def test_packets_come_as_they_were_sent_however_the_line_cuts_them(line: Pair) -> None:
    server, reader = line
    sent = packet(1, b"one") + packet(2, b"") + packet(3, b"x" * 70_000)
    for at in range(0, len(sent), 20_000):
        server.sendall(sent[at : at + 20_000])
    assert [reader.read() for _ in range(3)] == [b"one", b"", b"x" * 70_000]
    assert not reader.has_more()


def test_whether_more_comes_can_be_waited_for(line: Pair) -> None:
    server, reader = line
    assert not reader.has_more(0.01)
    late = threading.Timer(0.05, lambda: server.sendall(packet(1, b"one")))
    late.start()
    assert reader.has_more(20)
    late.join()


def test_a_packet_that_is_missing_is_noticed(line: Pair) -> None:
    server, reader = line
    server.sendall(packet(1, b"one") + packet(3, b"three"))
    assert reader.read() == b"one"
    with pytest.raises(Retry, match="protocol_error"):
        reader.read()


@pytest.mark.parametrize(("is_closed", "code"), [(False, "connection_silent"), (True, "connection_lost")])
def test_half_a_packet_is_never_a_packet(line: Pair, is_closed: bool, code: str) -> None:
    server, reader = line
    server.sendall(packet(1, b"whole")[:-1])
    if is_closed:
        server.close()
    with pytest.raises(Retry, match=code):
        reader.read()
