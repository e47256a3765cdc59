"""Applies one pushed change to its row and says what became of it (contract §3).

Here a change meets the row as it is, under lock: identity, base, policy, permission. What stands or falls together is
`api.push_plan`'s and `api.push`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from api.base_image import Base, Record, find_base
from api.bookkeeping import Bookkeeping
from api.cleaning import Cleaned, clean
from api.db import DataRefused, DuplicateKey, ForeignKeyFailed, Session
from api.deliveries import Deliveries
from api.duplicates import duplicate_refusal
from api.exactness import compared_columns, is_as_sent, is_equal, is_exact
from api.identity import LOCAL_ID_CHARACTERS_MAX, Install, RecordIdentity, store_identity
from api.latest import is_latest
from api.merge import Edits, Outcome, compare, resolve
from api.push_plan import LocalKey
from api.push_request import PushedChange
from api.push_rows import PushRows, Row, target_id
from api.references import Unresolved
from api.scope import Scope
from api.verdicts import Refused, Status, Verdict, refusal
from api.writes import delete_row, insert_row, update_row
from schema.changes import Operation
from schema.tables import TABLES, WRITER_COLUMN, Policy, Table
from schema.values import is_same, us_from_rfc3339

_READ_MERGED = """
SELECT 1 FROM sync_pushed
WHERE company_id = %s AND table_name = %s AND record_id = %s AND device_id = %s AND status = 'merged' AND fingerprint = %s LIMIT 1
"""
_FIRST_SENT = """
SELECT payload FROM sync_pushed
WHERE company_id = %s AND table_name = %s AND record_id = %s AND device_id = %s AND is_maker = 1 ORDER BY id LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class PushContext:
    """What all changes of one push share. `deliveries` are those before this push."""

    session: Session
    scope: Scope
    install: Install
    origin_id: int
    deliveries: Deliveries
    last_version: int | None
    identities: Mapping[LocalKey, RecordIdentity]
    rows: PushRows
    edited_at_us: Mapping[int, int]
    books: Bookkeeping


async def apply_change(context: PushContext, change: PushedChange) -> Verdict:
    """Return the verdict of one change, written where it says so. Raises what undoes the whole push: lost connection, deadlock."""
    record_id: int | None = None
    try:
        table = _check(context.scope, change)
        if change.operation == Operation.INSERT:
            return await _insert(context, table, change)
        record_id = target_id(change, context.rows.references.records)
        if context.rows.get(table, record_id) is None:
            return await _of_missing(context, table, change, record_id)
        assert record_id is not None
        if change.operation == Operation.UPDATE:
            return await _update(context, table, change, record_id)
        return await _delete(context, table, change, record_id)
    except Refused as refused:
        return refusal(change, refused, record_id=record_id)


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


async def _insert(context: PushContext, table: Table, change: PushedChange) -> Verdict:
    assert change.local_id is not None
    key = (table.name, change.local_id)
    known = context.rows.references.records.get(key)
    if known is not None:
        return await _insert_again(context, table, change, known)
    if context.rows.get(table, change.record_id) is not None:
        assert change.record_id is not None
        return await _insert_of_existing(context, table, change, change.record_id)
    cleaned = _cleaned(context, table, change, is_insert=True)
    await _check_permission(context, table, None, cleaned.values)
    await _check_rules(context, table, None, {**_defaults(table), **cleaned.values})
    try:
        record_id = await insert_row(context.session, table, context.scope.company_id, cleaned.values)
    except (DuplicateKey, ForeignKeyFailed, DataRefused) as problem:
        raise await _translated(context, table, cleaned.values, problem) from problem
    await store_identity(context.session, context.install, key, RecordIdentity(record_id, context.origin_id))
    row: Row = {"id": record_id, "deleted_at": None, **_defaults(table), **cleaned.values}
    context.rows.put(table, record_id, row, cleaned.values, made_as=key)
    return Verdict(
        change,
        Status.APPLIED,
        record_id=record_id,
        ignored=tuple(cleaned.ignored),
        values=cleaned.values,
        is_told=not is_as_sent(table, row, change, cleaned),
        is_change=True,
        is_exact=is_exact(table, row, change, cleaned),
        is_maker=True,
    )


async def _insert_again(context: PushContext, table: Table, change: PushedChange, record_id: int) -> Verdict:
    """The same INSERT again has no second effect; with newer data it is an UPDATE against what was inserted."""
    row = context.rows.get(table, record_id)
    if row is None or row["deleted_at"] is not None:
        return Verdict(change, Status.DUPLICATE, record_id=record_id, values=change.data, is_told=True)
    cleaned = _cleaned(context, table, change, is_insert=True, record_id=record_id)
    first = await _first_sent(context, table, record_id)
    sent = {name: value for name, value in cleaned.values.items() if name != WRITER_COLUMN}
    if first is not None and is_equal(table, first, sent):
        is_told = not is_as_sent(table, row, change, cleaned)
        return Verdict(change, Status.DUPLICATE, record_id=record_id, ignored=tuple(cleaned.ignored), values=sent, is_told=is_told)
    verdict = await _edit(context, table, change, record_id, cleaned)
    return replace(verdict, status=Status.DUPLICATE) if verdict.status is Status.NOOP else verdict


