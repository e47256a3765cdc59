"""Whether the change log's past is the one that was witnessed outside MySQL, and what follows where it is not.

1. No witness, and none was ever written: the log is taken as it is, and witnessed from here on.
2. No witness where there was one, and a log that is not empty → Halt: a restored backup could not be told from a lost file.
3. The log goes on from every witness → as it is. What a witness saw beyond a fork that is recorded is known to be gone.
4. The log is behind a witness, or has another chain hash at its version → MySQL's past was replaced: a new epoch begins. Its fork
   is the log's head where the log has counted nothing since; else the newest point that both have.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from pymysql.connections import Connection

from cdc.epochs import NewEpoch, audit, begin_epoch
from cdc.state import State
from cdc.witness import WitnessKeeper
from schema.errors import Halt
from schema.logs import get_logger
from schema.versions import EMPTY_HEAD, is_replaced
from schema.witness import Point, Witness, latest

log = get_logger(__name__)

_READ_LOG = """
SELECT (SELECT CAST(started_at AS CHAR) FROM sync_epochs WHERE epoch = 0), s.is_witnessed, @@server_uuid,
    (SELECT commit_time_us FROM sync_tx WHERE tx = s.tx)
FROM sync_state s WHERE s.id = 1
"""
_READ_FORKS = "SELECT epoch, fork FROM sync_epochs"
_READ_CHAIN = "SELECT chain FROM sync_changes WHERE version = %s"
_MARK_WITNESSED = "UPDATE sync_state SET is_witnessed = 1 WHERE id = 1 AND fencing_token = %s"
_MOVE_SERVER = "UPDATE sync_state SET server_uuid = %s WHERE id = 1 AND fencing_token = %s"


def confirm_past(connection: Connection[Any], state: State, keeper: WitnessKeeper) -> State:
    """Return the state to go on from, in a new epoch where the cases above say so. Raises Halt `witness_missing`, LeaseLost."""
    log_id, is_witnessed, server_uuid, time_us = _read_log(connection)
    witnesses = keeper.read(log_id)
    if not witnesses and is_witnessed and state.tx > 0:
        raise Halt(
            "witness_missing",
            "the change log is not empty, and nothing outside MySQL knows any more how far it came",
            hint="`matrix-sync checkpoint adopt` if MySQL was not restored, `matrix-sync checkpoint restored` if it was",
        )
    new = epoch_needed(connection, state, witnesses)
    if new is not None:
        seen = latest(witnesses)
        assert seen is not None
        details = {"witnessed_epoch": seen.epoch, "witnessed_head": seen.head, "witnessed_server": seen.server_uuid}
        state = begin_epoch(connection, state, new, "tailer", details)
        connection.commit()
        log.warning("epoch_begun", epoch=new.epoch, fork=new.fork, reason=new.reason, head=state.head, **details)
    if state.server_uuid != server_uuid:
        state = _moved(connection, state, server_uuid)
    if keeper.begin(log_id, state, time_us, witnesses) and not is_witnessed:
        with connection.cursor() as cursor:
            cursor.execute(_MARK_WITNESSED, (state.fencing_token,))
        connection.commit()
    return state


def read_log_id(connection: Connection[Any]) -> str:
    """Return what tells this change log from others: when it began."""
    return _read_log(connection)[0]


def epoch_needed(connection: Connection[Any], state: State, witnesses: Iterable[Witness]) -> NewEpoch | None:
    """Return the epoch to begin where a witness tells of another past; None where the log goes on from all of them."""
    found = [(witness, find_fork(connection, state, witness)) for witness in witnesses]
    forks = [fork for _, fork in found if fork is not None]
    if not forks:
        return None
    number = max(state.epoch, *(witness.epoch for witness, _ in found)) + 1
    return NewEpoch(number, min(forks), "past_replaced", is_past_lost=True)


def find_fork(connection: Connection[Any], state: State, witness: Witness) -> int | None:
    """Return the newest version that the log and the witness have in common; None where the log goes on from the witness."""
    forks = read_forks(connection)
    points = [point for point in witness.points if not is_replaced(point.version, forks)]
    is_behind = witness.epoch > state.epoch or bool(points and points[-1].version > state.head)
    is_other = False
    for point in reversed(points):
        chain = _chain_at(connection, state, point.version) if point.version <= state.head else None
        if chain == point.chain:
            if is_other:
                return point.version
            return _extended(connection, state, points, point.version) if is_behind else None
        is_other = is_other or chain is not None  # a change that is not there, pruned or deleted, says nothing of the past
    if is_other:
        return EMPTY_HEAD
    return _extended(connection, state, points, EMPTY_HEAD) if is_behind else None


def _extended(connection: Connection[Any], state: State, points: Sequence[Point], common: int) -> int:
    """The fork of a log that is behind the witness and has all its points up to there: `common` is the newest of them.

    It is the head, if the log has counted nothing since it was replaced: its newest transaction was committed before the witness
    saw the next point. Else all after the common point may be new.
    """
    seen_us = next((p.time_us for p in points if p.version > state.head), points[-1].time_us if points else 0)
    return state.head if _read_log(connection)[3] <= seen_us else common


def read_forks(connection: Connection[Any]) -> dict[int, int]:
    """Return each epoch's fork: the last version before it that is still true."""
    with connection.cursor() as cursor:
        cursor.execute(_READ_FORKS)
        found = {int(epoch): int(fork) for epoch, fork in cursor.fetchall()}
    connection.commit()
    return found


def _chain_at(connection: Connection[Any], state: State, version: int) -> bytes | None:
    if version == state.head:
        return state.chain
    with connection.cursor() as cursor:
        cursor.execute(_READ_CHAIN, (version,))
        row = cursor.fetchone()
    connection.commit()
    return bytes(row[0]) if row is not None else None


def _read_log(connection: Connection[Any]) -> tuple[str, bool, str, int]:
    """What tells this log from others, whether it is witnessed, the server it is on, and its newest transaction's commit time."""
    with connection.cursor() as cursor:
        cursor.execute(_READ_LOG)
        row = cursor.fetchone()
    connection.commit()
    assert row is not None
    return str(row[0]), bool(row[1]), str(row[2]), int(row[3] or 0)


def _moved(connection: Connection[Any], state: State, server_uuid: str) -> State:
    """Note that the log is on another server now: a failover, a clone, or a lost auto.cnf. The checkpoint holds on any server."""
    with connection.cursor() as cursor:
        cursor.execute(_MOVE_SERVER, (server_uuid, state.fencing_token))
    servers = {"before": state.server_uuid, "after": server_uuid}
    audit(connection, "tailer", "server_changed", {**servers, "checkpoint": str(state.gtid_set)})
    connection.commit()
    log.warning("server_changed", **servers)
    return replace(state, server_uuid=server_uuid)
