"""Ctrl-C: the first one ends the load, a later one everything."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

FORCE_AFTER_S = 0.5
"""A terminal and a program above us may both pass on the same Ctrl-C."""


@contextmanager
def ended_by_signals(stop: asyncio.Event) -> Iterator[None]:
    """The first SIGINT or SIGTERM sets `stop`; a later one cancels this task."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    first_at: float | None = None

    def on_signal() -> None:
        nonlocal first_at
        if first_at is None:
            first_at = time.monotonic()
            stop.set()
        elif time.monotonic() - first_at > FORCE_AFTER_S:
            task.cancel()

    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, on_signal)
    try:
        yield
    finally:
        for signum in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(signum)
