"""The tailer's right to write: a named lock for as long as its connection lives, and a fencing token for when it is wrong.

The lock ends with the connection, so a killed tailer is succeeded at once and an idle one writes nothing. A holder that was
paused, or whose connection was killed, still cannot commit: each append compares its token with the stored one.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from pymysql.connections import Connection

from schema.errors import Standby
from schema.leases import tailer_lock

_GET_LOCK = "SELECT GET_LOCK(%s, %s)"
_READ_HOLDER = "SELECT holder, taken_at FROM sync_lease WHERE id = 1"
_RAISE_TOKEN = "UPDATE sync_state SET fencing_token = fencing_token + 1 WHERE id = 1"
_NOTE_HOLDER = """
INSERT INTO sync_lease (id, holder, connection_id, fencing_token)
SELECT 1, %s, CONNECTION_ID(), fencing_token FROM sync_state WHERE id = 1
ON DUPLICATE KEY UPDATE holder = VALUES(holder), connection_id = VALUES(connection_id), fencing_token = VALUES(fencing_token)
"""


def take_lease(connection: Connection[Any], database: str, *, wait_seconds: int) -> None:
    """Become the one tailer: older holders' commits fail from here on.

    Raises Standby, naming the holder, where another one lives after `wait_seconds`.
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
