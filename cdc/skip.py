"""Transactions passed over by an operator's decision: the checkpoint grows or is set, the epoch rises, sync_audit says who and why.

No version that a device was given is false by it, so the fork is the head and every cursor stays good; what the gap hides,
reconcile sends. Only where the server lacks transactions that were read (`server_past.py`) is part of the past lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pymysql.connections import Connection

from cdc.decision import deciding, move_checkpoint
from cdc.epochs import NewEpoch, audit, begin_epoch
from cdc.gtid import Gtid, GtidSet
from cdc.server_past import read_server_past
from cdc.state import State
from schema.errors import StartError
from schema.settings import MySQLAddress

_SKIPPED = "checkpoint_skipped"


@dataclass(frozen=True, slots=True)
class Skipped:
    """The checkpoint before and after, equal where there was nothing to pass over; `epoch` and `fork` of the new epoch."""

    before: GtidSet
    after: GtidSet
    epoch: int | None = None
    fork: int | None = None

    @property
    def gtids(self) -> GtidSet:
        """What was passed over."""
        return self.after.subtract(self.before)


def skip(connection: Connection[Any], database: str, gtid: Gtid, *, reason: str, actor: str) -> Skipped:
    """Pass over one transaction. Raises StartError: `not_executed`, and what `deciding` raises."""
    with deciding(connection, database, reason) as (state, server):
        if gtid not in server.executed:
            raise StartError("not_executed", f"the server never executed {gtid}", hint="SELECT @@GLOBAL.gtid_executed")
        return _pass_over(connection, state, GtidSet().add(gtid), "skipped", reason, actor)


def skip_missing(connection: Connection[Any], database: str, *, reason: str, actor: str) -> Skipped:
    """Pass over all that the server purged before it was read. Raises StartError as `deciding` does."""
    with deciding(connection, database, reason) as (state, server):
        return _pass_over(connection, state, server.purged, "binlog_purged", reason, actor)


def _pass_over(connection: Connection[Any], state: State, gtids: GtidSet, cause: str, reason: str, actor: str) -> Skipped:
    before, after = state.gtid_set, state.gtid_set.union(gtids)
    if after == before:
        return Skipped(before, after)
    move_checkpoint(connection, state, after, keeps_anchor=True, keeps_witness=True)
    details = {"gtids": str(after.subtract(before)), "reason": reason, "before": str(before), "after": str(after)}
    audit(connection, actor, _SKIPPED, details)
    new = NewEpoch(state.epoch + 1, state.head, cause, is_past_lost=False)
    begin_epoch(connection, state, new, actor, {"checkpoint": str(after)})
    connection.commit()
    return Skipped(before, after, new.epoch, new.fork)


def set_checkpoint(
    connection: Connection[Any], address: MySQLAddress, wanted: GtidSet, *, fork: int | None, reason: str, actor: str
) -> Skipped:
    """Make a set the checkpoint, whatever it was. `fork` overrides what follows from the recorded transactions.

    Raises StartError: `not_executed` (the server lacks some of it), `binlog_purged` (it lacks what the server purged),
    `already_read` (what the change log holds would be read again), `bad_fork`, and what `deciding` raises.
    """
    with deciding(connection, address.database, reason) as (state, server):
        if not wanted.is_subset_of(server.executed):
            never = wanted.subtract(server.executed)
            raise StartError("not_executed", f"the server never executed {never}", hint="SELECT @@GLOBAL.gtid_executed")
        gone = server.purged.subtract(wanted)
        if gone:
            raise StartError("binlog_purged", f"the server has purged {gone}", hint="name them too: they cannot be read any more")
        if wanted == state.gtid_set:
            return Skipped(state.gtid_set, wanted)
        past = read_server_past(connection, address, state, server)
        again = past.common.subtract(wanted)
        if again:
            raise StartError(
                "already_read", f"the change log holds {again}", hint="name them too; `matrix-sync replay` compares a past stretch"
            )
        move_checkpoint(connection, state, wanted, keeps_anchor=not past.is_reset, keeps_witness=True)
        skipped = wanted.subtract(past.common)
        details = {
            "gtids": str(skipped),
            "lost": str(past.lost),
            "reason": reason,
            "before": str(state.gtid_set),
            "after": str(wanted),
        }
        audit(connection, actor, _SKIPPED, details)
        at = checked_fork(past.fork if fork is None else fork, state.head)
        new = NewEpoch(state.epoch + 1, at, "checkpoint_set", is_past_lost=bool(past.lost) or at < state.head)
        begin_epoch(connection, state, new, actor, {"checkpoint": str(wanted)})
        connection.commit()
        return Skipped(state.gtid_set, wanted, new.epoch, new.fork)


def checked_fork(fork: int, head: int) -> int:
    """Return the fork. Raises StartError `bad_fork` beyond the head."""
    if not 0 <= fork <= head:
        raise StartError("bad_fork", f"no version {fork}: the head is {head}", hint="`matrix-sync checkpoint show`")
    return fork
