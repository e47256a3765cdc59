"""A new epoch of the change log (contract §1.2): the fork, where versions go on, and who decided it, in one commit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import orjson
from pymysql.connections import Connection

from cdc.state import State
from schema.errors import LeaseLost
from schema.logs import get_logger
from schema.versions import pack

log = get_logger(__name__)

_RECORD = "INSERT INTO sync_epochs (epoch, fork, reason, is_past_lost) VALUES (%s, %s, %s, %s)"
_MOVE = "UPDATE sync_state SET epoch = %s, head = %s WHERE id = 1 AND fencing_token = %s"
_AUDIT = "INSERT INTO sync_audit (actor, action, details) VALUES (%s, %s, %s)"


@dataclass(frozen=True, slots=True)
class NewEpoch:
    """`fork`: the last version of the older past that is still true. `is_past_lost`: devices may have been given more than that.

    `epoch` is above every one in which a version was ever given, also those that a restored backup no longer knows of.
    """

    epoch: int
    fork: int
    reason: str
    is_past_lost: bool


def begin_epoch(connection: Connection[Any], state: State, new: NewEpoch, actor: str, details: Mapping[str, Any]) -> State:
    """Raise the epoch inside the caller's transaction and return the state from there on. The chain of hashes goes on.

    Rows above the head must have been trimmed before: the new head is above them. Raises LeaseLost.
    """
    head = pack(new.epoch, 0)
    with connection.cursor() as cursor:
        cursor.execute(_RECORD, (new.epoch, new.fork, new.reason, new.is_past_lost))
        if cursor.execute(_MOVE, (new.epoch, head, state.fencing_token)) != 1:
            raise LeaseLost("lease_lost", "another tailer has taken over", hint="this one wrote nothing and steps down")
    audit(connection, actor, "epoch_begun", {**asdict(new), "head_before": state.head, **details})
    return replace(state, epoch=new.epoch, head=head)


def audit(connection: Connection[Any], actor: str, action: str, details: Mapping[str, Any]) -> None:
    """Append a decision to sync_audit, in the caller's transaction."""
    with connection.cursor() as cursor:
        cursor.execute(_AUDIT, (actor, action, orjson.dumps(details).decode()))
