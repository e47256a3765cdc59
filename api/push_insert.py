"""INSERTs: a new row, the row an earlier try made, or a row that was there already.

Rows of one table that come one after the other go into MySQL in one statement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from api.cleaning import Cleaned
from api.db import DataRefused, DuplicateKey, ForeignKeyFailed
from api.exactness import is_as_sent, is_exact
from api.push_context import PushContext, check_permission, check_rules, cleaned_data, defaults_of, translated, was_ever_here
from api.push_earlier import is_first_sent, without_writer
from api.push_edit import edit_row
from api.push_request import PushedChange
from api.push_rows import Row
from api.verdicts import Refused, Status, Verdict, refusal
from api.writes import insert_row, insert_rows
from schema.tables import Table


@dataclass(frozen=True, slots=True)
class NewRow:
    """An INSERT that may be written."""

    change: PushedChange
    cleaned: Cleaned


@dataclass(frozen=True, slots=True)
class Prepared:
    """INSERTs into one table, none of which refers to another: the rows to be made, and the verdicts of those that make none."""

    table: Table
    verdicts: list[Verdict]
    new: list[NewRow]


async def insert_records(context: PushContext, table: Table, changes: Sequence[PushedChange]) -> list[Verdict]:
    """Return the verdicts of INSERTs into one table, none of which refers to another, in their order."""
    prepared = await prepare_inserts(context, table, changes)
    verdicts = [*prepared.verdicts, *await _write(context, table, prepared.new)]
    return sorted(verdicts, key=lambda verdict: verdict.change.seq) if len(verdicts) > 1 else verdicts


async def prepare_inserts(context: PushContext, table: Table, changes: Sequence[PushedChange]) -> Prepared:
    """Decide INSERTs into one table, but write no new row yet."""
    prepared = Prepared(table, [], [])
    for change in changes:
        try:
            outcome = await _prepare(context, table, change)
        except Refused as refused:
            outcome = refusal(change, refused)
        if isinstance(outcome, NewRow):
            prepared.new.append(outcome)
        else:
            prepared.verdicts.append(outcome)
    return prepared


def hold_inserts(context: PushContext, prepared: Sequence[Prepared]) -> list[Verdict]:
    """Hold new rows of several tables back, none of which refers to another; return the verdicts of all INSERTs, with what stands
    for the new ids.
    """
    verdicts = [verdict for one in prepared for verdict in one.verdicts]
    for one in prepared:
        if one.new:
            ids = context.writes.insert(one.table, [row.cleaned.values for row in one.new])
            verdicts += _made(context, one.table, one.new, ids)
    return verdicts


async def _prepare(context: PushContext, table: Table, change: PushedChange) -> Verdict | NewRow:
    """Return the verdict of an INSERT that makes no row, or the row it is to make. Raises Refused."""
    assert change.local_id is not None
    known = context.rows.references.records.get((table.name, change.local_id))
    if known is not None:
        return await _insert_again(context, table, change, known)
    if context.rows.get(table, change.record_id) is not None:
        assert change.record_id is not None
        return await _insert_of_existing(context, table, change, change.record_id)
    if change.record_id is not None and was_ever_here(context, table, change.record_id):
        return Verdict(change, Status.DUPLICATE, record_id=change.record_id, values=change.data, is_told=True)
    cleaned = cleaned_data(context, table, change, is_insert=True)
    await check_permission(context, table, None, cleaned.values)
    await check_rules(context, table, None, {**defaults_of(table), **cleaned.values})
    return NewRow(change, cleaned)


async def _write(context: PushContext, table: Table, new: Sequence[NewRow]) -> list[Verdict]:
    """Write all at once; where one of them is refused the statement had no effect, and they are written one by one."""
    if not new:
        return []
    try:
        if len(new) > 1:
            ids = await insert_rows(context.session, table, context.scope.company_id, [row.cleaned.values for row in new])
        else:
            ids = [await insert_row(context.session, table, context.scope.company_id, new[0].cleaned.values)]
    except (DuplicateKey, ForeignKeyFailed, DataRefused) as problem:
        if len(new) > 1:
            return [verdict for row in new for verdict in await _write(context, table, [row])]
        return [refusal(new[0].change, await translated(context, table, new[0].cleaned.values, problem))]
    return _made(context, table, new, ids)


def _made(context: PushContext, table: Table, new: Sequence[NewRow], ids: Sequence[int]) -> list[Verdict]:
    """Take over rows that were just made, and return their verdicts."""
    verdicts = []
    for made, record_id in zip(new, ids, strict=True):
        assert made.change.local_id is not None
        key = (table.name, made.change.local_id)
        row: Row = {"id": record_id, "deleted_at": None, **defaults_of(table), **made.cleaned.values}
        context.rows.put(table, record_id, row, made.cleaned.values, made_as=key)
        verdict = Verdict(
            made.change,
            Status.APPLIED,
            record_id=record_id,
            ignored=tuple(made.cleaned.ignored),
            values=made.cleaned.values,
            is_told=not is_as_sent(table, row, made.change, made.cleaned),
            is_change=True,
            is_exact=is_exact(table, row, made.change, made.cleaned),
            is_maker=True,
        )
        verdicts.append(verdict)
    return verdicts


async def _insert_again(context: PushContext, table: Table, change: PushedChange, record_id: int) -> Verdict:
    """The same INSERT again has no second effect; with newer data it is an UPDATE against what was inserted."""
    row = context.rows.get(table, record_id)
    if row is None or row["deleted_at"] is not None:
        return Verdict(change, Status.DUPLICATE, record_id=record_id, values=change.data, is_told=True)
    cleaned = cleaned_data(context, table, change, is_insert=True, record_id=record_id)
    sent = without_writer(cleaned.values)
    if is_first_sent(context, table, record_id, sent):
        is_told = not is_as_sent(table, row, change, cleaned)
        return Verdict(change, Status.DUPLICATE, record_id=record_id, ignored=tuple(cleaned.ignored), values=sent, is_told=is_told)
    verdict = await edit_row(context, table, change, record_id, cleaned)
    return replace(verdict, status=Status.DUPLICATE) if verdict.status is Status.NOOP else verdict


async def _insert_of_existing(context: PushContext, table: Table, change: PushedChange, record_id: int) -> Verdict:
    """An INSERT with the `record_id` of a row never creates; without a base version what differs keeps the server's."""
    row = context.rows.get(table, record_id)
    assert row is not None and change.local_id is not None
    key = (table.name, change.local_id)
    context.rows.put(table, record_id, row, {}, made_as=key)
    if row["deleted_at"] is not None or change.base_version is None:
        return Verdict(change, Status.DUPLICATE, record_id=record_id, values=change.data, is_told=True)
    return await edit_row(
        context, table, change, record_id, cleaned_data(context, table, change, is_insert=False, record_id=record_id)
    )