async def _insert_of_existing(context: PushContext, table: Table, change: PushedChange, record_id: int) -> Verdict:
    """An INSERT with the `record_id` of a row never creates; without a base version what differs keeps the server's."""
    row = context.rows.get(table, record_id)
    assert row is not None and change.local_id is not None
    key = (table.name, change.local_id)
    await store_identity(context.session, context.install, key, RecordIdentity(record_id, context.origin_id))
    context.rows.put(table, record_id, row, {}, made_as=key)
    if row["deleted_at"] is not None or change.base_version is None:
        return Verdict(change, Status.DUPLICATE, record_id=record_id, values=change.data, is_told=True)
    return await _edit(context, table, change, record_id, _cleaned(context, table, change, is_insert=False, record_id=record_id))


async def _of_missing(context: PushContext, table: Table, change: PushedChange, record_id: int | None) -> Verdict:
    """The row is not there. One that a local id stood for was removed by plain SQL; anything else was never known here."""
    was_known = change.local_id is not None and (table.name, change.local_id) in context.rows.references.records
    if change.operation == Operation.DELETE:
        return Verdict(change, Status.NOOP, record_id=record_id if was_known else None, values=change.data)
    if was_known:
        raise Refused("deleted", "the record was deleted", record_id=record_id)
    if change.local_id is not None and (table.name, change.local_id) in context.rows.references.inserted:
        raise Refused("not_found", "the INSERT of this record was refused", is_retryable=True)
    raise Refused("not_found", "no such record in this company")


async def _update(context: PushContext, table: Table, change: PushedChange, record_id: int) -> Verdict:
    row = context.rows.get(table, record_id)
    assert row is not None
    if row["deleted_at"] is not None:
        raise Refused("deleted", "the record was deleted meanwhile")
    return await _edit(context, table, change, record_id, _cleaned(context, table, change, is_insert=False, record_id=record_id))


async def _delete(context: PushContext, table: Table, change: PushedChange, record_id: int) -> Verdict:
    row = context.rows.get(table, record_id)
    assert row is not None
    if row["deleted_at"] is not None:
        return Verdict(change, Status.NOOP, record_id=record_id, values=change.data)
    await _check_permission(context, table, row, {})
    columns = compared_columns(table, context.scope)
    sent = {n: v for n, v in clean(table, context.scope, change.data, is_insert=False).values.items() if n in columns}
    base = (await _base(context, table, change, record_id, sent)).row
    if base is None or compare(columns, base, row, {}).is_changed_by_others:
        return replace(_conflict(change, record_id, "changed", "others changed the record since"), values=sent, base=base)
    await _check_rules(context, table, row, None)
    await delete_row(context.session, table, context.scope.company_id, record_id)
    context.rows.put(table, record_id, {**row, "deleted_at": ""}, sent)
    cleaned = Cleaned(values=sent)
    return Verdict(
        change,
        Status.APPLIED,
        record_id=record_id,
        values=sent,
        is_change=True,
        is_exact=is_exact(table, row, change, cleaned),
    )


async def _edit(context: PushContext, table: Table, change: PushedChange, record_id: int, cleaned: Cleaned) -> Verdict:
    """Decide an edit of a live row by base and policy, and write what of it takes effect."""
    row = context.rows.get(table, record_id)
    assert row is not None
    columns = compared_columns(table, context.scope)
    sent = {name: value for name, value in cleaned.values.items() if name in columns}
    base = await _base(context, table, change, record_id, sent)
    edits = compare(columns, base.row, row, sent)
    resolution = resolve(table.policy, edits, is_later=await _is_later(context, table, change, record_id, base, edits))
    if resolution.outcome is Outcome.REFUSED:
        conflict = _conflict(change, record_id, "changed", "others changed the record since")
        return replace(conflict, values=sent, base=base.row, fields=resolution.fields, ignored=tuple(cleaned.ignored))
    if resolution.outcome is not Outcome.NOTHING:
        await _check_permission(context, table, row, resolution.values)
        await _check_rules(context, table, row, {**row, **resolution.values})
        try:
            await update_row(context.session, table, context.scope.company_id, record_id, resolution.values)
        except (DuplicateKey, ForeignKeyFailed, DataRefused) as problem:
            raise await _translated(context, table, {**row, **resolution.values}, problem) from problem
        context.rows.put(table, record_id, {**row, **resolution.values}, sent)
    after = {**row, **resolution.values}
    is_change = any(not is_same(columns[name], value, row.get(name)) for name, value in resolution.values.items())
    status = {Outcome.APPLIED: Status.APPLIED, Outcome.MERGED: Status.MERGED, Outcome.NOTHING: Status.NOOP}[resolution.outcome]
    if status is Status.NOOP and await _was_merged(context, table, change, record_id):
        status = Status.MERGED
    return Verdict(
        change,
        status,
        record_id=record_id,
        ignored=tuple(cleaned.ignored),
        fields=resolution.fields,
        values=sent,
        base=base.row,
        is_told=not is_as_sent(table, after, change, cleaned),
        is_change=is_change,
        is_exact=is_change and is_exact(table, after, change, cleaned),
    )


