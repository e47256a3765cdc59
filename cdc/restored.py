"""An operator's word on MySQL's past: it was replaced (`restored`), or it is the true one though no witness is left (`adopt`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pymysql.connections import Connection

from cdc.announce import Announcer
from cdc.decision import deciding, move_checkpoint
from cdc.epochs import NewEpoch, audit, begin_epoch
from cdc.gtid import GtidSet
from cdc.past import find_fork, read_log_id
from cdc.server_past import read_server_past
from cdc.skip import checked_fork
from cdc.witness import WitnessKeeper
from schema.errors import StartError
from schema.settings import MySQLAddress, Settings
from schema.versions import EPOCH_MAX
from schema.witness import Witness


@dataclass(frozen=True, slots=True)
class Restored:
    """The new epoch and its fork, and the checkpoint before and after. `unread`: executed, never read, and purged."""

    epoch: int
    fork: int
    head: int
    before: GtidSet
    after: GtidSet
    lost: GtidSet
    unread: GtidSet


def restored(
    connection: Connection[Any],
    address: MySQLAddress,
    witnesses: Sequence[Witness],
    *,
    fork: int | None,
    epoch: int | None,
    reason: str,
    actor: str,
) -> Restored:
    """Begin a new epoch after MySQL's past was replaced; the checkpoint becomes what the server has of it.

    The fork is what the witnesses have in common with the log, or the last version before the first transaction that the server
    lacks, or the head; `fork` overrides it. `epoch` is for one above those that a lost past had begun and no witness knows.
    Raises StartError: `bad_fork`, `bad_epoch`, and what `deciding` raises.
    """
    with deciding(connection, address.database, reason) as (state, server):
        past = read_server_past(connection, address, state, server)
        seen = [found for witness in witnesses if (found := find_fork(connection, state, witness)) is not None]
        connection.begin()
        number = max(state.epoch, *(witness.epoch for witness in witnesses), 0) + 1
        if epoch is not None and not number <= epoch <= EPOCH_MAX:
            raise StartError(
                "bad_epoch", f"the new epoch is {number} or more", hint="leave --epoch out where nothing else is known"
            )
        at = checked_fork(min([past.fork, *seen]) if fork is None else fork, state.head)
        after = past.checkpoint(server.purged)
        new = NewEpoch(epoch or number, at, "restored", is_past_lost=True)
        move_checkpoint(connection, state, after, keeps_anchor=not past.is_reset, keeps_witness=False)
        unread = server.purged.subtract(past.common)
        details = {
            "why": reason,
            "before": str(state.gtid_set),
            "after": str(after),
            "lost": str(past.lost),
            "unread": str(unread),
            "is_binlog_reset": past.is_reset,
        }
        begun = begin_epoch(connection, state, new, actor, details)
        connection.commit()
        return Restored(begun.epoch, at, begun.head, state.gtid_set, after, past.lost, unread)


def read_witnesses(connection: Connection[Any], settings: Settings, database: str) -> list[Witness]:
    """Return the witnesses of the log that can be reached from here: the file in `state_dir`, and Redis."""
    announcer = Announcer(settings, database=database)
    try:
        return WitnessKeeper(settings, database, announcer).read(read_log_id(connection))
    finally:
        announcer.close()


def adopt(connection: Connection[Any], address: MySQLAddress, *, reason: str, actor: str) -> int:
    """Take the log as it stands for the true past: the tailer starts without a witness and writes a new one. Returns the head."""
    with deciding(connection, address.database, reason) as (state, _):
        move_checkpoint(connection, state, state.gtid_set, keeps_anchor=True, keeps_witness=False)
        audit(connection, actor, "past_adopted", {"epoch": state.epoch, "head": state.head, "reason": reason})
        connection.commit()
        return state.head
