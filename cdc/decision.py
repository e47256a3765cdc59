"""What an operator may decide about the checkpoint: done under the tailer's lock, audited, and with a new epoch.

No tailer runs meanwhile, and the fencing token rises, so that none can write its older state over the decision.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from pymysql.connections import Connection

from cdc.gtid import GtidSet
from cdc.log import trim_above_head
from cdc.state import State, read_state
from schema.errors import StartError
from schema.leases import tailer_lock

_GET_LOCK = "SELECT GET_LOCK(%s, 0)"
_RELEASE_LOCK = "DO RELEASE_LOCK(%s)"
_READ_SERVER = "SELECT @@GLOBAL.gtid_executed, @@GLOBAL.gtid_purged"
_RAISE_TOKEN = "UPDATE sync_state SET fencing_token = fencing_token + 1 WHERE id = 1"
_MOVE = """
UPDATE sync_state
SET gtid_set = %s, anchor_gtid = %s, anchor_time_us = %s, server_uuid = @@server_uuid, is_witnessed = is_witnessed AND %s
WHERE id = 1
"""


@dataclass(frozen=True, slots=True)
class Server:
    """What the server says of its binlog."""

    executed: GtidSet
    purged: GtidSet


@contextmanager
def deciding(connection: Connection[Any], database: str, reason: str) -> Iterator[tuple[State, Server]]:
    """Hold the tailer's lock and yield the state, rows above its head trimmed; the caller commits.

    Raises StartError: `reason_missing`, `tailer_running`, `no_change_log`.
    """
    if not re.search(r"\w", reason):
        raise StartError("reason_missing", "a decision needs a reason, which is recorded", hint="--reason 'what happened'")
    name = tailer_lock(database)
    with connection.cursor() as cursor:
        cursor.execute(_GET_LOCK, (name,))
        if cursor.fetchone() != (1,):
            raise StartError(
                "tailer_running",
                "a tailer is running: it would not see the decision",
                hint="stop it, or its standby, and run this again",
            )
        try:
            state = read_state(connection)
            trim_above_head(connection, state)
            connection.begin()
            cursor.execute(_RAISE_TOKEN)
            cursor.execute(_READ_SERVER)
            row = cursor.fetchone()
            assert row is not None
            server = Server(GtidSet.parse(row[0]), GtidSet.parse(row[1]))
            yield replace(state, fencing_token=state.fencing_token + 1), server
        finally:
            connection.rollback()
            cursor.execute(_RELEASE_LOCK, (name,))


def move_checkpoint(
    connection: Connection[Any], state: State, checkpoint: GtidSet, *, keeps_anchor: bool, keeps_witness: bool
) -> None:
    """Store a checkpoint in the caller's transaction.

    Without `keeps_anchor` the last transaction that was read is no longer looked for; without `keeps_witness` the tailer starts
    even where no witness is left, and writes a new one.
    """
    kept = state.anchor if keeps_anchor and state.anchor is not None and state.anchor.gtid in checkpoint else None
    gtid, time_us = (str(kept.gtid), kept.time_us) if kept is not None else (None, None)
    with connection.cursor() as cursor:
        cursor.execute(_MOVE, (str(checkpoint), gtid, time_us, keeps_witness))
