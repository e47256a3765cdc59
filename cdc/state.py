"""The one row of sync_state: the head and the checkpoint, read at start and moved with each append."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from pymysql.connections import Connection
from pymysql.err import IntegrityError

from cdc.gtid import Gtid, GtidSet, Interval, Source
from cdc.together import Together
from schema.errors import LeaseLost, StartError

_READ = """
SELECT epoch, head, tx, gtid_set, binlog_file, binlog_pos, server_uuid, fencing_token, chain, anchor_gtid, anchor_time_us
FROM sync_state WHERE id = 1
"""
_READ_TOKEN = "SELECT fencing_token FROM sync_state WHERE id = 1 FOR SHARE"
_MOVE = """
UPDATE sync_state
SET head = %s, tx = %s, gtid_set = %s, binlog_file = %s, binlog_pos = %s, chain = %s, anchor_gtid = %s, anchor_time_us = %s,
    last_commit_at = UTC_TIMESTAMP(6), fencing_token = IF(fencing_token = %s AND {also}, fencing_token, NULL)
WHERE id = 1
"""
# In strict mode NULL is an error in a column that is NOT NULL, and after an error the COMMIT in the same packet is not reached.
_NOT_OURS = 1048


class Anchor(NamedTuple):
    """The last transaction that was read, and its commit time on the server that wrote it first, in µs of Unix time."""

    gtid: Gtid
    time_us: int


@dataclass(frozen=True, slots=True)
class State:
    """`gtid_set` is the checkpoint as committed with the change log; file and pos are for people only.

    `anchor` is a member of the checkpoint; None until something was read.
    """

    epoch: int
    head: int
    tx: int
    gtid_set: GtidSet
    file: str | None
    pos: int | None
    server_uuid: str
    fencing_token: int
    chain: bytes
    anchor: Anchor | None = None


def read_state(connection: Connection[Any]) -> State:
    """Raises StartError where there is no change log yet."""
    with connection.cursor() as cursor:
        cursor.execute(_READ)
        row = cursor.fetchone()
    connection.commit()
    if row is None:
        raise StartError("no_change_log", "sync_state is empty", hint="run `matrix-sync migrate`")
    epoch, head, tx, gtid_set, file, pos, server_uuid, token, chain, anchor_gtid, anchor_time_us = row
    anchor = Anchor(Gtid.parse(anchor_gtid), anchor_time_us) if anchor_gtid is not None else None
    return State(epoch, head, tx, GtidSet.parse(gtid_set), file, pos, server_uuid, token, chain, anchor)


def require_lease(connection: Connection[Any], state: State) -> None:
    """Hold the fencing token as it is until the caller's transaction ends, where that transaction does not move the state.

    Raises LeaseLost where a higher one is stored.
    """
    with connection.cursor() as cursor:
        cursor.execute(_READ_TOKEN)
        row = cursor.fetchone()
    if row != (state.fencing_token,):
        raise _lost()


def commit_moved(writes: Together, state: State, also: str = "TRUE") -> bool:
    """Write the moved state and commit it with all that the transaction wrote, if the fencing token is still ours and `also`, a
    condition in SQL, holds; False where it does not, and nothing was written.

    Raises LeaseLost where a higher token is stored, and pymysql errors, as `Together.commit` does.
    """
    move_state(writes, state, also)
    try:
        writes.commit()
    except IntegrityError as problem:
        if problem.args[0] != _NOT_OURS or "fencing_token" not in str(problem.args[-1]):
            raise
        writes.connection.rollback()
        require_lease(writes.connection, state)
        return False
    return True


def move_state(writes: Together, state: State, also: str = "TRUE") -> None:
    """Have the moved state written. It fails where a higher fencing token is stored, or where `also` does not hold."""
    gtid, time_us = (str(state.anchor.gtid), state.anchor.time_us) if state.anchor is not None else (None, None)
    values = (state.head, state.tx, str(state.gtid_set), state.file, state.pos, state.chain, gtid, time_us, state.fencing_token)
    with writes.connection.cursor() as cursor:
        writes.put(cursor.mogrify(_MOVE.format(also=also), values))


def _lost() -> LeaseLost:
    return LeaseLost("lease_lost", "another tailer has taken over", hint="this one wrote nothing and steps down")


def with_gtids(gtid_set: GtidSet, gtids: Iterable[Gtid]) -> GtidSet:
    """Return the set with more members."""
    members: dict[Source, list[Interval]] = {}
    for uuid, tag, number in gtids:
        members.setdefault((uuid, tag), []).append((number, number + 1))
    return gtid_set.union(GtidSet(members))
