"""What the tailer does when it has nothing to read: retention, a little at a time.

A moment between two transactions is given one commit of it, and a heartbeat, which comes when there was nothing for a while, a few;
then it rests several times as long as that took. Where nothing is old enough nothing is written, and it is asked again later.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pymysql
from pymysql.connections import Connection

from cdc.retention import LOCKED, Retention, read_cutoffs
from schema.errors import StartError
from schema.logs import get_logger
from schema.settings import Settings

log = get_logger(__name__)

REST_FACTOR = 5
"""Retention takes at most a sixth of the tailer's time."""
HEARTBEAT_SECONDS = 0.5
"""How long a heartbeat is worked on: what is committed meanwhile waits as long."""
DAY_US = 24 * 3600 * 1_000_000


class IdleWork:
    """Told of every quiet moment by the follower, on whose connection it works: nothing else runs there then."""

    def __init__(
        self,
        connection: Connection[Any],
        settings: Settings,
        fencing_token: int,
        clock: Callable[[], float] = time.monotonic,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._token = fencing_token
        self._clock = clock
        self._now_us = now_us
        self._due = clock()
        self._run: Retention | None = None

    def take_turn(self, seconds: float = 0.0) -> None:
        """Prune one commit's worth where it is time, or as many as begin within `seconds`. Raises LeaseLost and pymysql errors."""
        started = self._clock()
        if started < self._due:
            return
        run = self._run = self._run or self._begin()
        while self._step(run) and self._clock() - started < seconds:
            pass
        spent = self._clock() - started
        self._due = started + spent + (REST_FACTOR * spent if self._run else self._settings.retention_interval_seconds)

    def _step(self, run: Retention) -> bool:
        """Whether there is more to do in this run; else it is over."""
        try:
            if run.step():
                return True
        except StartError as problem:
            log.warning("retention_stopped", code=problem.code, reason=problem.message, **problem.details)
        except pymysql.err.MySQLError as problem:
            if problem.args[0] != LOCKED:  # somebody else prunes
                raise
        self._run = None
        if not run.counts.is_empty:
            log.info("pruned", **{**asdict(run.counts), "min_version": run.counts.min_version or None})
        return False

    def _begin(self) -> Retention:
        history, tombstones = (
            self._now_us() - days * DAY_US if days else None
            for days in (self._settings.retention_history_days, self._settings.retention_tombstone_days)
        )
        cutoffs = read_cutoffs(self._connection, history_before_us=history, tombstones_before_us=tombstones)
        return Retention(self._connection, cutoffs, fencing_token=self._token)
