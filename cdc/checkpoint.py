"""Where the tailer starts, decided by what the server still has.

1. The change log is empty of everything: `migrate` has not run → StartError.
2. The server never executed part of the checkpoint (restored backup, binlog reset, failover that lost transactions) → Halt.
3. The server purged binlogs that the checkpoint lacks → Halt: nothing advances over a gap by itself.
4. The last transaction that was read is another one now: the binlog was reset and has grown again → Halt (`anchor.py`).
5. Otherwise: after the checkpoint, whatever file that is in; rows above the head, left by a crash, are deleted first.

Whether the log itself is the one that was witnessed is `past.py`.
"""

from __future__ import annotations

from typing import Any

from pymysql.connections import Connection

from cdc.anchor import check_anchor
from cdc.gtid import GtidSet
from cdc.log import trim_above_head
from cdc.state import State, read_state
from schema.errors import Halt
from schema.logs import get_logger
from schema.settings import MySQLAddress

log = get_logger(__name__)

_READ_SERVER = "SELECT @@GLOBAL.gtid_executed, @@GLOBAL.gtid_purged, @@server_uuid"


def read_start(connection: Connection[Any], address: MySQLAddress) -> State:
    """Return the state to go on from. Raises StartError, Halt or Retry as the cases above say."""
    state = read_state(connection)
    with connection.cursor() as cursor:
        cursor.execute(_READ_SERVER)
        row = cursor.fetchone()
    connection.commit()
    assert row is not None
    executed, purged = GtidSet.parse(row[0]), GtidSet.parse(row[1])
    check_continuity(state.gtid_set, executed, purged)
    check_anchor(address, state.anchor, executed, purged)
    trimmed = trim_above_head(connection, state)
    if trimmed:
        log.info("trimmed_above_head", changes=trimmed, head=state.head)
    return state


def check_continuity(checkpoint: GtidSet, executed: GtidSet, purged: GtidSet) -> None:
    """Raise Halt where the server's binlogs do not continue the checkpoint."""
    lost = checkpoint.subtract(executed)
    if lost:
        raise Halt(
            "transactions_lost",
            f"this server never executed {lost}, which the change log holds: it was restored, reset, or is not the same primary",
            hint="connect the primary that has them; if they are lost for good, see docs/operators.md, “A restored backup”",
            details={"missing": str(lost)},
        )
    missing = purged.subtract(checkpoint)
    if missing:
        raise Halt(
            "binlog_purged",
            f"the server purged binlogs before they were read: {missing} is missing",
            hint="restore those binlogs, or see docs/operators.md, “A purged binlog”; binlog_expire_logs_seconds: 7 days or more",
            details={"missing": str(missing)},
        )
