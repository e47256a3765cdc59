"""A load generator in a process of its own: HTTP/1.1 over kept connections, requests made beforehand, answers hardly looked at.

talk     what one device asks, one after the other: ready requests, or a pull whose cursor advances with every answer
line     one connection, which asks for its talks in turn and has one request under way
"""

from __future__ import annotations

import asyncio
import pickle
import re
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import uvloop

from tests.servers import clean_environ

ROOT = Path(__file__).resolve().parent.parent.parent
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_CURSOR = re.compile(rb'"current_version":(\d+)')
_CONNECT_SECONDS_MAX = 10


@dataclass(slots=True)
class Ready:
    """Requests as bytes (`post`); `is_repeated`: from the first again after the last."""

    requests: Sequence[bytes]
    is_repeated: bool = True
    _next: int = 0

    def next(self, answer: bytes) -> bytes | None:
        """Return the next request, None where there is none; `answer` is that to the one before."""
        if self._next == len(self.requests):
            if not self.is_repeated:
                return None
            self._next = 0
        self._next += 1
        return self.requests[self._next - 1]


@dataclass(slots=True)
class Walk:
    """A pull from the cursor that the last answer named: `body` holds `%d` for it. From `begin` again where `end` is reached;
    without `end` it goes on for ever, and with `is_once` it stops there.
    """

    path: str
    token: str
    body: bytes
    begin: int
    end: int | None = None
    is_once: bool = False
    _cursor: int = -1

    def next(self, answer: bytes) -> bytes | None:
        """Return the next request, None where there is none; `answer` is that to the one before."""
        if self._cursor >= 0:
            found = _CURSOR.search(answer, 0, 400)
            self._cursor = int(found[1]) if found else self._cursor
        if self._cursor < 0 or (self.end is not None and self._cursor >= self.end):
            if self._cursor >= 0 and self.is_once:
                return None
            self._cursor = self.begin
        return post(self.path, self.token, self.body % self._cursor)


Talk = Ready | Walk


@dataclass(slots=True)
class Result:
    """What came of a load: latencies in seconds, ascending; `cpu`: the generator's own CPU seconds."""

    seconds: float = 0.0
    cpu: float = 0.0
    received_bytes: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    refusal: bytes = b""

    @property
    def count(self) -> int:
        """Answers."""
        return len(self.latencies)

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return self.count / self.seconds

    def ms(self, percent: float) -> float:
        """A percentile of the latencies, in ms."""
        return self.latencies[min(self.count - 1, int(self.count * percent / 100))] * 1000 if self.latencies else 0.0

    def demand(self, status: int = 200) -> Result:
        """Raise unless every answer had this status: a refusal is fast, and no figure."""
        if set(self.statuses) != {status}:
            raise RuntimeError(f"answers by status: {dict(self.statuses)}; {self.refusal[:500]!r}")
        return self

    def __str__(self) -> str:
        waits = ", ".join(f"p{percent} {self.ms(percent):.1f} ms" for percent in (50, 95, 99))
        return f"{self.count} in {self.seconds:.1f} s: {self.per_second:,.0f}/s, {waits}, generator {self.cpu / self.seconds:.0%}"


def post(path: str, token: str, body: bytes, headers: str = "") -> bytes:
    """Return a POST of JSON as it goes over the line; `headers` are lines that end with CRLF."""
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n{headers}"
    return b"%bContent-Length: %d\r\n\r\n%b" % (head.encode(), len(body), body)


def run_load(port: int, lines: Sequence[Sequence[Talk]], seconds: float) -> Result:
    """Put a load on 127.0.0.1 until the time is over or nothing is left to ask, and return what came of it."""
    done = subprocess.run(
        [sys.executable, "-c", "from tests.bench import load; load.work()"],
        input=pickle.dumps((port, lines, seconds)),
        stdout=subprocess.PIPE,
        env={**clean_environ(), "PYTHONPATH": str(ROOT)},
        check=True,
    )
    result: Result = pickle.loads(done.stdout)
    return result


class _Line(asyncio.Protocol):
    """One connection."""

    def __init__(self, talks: Sequence[Talk], result: Result) -> None:
        self._talks = [(talk, b"") for talk in talks]
        self._result = result
        self._buffer = bytearray()
        self._length = 0
        self._sent_at = 0.0
        self._turn = 0
        self.is_stopping = False
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    def ask(self) -> None:
        """Send the next request of the next talk; the line is done where nothing is left."""
        while self._talks and not self.is_stopping:
            self._turn %= len(self._talks)
            talk, answer = self._talks[self._turn]
            request = talk.next(answer)
            if request is not None and self._transport is not None:
                self._sent_at = time.perf_counter()
                self._transport.write(request)
                return
            del self._talks[self._turn]
        if not self.done.done():
            self.done.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._length:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            found = _LENGTH.search(self._buffer, 0, end)
            self._length = end + 4 + (int(found[1]) if found else 0)
        if len(self._buffer) >= self._length:
            self._answered()

    def _answered(self) -> None:
        result, status = self._result, int(self._buffer[9:12])
        result.latencies.append(time.perf_counter() - self._sent_at)
        result.statuses[status] += 1
        result.received_bytes += self._length
        if status != 200:
            result.refusal = bytes(self._buffer)
        self._talks[self._turn] = (self._talks[self._turn][0], bytes(self._buffer[:800]))
        del self._buffer[: self._length]
        self._length = 0
        self._turn += 1
        self.ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("the server closed the connection"))


async def _run(port: int, lines: Sequence[Sequence[Talk]], seconds: float) -> Result:
    loop = asyncio.get_running_loop()
    result = Result()
    opened: list[_Line] = []
    for talks in lines:
        async with asyncio.timeout(_CONNECT_SECONDS_MAX):
            _, line = await loop.create_connection(lambda talks=talks: _Line(talks, result), "127.0.0.1", port)  # type: ignore[misc]
        opened.append(line)
    started, cpu = time.perf_counter(), _own_cpu()
    for line in opened:
        line.ask()
    _, pending = await asyncio.wait([line.done for line in opened], timeout=seconds)
    result.seconds, result.cpu = time.perf_counter() - started, _own_cpu() - cpu
    for line in opened:
        line.is_stopping = True
    if pending:
        await asyncio.wait(pending, timeout=_CONNECT_SECONDS_MAX)
    for line in opened:
        line.done.result()
    result.latencies.sort()
    return result


def _own_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def work() -> None:
    """The generator's process: what to do comes through standard input, what came of it leaves through standard output."""
    sys.stdout.buffer.write(pickle.dumps(uvloop.run(_run(*pickle.loads(sys.stdin.buffer.read())))))