async def _base(context: PushContext, table: Table, change: PushedChange, record_id: int, sent: Row) -> Base:
    row = context.rows.get(table, record_id)
    assert row is not None
    record = _record(context, table, record_id)
    cursors: int | tuple[int, ...]
    if change.base_version is not None:
        cursors = change.base_version
    else:
        cursors = context.deliveries.base_cursors(table.name, context.last_version)
    said = context.rows.said(table, record_id)
    return await find_base(context.session, record, compared_columns(table, context.scope), row, sent, cursors, said)


async def _is_later(context: PushContext, table: Table, change: PushedChange, record_id: int, base: Base, edits: Edits) -> bool:
    """Under `latest`, whether this edit was made after all that others did since its base; not asked where nobody did anything."""
    row = context.rows.get(table, record_id)
    if table.policy is not Policy.LATEST or not edits.is_changed_by_others or row is None:
        return False
    edit = (context.edited_at_us[change.seq], context.install.device_id, change.local_id or "")
    return await is_latest(context.session, _record(context, table, record_id), base.version, row, edit)


def _record(context: PushContext, table: Table, record_id: int) -> Record:
    return Record(context.scope.company_id, table, record_id, context.install.device_id)


def _cleaned(context: PushContext, table: Table, change: PushedChange, *, is_insert: bool, record_id: int | None = None) -> Cleaned:
    """Resolve references, then convert by column. Raises Refused: `unresolved_reference`, `bad_value`."""
    try:
        data = context.rows.references.resolve(table, change.data)
    except Unresolved as unresolved:
        column = unresolved.column
        message = f"{column} names no record of this company"
        raise Refused("unresolved_reference", message, record_id=record_id, is_retryable=True, details={"column": column}) from None
    cleaned = clean(table, context.scope, data, is_insert=is_insert)
    if cleaned.problems:
        column, reason = next(iter(cleaned.problems.items()))
        raise Refused(
            "bad_value", f"{column}: {reason}", record_id=record_id, details={"column": column, "problems": cleaned.problems}
        )
    return cleaned


async def _check_permission(context: PushContext, table: Table, row: Row | None, values: Mapping[str, Any]) -> None:
    heads = await context.rows.heads(table, row, values)
    if not context.scope.may_write_row(table.name, row, values, heads):
        raise Refused("forbidden", f"this user may not write this row of {table.name}")


async def _check_rules(context: PushContext, table: Table, before: Row | None, after: Row | None) -> None:
    """Raises Refused where an accounting rule is against it (`schema.rules`)."""
    breach = await context.books.check_change(table, before, after)
    if breach is not None:
        raise Refused(breach.code, breach.message, is_retryable=breach.is_retryable, details=breach.details)


def _defaults(table: Table) -> Row:
    return {column.name: column.default for column in table.own}


async def _translated(context: PushContext, table: Table, values: Mapping[str, Any], problem: Exception) -> Refused:
    """What MySQL's refusal of one statement means to a client; the statement had no effect."""
    if isinstance(problem, DuplicateKey):
        return await duplicate_refusal(context.session, table, context.scope.company_id, values)
    if isinstance(problem, ForeignKeyFailed):
        return Refused("unresolved_reference", "a reference names no record of this company", is_retryable=True)
    return Refused("bad_value", "a value cannot be stored as it is")


async def _was_merged(context: PushContext, table: Table, change: PushedChange, record_id: int) -> bool:
    """Whether this very change was sent before and merged: a retry gets the same verdict."""
    params = (context.scope.company_id, table.name, record_id, context.install.device_id, change.fingerprint())
    return await context.session.fetch_one(_READ_MERGED, params) is not None


async def _first_sent(context: PushContext, table: Table, record_id: int) -> dict[str, Any] | None:
    """What this device sent when it made the record: in this very push, or in an earlier one."""
    values: dict[str, Any] | None = context.rows.first_said(table, record_id)
    if values is None:
        params = (context.scope.company_id, table.name, record_id, context.install.device_id)
        row = await context.session.fetch_one(_FIRST_SENT, params)
        values = orjson.loads(row[0]) if row else None
    return {name: value for name, value in values.items() if name != WRITER_COLUMN} if values is not None else None


def _conflict(change: PushedChange, record_id: int, code: str, message: str) -> Verdict:
    return Verdict(change, Status.CONFLICT, record_id=record_id, code=code, message=message, is_told=True)
