"""Tells the API's workers about a new head through Redis: a hint that may get lost, and that never delays an append.

The witness follows it (`cdc/witness.py`): Redis is one of the places outside MySQL that know how far the change log came. Neither
waits for an answer of Redis: the answers are read before the next command, when they are long there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

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
        self._line: Any = self._redis.connection_pool.make_connection() if self._redis is not None else None
        """For what is sent with each append: a pipeline of the client takes longer than Redis does."""
        self._unread = 0

    def publish(self, now: float, *, old_head: int, new_head: int, companies: Iterable[int]) -> None:
        """Send the hint; `now` is monotonic seconds. Never raises for a Redis that is away."""
        message = Hint(old_head, new_head, tuple(sorted(companies))).encoded()
        self._send(now, "PUBLISH", self._channel, message)

    def keep_witness(self, now: float, witness: bytes) -> None:
        """Have Redis keep the witness of an append, as `publish` does."""
        self._send(now, "SET", self._witness_key, witness)

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
        """Close the connections, once Redis has done what was sent."""
        if self._line is not None:
            self._read_answers()
            self._line.disconnect()
        if self._redis is not None:
            self._redis.close()

    def _send(self, now: float, *command: str | bytes) -> None:
        if self._line is None or now < self._silent_until:
            return
        self._read_answers()
        try:
            self._line.connect()  # where it is not
            self._line.send_command(*command)
            self._unread += 1
        except redis.RedisError as problem:
            self._silent_until = now + SILENCE_SECONDS
            self._note_failure(problem)

    def _read_answers(self) -> None:
        """Read the answers to what was sent before. A connection that broke since then is opened anew by whatever is sent next."""
        try:
            while self._unread:
                self._line.read_response()
                self._unread -= 1
            if self._line.is_connected and self._line.can_read():  # nothing is due: it is the end of the connection
                self._line.disconnect()
        except redis.RedisError as problem:
            self._note_failure(problem)

    def _note_failure(self, problem: redis.RedisError) -> None:
        self._line.disconnect()
        self._unread = 0
        log.warning("announce_failed", error=type(problem).__name__)
