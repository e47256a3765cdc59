"""MySQL packets from a socket on which a binlog dump runs: whole payloads, joined where the protocol splits them.

Source: MySQL source documentation, "MySQL Packets" (16 MiB and more in several packets), "ERR_Packet", "EOF_Packet".
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Callable
from typing import Final

from schema.errors import Retry

_HEADER_BYTES: Final = 4
_SPLIT_BYTES: Final = 0xFFFFFF
_CHUNK_BYTES: Final = 256 * 1024
_WAIT_SECONDS: Final = 0.25


class PacketReader:
    """Reads payloads in order. `timeout_seconds` bounds every wait; with heartbeats only a dead connection reaches it.

    `on_wait` is called several times a second while nothing comes.
    """

    def __init__(self, sock: socket.socket, *, sequence: int, timeout_seconds: float, on_wait: Callable[[], None]) -> None:
        self._socket = sock
        self._sequence = sequence
        self._buffer = b""
        self._at = 0
        self._timeout_seconds = timeout_seconds
        self._on_wait = on_wait
        sock.settimeout(timeout_seconds)

    def read(self) -> bytes:
        """The next payload.

        Raises Retry: `connection_lost`, `connection_silent` (nothing within the timeout), `protocol_error`.
        """
        buffer, at = self._buffer, self._at
        start = at + _HEADER_BYTES
        if start <= len(buffer) and buffer[at + 3] == self._sequence:  # nearly always a whole packet is here
            end = start + (buffer[at] | buffer[at + 1] << 8 | buffer[at + 2] << 16)
            if end <= len(buffer) and end - start != _SPLIT_BYTES:
                self._sequence = self._sequence + 1 & 255
                self._at = end
                return buffer[start:end]
        payload, is_split = self._read_packet()
        if not is_split:
            return payload
        parts = [payload]
        while is_split:
            payload, is_split = self._read_packet()
            parts.append(payload)
        return b"".join(parts)

    def has_more(self, seconds: float = 0) -> bool:
        """Whether a packet, or a part of one, is here already or comes to the socket within `seconds`."""
        return len(self._buffer) > self._at or self.is_readable(seconds)

    def is_readable(self, seconds: float) -> bool:
        """Whether the socket has bytes, or an end, within `seconds`."""
        if isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            return True
        poller = select.poll()  # select() fails on descriptors above 1023
        try:
            poller.register(self._socket, select.POLLIN)
        except ValueError as problem:
            raise Retry("connection_lost", "the connection to MySQL is closed") from problem
        return bool(poller.poll(seconds * 1000))

    def _read_packet(self) -> tuple[bytes, bool]:
        self._need(_HEADER_BYTES)
        buffer, at = self._buffer, self._at
        size = buffer[at] | buffer[at + 1] << 8 | buffer[at + 2] << 16
        if buffer[at + 3] != self._sequence:
            raise Retry("protocol_error", f"MySQL packet {buffer[at + 3]} came where {self._sequence} was due")
        self._sequence = self._sequence + 1 & 255
        end = at + _HEADER_BYTES + size
        if end > len(buffer):
            self._need(_HEADER_BYTES + size)
            buffer, at = self._buffer, self._at
            end = at + _HEADER_BYTES + size
        self._at = end
        return buffer[at + _HEADER_BYTES : end], size == _SPLIT_BYTES

    def _need(self, size: int) -> None:
        """Have `size` bytes from the present place in the buffer."""
        have = len(self._buffer) - self._at
        if have >= size:
            return
        chunks = [self._buffer[self._at :]]
        while have < size:
            chunk = self._receive()
            chunks.append(chunk)
            have += len(chunk)
        self._buffer, self._at = b"".join(chunks), 0

    def _receive(self) -> bytes:
        deadline = time.monotonic() + self._timeout_seconds
        while not self.is_readable(_WAIT_SECONDS):
            if time.monotonic() > deadline:
                raise _silent()
            self._on_wait()
        try:
            chunk = self._socket.recv(_CHUNK_BYTES)
        except TimeoutError as problem:
            raise _silent() from problem
        except OSError as problem:
            raise Retry("connection_lost", f"the connection to MySQL broke: {problem}") from problem
        if not chunk:
            raise Retry("connection_lost", "MySQL closed the connection")
        return chunk


def _silent() -> Retry:
    return Retry("connection_silent", "MySQL sent nothing, not even a heartbeat, within the timeout")
