"""One statement for all that ask at a time: what is asked while one is under way is asked together with the next.

A key's statement is begun after it was asked for, so an answer is never older than its question. Alone it costs a statement; under
load next to nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from api.db import Database, Session

KEYS_PER_QUERY_MAX = 200
QUIET_ROUNDS = 2
K = TypeVar("K")
V = TypeVar("V")


class Batch(Generic[K, V]):
    """`read` answers keys in their order. One reader a batch, which takes a connection only while somebody waits."""

    def __init__(self, database: Database, read: Callable[[Session, Sequence[K]], Awaitable[Sequence[V]]]) -> None:
        self._database = database
        self._read = read
        self._queue: list[tuple[K, asyncio.Future[V]]] = []
        self._reader: asyncio.Task[None] | None = None

    async def get(self, key: K) -> V:
        """Return the answer to one key. Raises what `read` raises, for all that were asked with it."""
        future: asyncio.Future[V] = asyncio.get_running_loop().create_future()
        self._queue.append((key, future))
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read_all())
        return await future

    async def close(self) -> None:
        """Wait for what is under way."""
        if self._reader is not None:
            await self._reader

    async def _read_all(self) -> None:
        while self._queue:
            await self._come_together()
            part, self._queue = self._queue[:KEYS_PER_QUERY_MAX], self._queue[KEYS_PER_QUERY_MAX:]
            try:
                async with self._database.read() as session:
                    answers = await self._read(session, [key for key, _ in part])
            except Exception as problem:
                for _, future in part:
                    if not future.done():
                        future.set_exception(problem)
            else:
                for (_, future), answer in zip(part, answers, strict=True):
                    if not future.done():
                        future.set_result(answer)

    async def _come_together(self) -> None:
        """Let the requests that have arrived already ask too, until none does for some rounds of the loop.

        A request takes some rounds from its bytes to its question. For one alone they cost nothing that shows.
        """
        quiet = 0
        while quiet < QUIET_ROUNDS and len(self._queue) < KEYS_PER_QUERY_MAX:
            before = len(self._queue)
            await asyncio.sleep(0)
            quiet = quiet + 1 if len(self._queue) == before else 0
