"""A TCP proxy between a reader and MySQL that can fall silent, cut, or spoil what the server sends."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Self

from cdc.source import ConnectionSettings


class Cut(Exception):
    """Raised by a spoiler: send these last bytes, then end the connection."""

    def __init__(self, last: bytes) -> None:
        super().__init__()
        self.last = last


class Proxy:
    """Forwards both ways. `spoil` gets each piece from the server; what it returns goes on."""

    def __init__(self, target: ConnectionSettings, spoil: Callable[[bytes], bytes] = lambda data: data) -> None:
        self._target = target
        self.spoil = spoil
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = [self._listener]
        self._threads: list[threading.Thread] = []

    @property
    def connect(self) -> ConnectionSettings:
        """Settings that lead through the proxy."""
        return replace(self._target, host="127.0.0.1", port=self._listener.getsockname()[1])

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(5)

    def _start(self, run: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=run, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection((self._target.host, self._target.port))
                self._sockets += [client, server]
                self._start(self._forward, client, server, lambda data: data)
                self._start(self._forward, server, client, self.spoil)

    @staticmethod
    def _forward(source: socket.socket, sink: socket.socket, change: Callable[[bytes], bytes]) -> None:
        with suppress(OSError):
            try:
                while data := source.recv(65536):
                    sink.sendall(change(data))
            except Cut as cut:
                sink.sendall(cut.last)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
