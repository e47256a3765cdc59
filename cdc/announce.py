"""Tells the API's workers about a new head through Redis: a hint that may get lost, and that never delays an append.

The witness goes with it (`cdc/witness.py`): Redis is one of the places outside MySQL that know how far the change log came.
"""

from __future__ import annotations

from collections.abc import Iterable

import redis

from schema.hints import Hint, head_channel
from schema.logs import get_logger
from schema.settings import Settings
from schema.witness import witness_key

log = get_logger(__name__)

SILENCE_SECONDS = 1.0
"""After a failure Redis is left alone this long, so that a dead one does not cost each append its timeout."""


class Announcer:
    """Publishes hints; one that does not follow on makes a worker ask MySQL."""

    def __init__(self, settings: Settings, *, database: str) -> None:
        self._channel = head_channel(database)
        self._witness_key = witness_key(database)
        self._silent_until = 0.0
        timeout = settings.redis_timeout_ms / 1000
        self._redis = (
            redis.Redis.from_url(settings.redis_url, socket_timeout=timeout, socket_connect_timeout=timeout)
            if settings.redis_url
            else None
        )

    def publish(self, now: float, *, old_head: int, new_head: int, companies: Iterable[int], witness: bytes) -> None:
        """Send the hint and keep the witness; `now` is monotonic seconds. Never raises for a Redis that is away."""
        if self._redis is None or now < self._silent_until:
            return
        message = Hint(old_head, new_head, tuple(sorted(companies))).encoded()
        try:
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.set(self._witness_key, witness)
            pipeline.publish(self._channel, message)
            pipeline.execute()
        except redis.RedisError as problem:
            self._silent_until = now + SILENCE_SECONDS
            log.warning("announce_failed", error=type(problem).__name__)

    def read_witness(self) -> bytes | None:
        """Return the witness that Redis keeps; None where it keeps none, or is away."""
        try:
            found = self._redis.get(self._witness_key) if self._redis is not None else None
        except redis.RedisError as problem:
            log.warning("announce_failed", error=type(problem).__name__)
            return None
        return found if isinstance(found, bytes) else None

    def store_witness(self, witness: bytes) -> bool:
        """Keep the witness; False where Redis is away."""
        try:
            return self._redis is not None and bool(self._redis.set(self._witness_key, witness))
        except redis.RedisError as problem:
            log.warning("announce_failed", error=type(problem).__name__)
            return False

    def close(self) -> None:
        """Close the connection."""
        if self._redis is not None:
            self._redis.close()
