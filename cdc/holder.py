"""Whether the session that holds a lock still has a client, told by its server without a write.

A living tailer sends a command at least twice a second (`cdc.lease.Lease.keep`), from the thread that does the work. So a session
that waits for its client for seconds has none: its process is stopped or its network is gone. One that waits for the server (a
long commit, a lock, a slow disk) is busy, and never counts as silent.

Source: MySQL 9.7 manual, "SHOW PROCESSLIST Statement" (an account sees its own sessions), "KILL Statement" (and may kill them),
"General Thread States".
`Time` counts from the start of the last command, so after a long one it is large at once: it says nothing by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pymysql
from pymysql.connections import Connection

SILENT_SECONDS = 3
"""`Time` in whole seconds that a silent session shows: more than two have passed."""
_WATCHED_SECONDS = 2.0
_GAP_SECONDS_MAX = 1.0
_AGAIN_SECONDS = 1.2
_WAITING_FOR_CLIENT = frozenset({"Sending to client", "Receiving from client"})
"""States of a command under way whose next step is the client's: it takes an answer, or sends the rows of a LOAD DATA LOCAL."""
_NO_SUCH_SESSION = 1094
_NOT_OURS = 1095

_READ_HOLDER = "SELECT IS_USED_LOCK(%s)"
_SHOW = "SHOW PROCESSLIST"
_KILL = "KILL CONNECTION %s"


@dataclass(frozen=True, slots=True)
class Sight:
    """A session as the server shows it. `seconds` since its last command began."""

    session: int
    is_waiting_for_client: bool
    seconds: int


def read_holder(connection: Connection[Any], lock: str) -> int | None:
    """The session that holds a lock."""
    with connection.cursor() as cursor:
        cursor.execute(_READ_HOLDER, (lock,))
        row = cursor.fetchone()
    return row[0] if row else None


def look_at(connection: Connection[Any], session: int | None) -> Sight | None:
    """The session as it is now; None where it is gone, or another account's."""
    with connection.cursor() as cursor:
        cursor.execute(_SHOW)
        for number, _user, _host, _database, command, seconds, state, *_ in cursor.fetchall():
            if number == session:
                return Sight(number, command == "Sleep" or state in _WAITING_FOR_CLIENT, int(seconds or 0))
    return None


def read_silence(connection: Connection[Any], lock: str, sleep: Callable[[float], None] = time.sleep) -> int | None:
    """For how many seconds a lock's holder has sent nothing; None of one that lives, that nobody can see, or where there is none.

    One that looks silent is looked at twice, since a long command that has just ended looks the same once.
    """
    first = look_at(connection, read_holder(connection, lock))
    if first is None or not first.is_waiting_for_client or first.seconds < SILENT_SECONDS:
        return None
    sleep(_AGAIN_SECONDS)
    again = look_at(connection, read_holder(connection, lock))
    if again is None or again.session != first.session or not again.is_waiting_for_client or again.seconds <= first.seconds:
        return None
    return again.seconds


def kill(connection: Connection[Any], session: int) -> bool:
    """End a session and with it its locks. False where it is another account's."""
    try:
        with connection.cursor() as cursor:
            cursor.execute(_KILL, (session,))
    except pymysql.err.MySQLError as problem:
        if problem.args[0] not in (_NO_SUCH_SESSION, _NOT_OURS):
            raise
        return bool(problem.args[0] == _NO_SUCH_SESSION)
    return True


class Watch:
    """What sights of a holder, taken every few tenths of a second, add up to."""

    def __init__(self) -> None:
        self._since = 0.0
        self._last: Sight | None = None
        self._last_at = 0.0

    def is_silent(self, sight: Sight | None, now: float) -> bool:
        """Take a sight; whether the holder has been without a client for long enough.

        A gap between two sights begins anew: then it was we, or the server, that stood still.
        """
        last, last_at = self._last, self._last_at
        self._last, self._last_at = sight, now
        if (
            sight is None
            or not sight.is_waiting_for_client
            or last is None
            or last.session != sight.session
            or not last.is_waiting_for_client
            or sight.seconds < last.seconds
            or now - last_at > _GAP_SECONDS_MAX
        ):
            self._since = now
        return sight is not None and sight.seconds >= SILENT_SECONDS and now - self._since >= _WATCHED_SECONDS

    def is_alive(self) -> bool:
        """Whether the last sight shows a holder at work, or one that nobody can see."""
        sight = self._last
        return sight is None or not sight.is_waiting_for_client or sight.seconds < SILENT_SECONDS - 1
