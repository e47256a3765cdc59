"""Keeps the processes of `matrix-sync up` running: one that dies is started again after a growing pause, and we say so."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from schema.errors import StartError

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 10.0
HALTED_PAUSE_S = 30.0  # an operator must decide: nothing changes by asking often
STABLE_AFTER_S = 60.0
EXIT_HALTED = 3
_KILLED = (-signal.SIGKILL, -signal.SIGTERM)  # from outside: its last words have nothing to do with it


class Unit(Protocol):
    """What is supervised: an embedded server or a child of ours."""

    @property
    def name(self) -> str: ...
    @property
    def pid(self) -> int | None: ...
    @property
    def is_running(self) -> bool: ...
    @property
    def exit_code(self) -> int | None: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...
    def last_lines(self) -> str: ...


@dataclass(slots=True)
class _Watched:
    unit: Unit
    started_at: float
    failures: int = 0
    start_again_at: float | None = None


class Supervisor:
    """Starts units in order, watches them in `check`, stops them in reverse order.

    Not a thread: `check` is called often, from the thread that made the units, since a child ends with its thread.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._watched: list[_Watched] = []

    def start(self, unit: Unit) -> None:
        """Start a unit and watch it from now on. Raises StartError."""
        watched = _Watched(unit, time.monotonic())
        self._watched.append(watched)  # before it runs, so that `stop` sees it whatever happens
        unit.start()

    def check(self) -> bool:
        """One round: notice who died, start again whose pause is over. Returns whether a process id has changed."""
        changed = [self._check(watched) for watched in self._watched]  # a list: every one is looked at
        return any(changed)

    def stop(self) -> None:
        """Stop all, the last started first."""
        for watched in reversed(self._watched):
            watched.unit.stop()

    def kill(self) -> None:
        """End all at once, without waiting for what they are doing."""
        for watched in reversed(self._watched):
            watched.unit.kill()

    def _check(self, watched: _Watched) -> bool:
        now = time.monotonic()
        if watched.start_again_at is None:
            if not watched.unit.is_running:
                self._schedule(watched, now)
            return False
        if now < watched.start_again_at:
            return False
        watched.start_again_at = None
        watched.started_at = now
        try:
            watched.unit.start()
        except StartError as problem:
            self._say(f"{watched.unit.name} could not be started again: {problem.message}")
            self._schedule(watched, time.monotonic())
            return False
        self._say(f"{watched.unit.name} runs again, as process {watched.unit.pid}")
        return True

    def _schedule(self, watched: _Watched, now: float) -> None:
        unit, code = watched.unit, watched.unit.exit_code
        if now - watched.started_at > STABLE_AFTER_S:
            watched.failures = 0
        pause = min(FIRST_PAUSE_S * 2**watched.failures, LONGEST_PAUSE_S)
        verb = "ended"
        if code == EXIT_HALTED:
            pause, verb = HALTED_PAUSE_S, "halted, an operator must decide"
        unit.kill()  # workers that a killed parent left behind would keep its port
        lines = [] if code in _KILLED else unit.last_lines().splitlines()[-3:]
        said = "".join(f"\n  {line}" for line in lines)
        self._say(f"{unit.name} {verb} ({_how(code)}); next start in {pause:g} s{said}")
        watched.failures += 1
        watched.start_again_at = now + pause


def _how(code: int | None) -> str:
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
