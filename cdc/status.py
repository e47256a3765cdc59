"""How the tailer stands: whether one lives, how far the checkpoint is behind, and what halted it last."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import orjson
from pymysql.connections import Connection
from pymysql.cursors import Cursor

from cdc.gtid import GtidSet
from cdc.state import State, read_state
from schema.leases import tailer_lock

_READ_HOLDER = """
SELECT IS_USED_LOCK(%s), (SELECT holder FROM sync_lease WHERE id = 1), (SELECT connection_id FROM sync_lease WHERE id = 1),
       (SELECT taken_at FROM sync_lease WHERE id = 1)
"""
_READ_SERVER = """
SELECT @@GLOBAL.gtid_executed, @@GLOBAL.gtid_purged, (SELECT last_commit_at FROM sync_state WHERE id = 1)
"""
_READ_LAST_HALT = "SELECT at, details FROM sync_audit WHERE action = 'halted' ORDER BY id DESC LIMIT 1"


@dataclass(frozen=True, slots=True)
class TailerStatus:
    """`holder` is None where no tailer holds the lease. `behind` are the server's transactions that the checkpoint lacks, `purged`
    those of them that it has no binlog of, `lost` those of the checkpoint that the server never executed. Times are UTC;
    `last_halt` is what the tailer recorded, with `at`."""

    state: State
    holder: str | None
    held_since: dt.datetime | None
    behind: GtidSet
    purged: GtidSet
    lost: GtidSet
    last_commit_at: dt.datetime | None
    last_halt: dict[str, Any] | None

    @property
    def is_halted(self) -> bool:
        """Whether the last halt still stands: no tailer runs, and the checkpoint has not moved since."""
        if self.holder is not None or self.last_halt is None:
            return False
        return self.last_halt.get("checkpoint") == str(self.state.gtid_set)


def read_tailer_status(connection: Connection[Any], database: str) -> TailerStatus:
    """Ask in a few queries. Raises StartError where there is no change log."""
    state = read_state(connection)
    with connection.cursor() as cursor:
        cursor.execute(_READ_HOLDER, (tailer_lock(database),))
        used_by, holder, connection_id, taken_at = _one(cursor)
        cursor.execute(_READ_SERVER)
        executed, purged, last_commit_at = _one(cursor)
        cursor.execute(_READ_LAST_HALT)
        halt = cursor.fetchone()
    connection.rollback()
    is_noted = used_by is not None and used_by == connection_id
    unknown = f"connection {used_by}" if used_by is not None else None
    return TailerStatus(
        state=state,
        holder=holder if is_noted else unknown,
        held_since=taken_at if is_noted else None,
        behind=GtidSet.parse(executed).subtract(state.gtid_set),
        purged=GtidSet.parse(purged).subtract(state.gtid_set),
        lost=state.gtid_set.subtract(GtidSet.parse(executed)),
        last_commit_at=last_commit_at,
        last_halt={"at": halt[0], **orjson.loads(halt[1])} if halt else None,
    )


def _one(cursor: Cursor) -> tuple[Any, ...]:
    """The row of a SELECT that has just one."""
    row = cursor.fetchone()
    assert row is not None
    return row
