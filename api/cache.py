"""Redis, and what happens without it. The only importer of redis in the API.

| entry | source of truth | without Redis |
|---|---|---|
| counters of sign-in attempts | Redis itself, for a minute | each worker counts for itself, with a stricter limit |
| messages (revoked sign-ins, new heads) | MySQL | the readers' own short re-reading of MySQL finds out |
Every call ends within `timeout_ms`, and after a failure none is tried for a second: Redis gone is slower, never a refused request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from schema.logs import get_logger

log = get_logger(__name__)
T = TypeVar("T")
BREAK_SECONDS = 1.0
_FAILURES = (RedisError, OSError, RuntimeError, ValueError)


class Cache:
    """Redis behind a timeout and a breaker. Every method answers None, or nothing, where Redis cannot."""

    def __init__(self, url: str, *, database: str, timeout_ms: int) -> None:
        self._timeout_seconds = timeout_ms / 1000
        self._prefix = f"matrix-sync:{database}"
        self._broken_until = 0.0
        self._redis = self._client(url, self._timeout_seconds) if url else None
        # A subscription waits for ever by its nature: its health is checked by pings instead of a read timeout.
        self._listener = self._client(url, None) if url else None

    @staticmethod
    def _client(url: str, timeout_seconds: float | None) -> Any:
        return Redis.from_url(
            url,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds or 1.0,
            health_check_interval=0 if timeout_seconds else 10,
            retry=Retry(NoBackoff(), 0),
        )

    @property
    def is_usable(self) -> bool:
        """Tell whether the next call will be tried."""
        return self._redis is not None and time.monotonic() >= self._broken_until

    def channel(self, name: str) -> str:
        """Return the full name of a channel or key of this database: `matrix-sync:<database>:<name>`."""
        return f"{self._prefix}:{name}"

    async def close(self) -> None:
        """Close the connections."""
        for client in (self._redis, self._listener):
            if client is not None:
                await client.aclose()

    async def get(self, name: str) -> bytes | None:
        """Return a value."""
        return await self._try(self._redis.get(self.channel(name))) if self._redis and self.is_usable else None

    async def put(self, name: str, value: bytes, *, seconds: int) -> None:
        """Store a value for some seconds."""
        if self._redis and self.is_usable:
            await self._try(self._redis.set(self.channel(name), value, ex=seconds))

    async def count(self, name: str, *, seconds: int) -> int | None:
        """Add one to a counter that lives for `seconds` from its first count, and return it."""
        if not self._redis or not self.is_usable:
            return None
        key = self.channel(name)
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.set(key, 0, ex=seconds, nx=True)
        pipeline.incr(key)
        answers = await self._try(pipeline.execute())
        return int(answers[1]) if answers else None

    async def uncount(self, name: str) -> None:
        """Take one from a counter again. One that expired meanwhile is left at -1 for nobody: it is not made again."""
        if self._redis and self.is_usable:
            await self._try(self._redis.eval(_UNCOUNT, 1, self.channel(name)))

    async def publish(self, name: str, message: bytes) -> None:
        """Tell whoever listens now; nobody may."""
        if self._redis and self.is_usable:
            await self._try(self._redis.publish(self.channel(name), message))

    async def subscribe(self, name: str) -> AsyncIterator[bytes | None]:
        """Yield messages for ever. None comes first and after each reconnect: something may have been missed just before."""
        pause = BREAK_SECONDS
        while self._listener is not None:
            try:
                async with self._listener.pubsub() as listening:
                    await listening.subscribe(self.channel(name))
                    async for message in listening.listen():
                        pause = BREAK_SECONDS
                        yield message["data"] if message["type"] == "message" else None
            except _FAILURES as problem:
                log.warning("redis_subscription_lost", channel=name, error=type(problem).__name__)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 10.0)

    async def _try(self, call: Awaitable[T]) -> T | None:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await call
        except _FAILURES as problem:  # TimeoutError is an OSError
            self._broken_until = time.monotonic() + BREAK_SECONDS
            log.warning("redis_failed", error=type(problem).__name__)
            return None


_UNCOUNT = "if redis.call('EXISTS', KEYS[1]) == 1 then return redis.call('DECR', KEYS[1]) end return 0"
