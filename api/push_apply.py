"""Applies pushed changes to their rows and says what became of each (contract §3).

What stands or falls together is `api.push_plan`'s and `api.push`'s; here each change finds its record and its way.
"""

from __future__ import annotations

from collections.abc import Sequence

from api.identity import LOCAL_ID_CHARACTERS_MAX
from api.push_context import PushContext, existing_id, was_ever_here
from api.push_earlier import taken_before
from api.push_edit import delete_record, update_record
from api.push_insert import insert_records
from api.push_request import PushedChange
from api.push_rows import target_id
from api.scope import Scope
from api.verdicts import Refused, Status, Verdict, refusal
from schema.changes import Operation
from schema.tables import TABLES, Table
from schema.values import us_from_rfc3339


async def apply_run(context: PushContext, run: Sequence[PushedChange]) -> list[Verdict]:
    """Return the verdicts of a run (`api.push_plan.split_runs`), in its order.

    Raises what undoes the whole push: a lost connection, a deadlock.
    """
    if len(run) == 1:
        return [await _apply(context, run[0])]
    table: Table | None = None
    verdicts: dict[int, Verdict] = {}
    for change in run:
        try:
            table = _check(context.scope, change)
        except Refused as refused:
            verdicts[change.seq] = _refused(context, change, refused)
    if table is not None:
        for verdict in await insert_records(context, table, [change for change in run if change.seq not in verdicts]):
            verdicts[verdict.change.seq] = verdict
    return [verdicts[change.seq] for change in run]


async def _apply(context: PushContext, change: PushedChange) -> Verdict:
    try:
        table = _check(context.scope, change)
    except Refused as refused:
        return _refused(context, change, refused)
    record_id = None
    try:
        if change.operation == Operation.INSERT:
            return (await insert_records(context, table, [change]))[0]
        target = target_id(change, context.rows.references.records)
        if target is None or context.rows.get(table, target) is None:
            return _of_missing(context, table, change, target)
        record_id = target
        if change.operation == Operation.UPDATE:
            return await update_record(context, table, change, record_id)
        return await delete_record(context, table, change, record_id)
    except Refused as refused:
        return refusal(change, refused, record_id=record_id)


def _refused(context: PushContext, change: PushedChange, refused: Refused) -> Verdict:
    """Refused before its row was looked at: the device is told the row all the same, else it would believe what it sent.

    A retry is not refused for what has become of its user since: it would stand among the refused though it took effect.
    """
    if refused.code == "forbidden":
        verdict = taken_before(context, TABLES[change.table], change)
        if verdict is not None:
            return verdict
    return refusal(change, refused, record_id=existing_id(context, change))


def _check(scope: Scope, change: PushedChange) -> Table:
    table = TABLES.get(change.table)
    if table is None:
        raise Refused("unknown_table", f"no such table: {change.table[:64]}")
    if change.operation not in Operation.__members__:
        raise Refused("bad_operation", "operation must be INSERT, UPDATE or DELETE")
    if change.timestamp is not None:
        try:
            us_from_rfc3339(change.timestamp)
        except ValueError:
            raise Refused("bad_timestamp", "timestamp must be RFC 3339, as 2026-01-31T09:30:00Z") from None
    if change.local_id is not None and len(change.local_id) > LOCAL_ID_CHARACTERS_MAX:
        raise Refused("bad_value", f"local_id is longer than {LOCAL_ID_CHARACTERS_MAX} characters")
    if table.name not in scope.writable or (table.is_scope and change.operation != Operation.UPDATE):
        raise Refused("forbidden", f"this user or device may not {change.operation} {table.name}")
    return table


def _of_missing(context: PushContext, table: Table, change: PushedChange, record_id: int | None) -> Verdict:
    """The row is not there: it was removed by plain SQL, or it was never known here."""
    was_here = record_id is not None and was_ever_here(context, table, record_id)
    if change.operation == Operation.DELETE:
        return Verdict(change, Status.NOOP, record_id=record_id if was_here else None, values=change.data)
    if was_here:
        raise Refused("deleted", "the record was deleted", record_id=record_id)
    if change.local_id is not None and (table.name, change.local_id) in context.rows.references.inserted:
        raise Refused("not_found", "the INSERT of this record was refused", is_retryable=True)
    raise Refused("not_found", "no such record in this company")
