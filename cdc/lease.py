"""The tailer's right to write: a named lock for as long as its connection lives, and a fencing token for when it is wrong.

The lock ends with the connection, so a killed tailer is succeeded at once and an idle one writes nothing. A holder that is stopped,
or whose network is gone, keeps its connection: whoever waits sees it fall silent (`cdc.holder`), ends its session, and takes over.
Should it come back, it cannot commit: each commit compares its token with the stored one.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from typing import Any

from pymysql.connections import Connection

from cdc.holder import Watch, kill, look_at, read_holder
from schema.connect import read_timeout
from schema.errors import Retry, Standby
from schema.leases import tailer_lock
from schema.logs import get_logger

log = get_logger(__name__)

LOOK_SECONDS = 0.25
KEEP_SECONDS = 0.5
PING_SECONDS_MAX = 10
_FREED_SECONDS_MAX = 5
_DYING_SECONDS = 1
"""How long the session of a killed tailer may take to go before it counts as another tailer's."""

_GET_LOCK = "SELECT GET_LOCK(%s, %s)"
_READ_HOLDER = "SELECT holder, taken_at FROM sync_lease WHERE id = 1"
_RAISE_TOKEN = "UPDATE sync_state SET fencing_token = fencing_token + 1 WHERE id = 1"
_NOTE_HOLDER = """
INSERT INTO sync_lease (id, holder, connection_id, fencing_token)
SELECT 1, %s, CONNECTION_ID(), fencing_token FROM sync_state WHERE id = 1
ON DUPLICATE KEY UPDATE holder = VALUES(holder), connection_id = VALUES(connection_id), fencing_token = VALUES(fencing_token)
"""


class Lease:
    """The held lease; its holder calls `keep` from wherever its work may stand still."""

    def __init__(self, connection: Connection[Any], clock: Callable[[], float] = time.monotonic) -> None:
        self._connection = connection
        self._clock = clock
        self._kept_at = clock()

    def keep(self) -> None:
        """Let the server hear of us, if it has not for half a second. Raises pymysql errors where the session is gone."""
        if self._clock() - self._kept_at >= KEEP_SECONDS:
            self.check()

    def check(self) -> None:
        """Ask the server whether the session still is. Raises pymysql errors where it is not."""
        with read_timeout(self._connection, PING_SECONDS_MAX):
            self._connection.ping(reconnect=False)
        self._kept_at = self._clock()


class Candidate:
    """One who wants the lease. `former` is the session of its own last lease, which may outlive its connection."""

    def __init__(self, connection: Connection[Any], database: str, *, former: int | None = None) -> None:
        self._connection = connection
        self._database = database
        self._lock = tailer_lock(database)
        self._former = former

    def take(self, *, is_standby: bool, wait: Callable[[float], bool]) -> bool:
        """Become the one tailer. `wait(seconds)` sleeps and says whether to give up; then this returns False.

        Raises Standby, naming the holder, where another one lives and this is no standby; Retry where a session of our own that
        was ended does not go.
        """
        self._end_former()
        watch = Watch()
        began = time.monotonic()
        is_told = False
        while True:
            try:
                take_lease(self._connection, self._database, wait_seconds=0)
                return True
            except Standby as holder:
                session = read_holder(self._connection, self._lock)
                now = time.monotonic()
                if watch.is_silent(look_at(self._connection, session), now):
                    self._end_silent(session, holder.message)
                    continue
                if not is_standby and watch.is_alive() and now - began >= _DYING_SECONDS:
                    raise
                if not is_told:
                    log.info("standby", holder=holder.message)
                    is_told = True
            if wait(LOOK_SECONDS):
                return False

    def _end_former(self) -> None:
        """A connection that broke unnoticed by the server still holds the lock, and would stand in our own way."""
        if self._former is None or read_holder(self._connection, self._lock) != self._former:
            return
        kill(self._connection, self._former)
        self._wait_until_freed(self._former)

    def _end_silent(self, session: int | None, holder: str) -> None:
        if session is None or not kill(self._connection, session):
            return
        log.warning("holder_silent", holder=holder, session=session)
        self._wait_until_freed(session)

    def _wait_until_freed(self, session: int) -> None:
        deadline = time.monotonic() + _FREED_SECONDS_MAX
        while read_holder(self._connection, self._lock) == session:
            if time.monotonic() > deadline:  # it commits, or its disk is full: it ends when that does
                raise Retry("lease_not_free", f"session {session} was ended and still holds the lease")
            time.sleep(0.01)


def take_lease(connection: Connection[Any], database: str, *, wait_seconds: int) -> None:
    """Become the one tailer: older holders' commits fail from here on.

    Raises Standby, naming the holder, where another one has the lock after `wait_seconds`.
    """
    with connection.cursor() as cursor:
        cursor.execute(_GET_LOCK, (tailer_lock(database), wait_seconds))
        if cursor.fetchone() != (1,):
            raise _standby(connection)
        cursor.execute(_RAISE_TOKEN)
        cursor.execute(_NOTE_HOLDER, (f"{socket.gethostname()} pid {os.getpid()}",))
    connection.commit()


def _standby(connection: Connection[Any]) -> Standby:
    with connection.cursor() as cursor:
        cursor.execute(_READ_HOLDER)
        row = cursor.fetchone()
    connection.commit()
    holder = f"{row[0]} since {row[1]} UTC" if row else "a starting one"
    return Standby(
        "tailer_running",
        f"another tailer holds the lease: {holder}",
        hint="stop that one first, or start this one with --standby to take over when it dies",
    )
