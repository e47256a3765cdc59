"""Tells the API's workers about a new head through Redis: a hint that may get lost, and that never delays an append."""

from __future__ import annotations

from collections.abc import Iterable

import orjson
import redis

from schema.logs import get_logger
from schema.settings import Settings

log = get_logger(__name__)

SILENCE_SECONDS = 1.0
"""After a failure Redis is left alone this long, so that a dead one does not cost each append its timeout."""


def head_channel(database: str) -> str:
    """The channel a database's heads are published on."""
    return f"matrix-sync:{database}:head"


class Announcer:
    """Publishes `{"from": head, "to": head, "companies": [id, …]}`; one that does not follow on makes a worker ask MySQL."""

    def __init__(self, settings: Settings, *, database: str) -> None:
        self._channel = head_channel(database)
        self._silent_until = 0.0
        timeout = settings.redis_timeout_ms / 1000
        self._redis = (
            redis.Redis.from_url(settings.redis_url, socket_timeout=timeout, socket_connect_timeout=timeout)
            if settings.redis_url
            else None
        )

    def publish(self, now: float, *, old_head: int, new_head: int, companies: Iterable[int]) -> None:
        """Send the hint; `now` is monotonic seconds. Never raises for a Redis that is away."""
        if self._redis is None or now < self._silent_until:
            return
        message = orjson.dumps({"from": old_head, "to": new_head, "companies": sorted(companies)})
        try:
            self._redis.publish(self._channel, message)
        except redis.RedisError as problem:
            self._silent_until = now + SILENCE_SECONDS
            log.warning("announce_failed", error=type(problem).__name__)

    def close(self) -> None:
        """Close the connection."""
        if self._redis is not None:
            self._redis.close()
