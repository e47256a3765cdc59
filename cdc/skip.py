"""One GTID added to the checkpoint by an operator's decision, recorded in sync_audit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import orjson
from pymysql.connections import Connection

from cdc.gtid import Gtid, GtidSet
from schema.errors import StartError
from schema.leases import tailer_lock

_GET_LOCK = "SELECT GET_LOCK(%s, 0)"
_RELEASE_LOCK = "DO RELEASE_LOCK(%s)"
_READ = "SELECT gtid_set, @@GLOBAL.gtid_executed FROM sync_state WHERE id = 1 FOR UPDATE"
_ADD = "UPDATE sync_state SET gtid_set = %s, fencing_token = fencing_token + 1 WHERE id = 1"
_AUDIT = "INSERT INTO sync_audit (actor, action, details) VALUES (%s, 'checkpoint_skipped', %s)"


@dataclass(frozen=True, slots=True)
class Skipped:
    """The checkpoint before and after; equal where it held the transaction already."""

    before: GtidSet
    after: GtidSet


def skip(connection: Connection[Any], database: str, gtid: Gtid, *, reason: str, actor: str) -> Skipped:
    """Add a transaction to the checkpoint, so that the tailer passes over it; sync_audit says who, why, and both sets.

    It is done under the tailer's lock and with a new fencing token, so that no tailer can write its older set over it.
    Raises StartError: `tailer_running`, `not_executed`, `no_change_log`, `reason_missing`.
    """
    if not re.search(r"\w", reason):
        raise StartError(
            "reason_missing", "a skip needs a reason, which is recorded", hint="--reason 'why its rows may be missing'"
        )
    name = tailer_lock(database)
    with connection.cursor() as cursor:
        cursor.execute(_GET_LOCK, (name,))
        if cursor.fetchone() != (1,):
            raise StartError(
                "tailer_running",
                "a tailer is running: it would not see the skip",
                hint="stop it, or its standby, and run this again",
            )
        try:
            return _add(connection, gtid, reason, actor)
        finally:
            connection.rollback()
            cursor.execute(_RELEASE_LOCK, (name,))


def _add(connection: Connection[Any], gtid: Gtid, reason: str, actor: str) -> Skipped:
    connection.begin()
    with connection.cursor() as cursor:
        cursor.execute(_READ)
        row = cursor.fetchone()
        if row is None:
            raise StartError("no_change_log", "sync_state is empty", hint="run `matrix-sync migrate`")
        before, executed = GtidSet.parse(row[0]), GtidSet.parse(row[1])
        if gtid not in executed:
            raise StartError("not_executed", f"the server never executed {gtid}", hint="SELECT @@GLOBAL.gtid_executed")
        after = before.add(gtid)
        if after != before:
            details = {"gtid": str(gtid), "reason": reason, "before": str(before), "after": str(after)}
            cursor.execute(_ADD, (str(after),))
            cursor.execute(_AUDIT, (actor, orjson.dumps(details).decode()))
    connection.commit()
    return Skipped(before, after)
