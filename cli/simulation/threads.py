"""Threads for what blocks. Not the event loop's own: it waits for all of them when it is closed, and MySQL may never answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """At most so many at once."""

    def __init__(self, count_max: int) -> None:
        self._pool = ThreadPoolExecutor(count_max, "simulate")

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do it in a thread; who is cancelled meanwhile does not wait for it."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, partial(work, *args, **kwargs))

    def close(self) -> None:
        """No more work; what is under way goes on."""
        self._pool.shutdown(wait=False, cancel_futures=True)
