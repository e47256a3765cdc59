"""Applies pushed changes to their rows and says what became of each (contract §3).

What stands or falls together is `api.push_plan`'s and `api.push`'s; here each change finds its record and its way.
"""

from __future__ import annotations

from collections.abc import Sequence

from api.identity import LOCAL_ID_CHARACTERS_MAX
from api.push_context import PushContext, existing_id, was_ever_here
from api.push_earlier import taken_before
from api.push_edit import delete_record, update_record
from api.push_insert import Prepared, hold_inserts, insert_records, prepare_inserts
from api.push_request import PushedChange
from api.push_rows import target_id
from api.scope import Scope
from api.verdicts import Refused, Status, Verdict, refusal
from schema.changes import Operation
from schema.tables import TABLES, Table
from schema.values import us_from_rfc3339

_OPERATIONS = frozenset(Operation)


async def apply_wave(context: PushContext, wave: Sequence[Sequence[PushedChange]]) -> list[Verdict]:
    """Return the verdicts of runs of which none bears on another (`api.push_waves`), while writes are held back.

    Raises InTurn where the order may matter, and as `apply_run`.
    """
    verdicts: list[Verdict] = []
    prepared: list[Prepared] = []
    for run in wave:
        if run[0].operation == Operation.INSERT and run[0].table in TABLES:
            refused, taken = _checked(context, run)
            verdicts += refused
            prepared.append(await prepare_inserts(context, TABLES[run[0].table], taken))
        else:
            verdicts += await apply_run(context, run)
    return [*verdicts, *hold_inserts(context, prepared)]


async def apply_run(context: PushContext, run: Sequence[PushedChange]) -> list[Verdict]:
    """Return the verdicts of a run (`api.push_plan.split_runs`), in its order.

    Raises what undoes the whole push: a lost connection, a deadlock.
    """
    if len(run) == 1:
        return [await _apply(context, run[0])]
    refused, taken = _checked(context, run)
    verdicts = [*refused, *(await insert_records(context, TABLES[taken[0].table], taken) if taken else ())]
    return sorted(verdicts, key=lambda verdict: verdict.change.seq)


def _checked(context: PushContext, run: Sequence[PushedChange]) -> tuple[list[Verdict], list[PushedChange]]:
    """The verdicts of changes that are refused as they are, and those to be looked at."""
    verdicts: list[Verdict] = []
    taken: list[PushedChange] = []
    for change in run:
        try:
            _check(context.scope, change)
        except Refused as refused:
            verdicts.append(_refused(context, change, refused))
        else:
            taken.append(change)
    return verdicts, taken


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
    if change.operation not in _OPERATIONS:
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
