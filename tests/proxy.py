"""A TCP proxy between a client and MySQL that can fall silent, delay, cut, spoil, and lose the answer of a COMMIT."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Generic, Self, TypeVar

from cdc.source import ConnectionSettings
from schema.settings import MySQLAddress

Target = TypeVar("Target", ConnectionSettings, MySQLAddress)
_COMMIT = (b"\x03COMMIT", b";COMMIT", b";\nCOMMIT")
"""A statement of its own, or the last one of a packet."""
_MORE_RESULTS = 0x0008
"""SERVER_MORE_RESULTS_EXISTS: an OK packet that has it answers a statement before the last one of its packet."""
_LENGTH_BYTES = {0xFC: 3, 0xFD: 4, 0xFE: 9}
_WRITES = (b"INSERT INTO", b"UPDATE ", b"DELETE FROM")
APPENDS = (b"INTO sync_changes", b"INTO TABLE sync_changes")
"""In place of any write: those of the tailer's appends, and not of its taking the lease."""
_CLIENT_SSL_HIGH = 0x08
"""CLIENT_SSL (0x0800) in the second byte of the greeting's capability flags."""


class Cut(Exception):
    """Raised by a spoiler: send these last bytes, then end the connection."""

    def __init__(self, last: bytes) -> None:
        super().__init__()
        self.last = last


@dataclass(eq=False)
class _Link:
    client: socket.socket
    server: socket.socket
    has_greeted: bool = False
    has_written: bool = False
    is_committing: bool = False
    directions: int = 2

    def cut(self) -> None:
        for one in (self.client, self.server):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


class Proxy(Generic[Target]):
    """Forwards both ways. `spoil` gets each piece from the server; what it returns goes on.

    `is_silent`: whatever comes, either way, is swallowed, and no connection ends. `commits_to_lose`: so many answers of a COMMIT
    that stored something (`writes`) are dropped, their connections cut, each with `loss_probability`; `commits_lost` counts them.
    With `hides_tls` clients are told that the server has none: a COMMIT can only be seen in plain text.
    """

    def __init__(self, target: Target, spoil: Callable[[bytes], bytes] = lambda data: data, *, hides_tls: bool = False) -> None:
        self._target: Target = target
        self.spoil = spoil
        self.is_silent = False
        self.delay_seconds = 0.0
        self.commits_to_lose = 0
        self.writes: tuple[bytes, ...] = _WRITES
        self.commits_lost = 0
        self.loss_probability = 1.0
        self.chance = random.Random()
        self._hides_tls = hides_tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._links: list[_Link] = []
        self._threads: list[threading.Thread] = []

    @property
    def connect(self) -> Target:
        """The target's settings, leading through the proxy."""
        led: Target = replace(self._target, host="127.0.0.1", port=self._listener.getsockname()[1])
        return led

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(5)

    def cut(self) -> int:
        """End all connections that there are; returns how many."""
        links = list(self._links)
        for link in links:
            link.cut()
        return len(links)

    def _start(self, run: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=run, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection((self._target.host, self._target.port))
                except OSError:
                    client.close()
                    continue
                link = _Link(client, server)
                self._links.append(link)
                self._start(self._forward, link, client, server, self._from_client)
                self._start(self._forward, link, server, client, self._from_server)

    def _forward(self, link: _Link, source: socket.socket, sink: socket.socket, change: Callable[[_Link, bytes], bytes]) -> None:
        with suppress(OSError):
            try:
                while data := source.recv(65536):
                    if self.delay_seconds:
                        time.sleep(self.delay_seconds)
                    if not self.is_silent:
                        sink.sendall(change(link, data))
            except Cut as cut:
                sink.sendall(cut.last)
        link.cut()
        with self._lock:
            link.directions -= 1
            is_over = not link.directions
        if is_over:
            self._links.remove(link)
            link.client.close()
            link.server.close()

    def _from_client(self, link: _Link, data: bytes) -> bytes:
        is_commit = data.endswith(_COMMIT)
        has_written = link.has_written or any(word in data for word in self.writes)
        link.is_committing = is_commit and has_written
        link.has_written = not is_commit and has_written
        return data

    def _from_server(self, link: _Link, data: bytes) -> bytes:
        if not link.has_greeted:
            link.has_greeted = True
            return _without_tls(data) if self._hides_tls else self.spoil(data)
        if link.is_committing and _has_more(data):
            return self.spoil(data)
        is_next = link.is_committing and self.commits_lost < self.commits_to_lose
        link.is_committing = False
        if is_next and self.chance.random() < self.loss_probability:
            self.commits_lost += 1
            raise Cut(b"")
        return self.spoil(data)


def _has_more(data: bytes) -> bool:
    """Whether the last of these packets is the OK of a statement that is followed by another one's answer."""
    start = 0
    while (end := start + 4 + int.from_bytes(data[start : start + 3], "little")) < len(data):
        start = end
    packet = data[start + 4 :]
    if not packet or packet[0] != 0:
        return False
    place = 1
    for _ in ("affected rows", "last id"):
        place += _LENGTH_BYTES.get(packet[place], 1)
    return bool(int.from_bytes(packet[place : place + 2], "little") & _MORE_RESULTS)


def _without_tls(greeting: bytes) -> bytes:
    """Clear CLIENT_SSL in a protocol 10 greeting: header, 10, version text, thread id, 8 bytes, 0, capability flags."""
    place = greeting.index(b"\0", 5) + 1 + 4 + 8 + 1 + 1
    return greeting[:place] + bytes([greeting[place] & ~_CLIENT_SSL_HIGH]) + greeting[place + 1 :]
