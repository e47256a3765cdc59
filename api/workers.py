"""The processes of `matrix-sync serve`: a parent that restarts workers, and what a worker does."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from types import FrameType

import uvloop
from aiohttp import web

from api.app import create_app
from schema.logs import get_logger
from schema.settings import Settings

log = get_logger(__name__)
DRAIN_SECONDS_MAX = 10
BACKOFF_SECONDS = 0.2
BACKOFF_SECONDS_MAX = 5.0
STEADY_SECONDS = 10.0
FAILURES_MAX = 10
BACKLOG = 1024
GC_ALLOCATIONS = 50_000
KEEPALIVE_SECONDS = 75
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass(slots=True)
class Slot:
    """A worker's place: its number, its socket, and the process that has it now."""

    number: int
    listening: socket.socket
    pid: int = 0
    started: float = 0.0
    failures: int = 0


@dataclass(slots=True)
class Parent:
    """Starts a worker for each socket, and another when one dies, with a pause that grows while they keep dying."""

    settings: Settings
    sockets: list[socket.socket]
    slots: list[Slot] = field(default_factory=list)
    is_stopping: bool = False
    _alive: tuple[int, int] = (-1, -1)

    def start(self) -> None:
        """Start the workers."""
        self._alive = os.pipe()
        for name in _STOP_SIGNALS:
            signal.signal(name, self._stop)
        self.slots = [Slot(number, listening) for number, listening in enumerate(self.sockets)]
        for slot in self.slots:
            self._spawn(slot)

    def watch(self) -> None:
        """Restart what dies until a signal says stop, then wait until all have drained."""
        while not self.is_stopping:
            self._restart_dead()
            time.sleep(0.1)
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + DRAIN_SECONDS_MAX + 1
        while self._reap() and time.monotonic() < deadline:
            time.sleep(0.02)
        self._signal(signal.SIGKILL)
        while self._reap():
            time.sleep(0.02)
        for end in self._alive:
            os.close(end)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.is_stopping = True

    def _signal(self, number: int) -> None:
        for slot in self.slots:
            if slot.pid:
                os.kill(slot.pid, number)

    def _restart_dead(self) -> None:
        now = time.monotonic()
        self._reap()
        for slot in self.slots:
            pause = min(BACKOFF_SECONDS * 2**slot.failures, BACKOFF_SECONDS_MAX)
            if not slot.pid and now - slot.started >= pause:
                self._spawn(slot)

    def _reap(self) -> int:
        """Take note of workers that ended, and return how many live."""
        for slot in self.slots:
            if not slot.pid:
                continue
            pid, status = os.waitpid(slot.pid, os.WNOHANG)
            if pid:
                is_steady = time.monotonic() - slot.started >= STEADY_SECONDS
                slot.failures = 0 if is_steady else min(slot.failures + 1, FAILURES_MAX)
                slot.pid = 0
                if not self.is_stopping:
                    log.error("worker_died", worker=slot.number, pid=pid, exit_code=os.waitstatus_to_exitcode(status))
        return sum(1 for slot in self.slots if slot.pid)

    def _spawn(self, slot: Slot) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        slot.started = time.monotonic()
        # A signal that comes in between would meet the parent's handler in the child, and be lost.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
        slot.pid = os.fork()
        if slot.pid:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
            return
        code = 1
        try:
            for name in _STOP_SIGNALS:
                signal.signal(name, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
            os.close(self._alive[1])
            for other in self.slots:
                if other is not slot:
                    other.listening.close()
            run_worker(self.settings, slot.number, slot.listening, self._alive[0])
            code = 0
        except Exception:
            log.error("worker_failed", exc_info=True, worker=slot.number)
        finally:
            os._exit(code)  # never back into the parent's stack


def run_worker(settings: Settings, number: int, listening: socket.socket, parent_alive: int) -> None:
    """Serve from one socket until SIGTERM, or until the parent is gone: then its end of the pipe is closed."""
    uvloop.run(_serve(settings, number, listening, parent_alive))


def _spare_the_collector() -> None:
    """What lives as long as the worker is never looked through for cycles again, and the rest seldom: a page of rows is thousands
    of new objects, and none of them is in a cycle.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS, 20, 20)


async def _serve(settings: Settings, number: int, listening: socket.socket, parent_alive: int) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for name in _STOP_SIGNALS:
        loop.add_signal_handler(name, stop.set)
    loop.add_reader(parent_alive, stop.set)
    runner = web.AppRunner(
        create_app(settings, worker=number),
        access_log=None,
        shutdown_timeout=DRAIN_SECONDS_MAX,
        keepalive_timeout=KEEPALIVE_SECONDS,
        lingering_time=1.0,
    )
    await runner.setup()
    await web.SockSite(runner, listening, backlog=BACKLOG).start()
    _spare_the_collector()
    log.info("worker_started", worker=number, pid=os.getpid())
    await stop.wait()
    loop.remove_reader(parent_alive)
    await runner.cleanup()
