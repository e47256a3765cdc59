"""What the tailer does when it has nothing to read: retention, a little at a time.

A quiet moment is given up to one commit of it; after each it rests several times as long as that took, so that what comes in
meanwhile waits for at most one. Where nothing is old enough nothing is written, and it is asked again after a while.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pymysql
from pymysql.connections import Connection

from cdc.retention import Retention, read_cutoffs
from schema.errors import StartError
from schema.logs import get_logger
from schema.settings import Settings

log = get_logger(__name__)

REST_FACTOR = 5
"""Retention takes at most a sixth of the tailer's time."""
DAY_US = 24 * 3600 * 1_000_000
_LOCKED = 3572


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

    def take_turn(self) -> None:
        """Prune one commit's worth where it is time. Raises LeaseLost and pymysql errors."""
        started = self._clock()
        if started < self._due:
            return
        run = self._run or self._begin()
        try:
            self._run = run if run.step() else None
        except StartError as problem:
            self._run = None
            log.warning("retention_stopped", code=problem.code, reason=problem.message, **problem.details)
        except pymysql.err.MySQLError as problem:
            if problem.args[0] != _LOCKED:  # somebody else prunes
                raise
            self._run = None
        rest = self._settings.retention_interval_seconds
        self._due = self._clock() + (REST_FACTOR * (self._clock() - started) if self._run else rest)
        if self._run is None and not run.counts.is_empty:
            counts = run.counts
            log.info(
                "pruned",
                images=counts.images,
                tombstones=counts.tombstones,
                redeliveries=counts.redeliveries,
                pushes=counts.pushes,
                txs=counts.txs,
                min_version=counts.min_version or None,
            )

    def _begin(self) -> Retention:
        history, tombstones = (
            self._now_us() - days * DAY_US if days else None
            for days in (self._settings.retention_history_days, self._settings.retention_tombstone_days)
        )
        cutoffs = read_cutoffs(self._connection, history_before_us=history, tombstones_before_us=tombstones)
        return Retention(self._connection, cutoffs, fencing_token=self._token)
