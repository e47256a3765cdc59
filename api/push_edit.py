"""Edits and deletions: a change meets the row as it is, under lock; base and policy decide what of it takes effect."""

from __future__ import annotations

from msgspec.structs import replace

from api.base_image import Base, find_base
from api.cleaning import Cleaned, clean
from api.db import DataRefused, DuplicateKey, ForeignKeyFailed
from api.exactness import compared_columns, is_as_sent, is_exact
from api.latest import Record, is_latest
from api.merge import Edits, Outcome, Resolution, compare, resolve
from api.push_context import PushContext, check_permission, check_rules, cleaned_data, translated
from api.push_earlier import Earlier, read_earlier
from api.push_request import PushedChange
from api.push_rows import Row
from api.verdicts import Refused, Status, Verdict
from schema.tables import Policy, Table
from schema.values import is_same


async def update_record(context: PushContext, table: Table, change: PushedChange, record_id: int) -> Verdict:
    """UPDATE of a row that exists. Raises Refused."""
    row = context.rows.get(table, record_id)
    assert row is not None
    if row["deleted_at"] is not None:
        raise Refused("deleted", "the record was deleted meanwhile")
    return await edit_row(
        context, table, change, record_id, cleaned_data(context, table, change, is_insert=False, record_id=record_id)
    )


async def delete_record(context: PushContext, table: Table, change: PushedChange, record_id: int) -> Verdict:
    """DELETE of a row that exists: refused, whatever the policy, where others changed it since the base. Raises Refused."""
    row = context.rows.get(table, record_id)
    assert row is not None
    if row["deleted_at"] is not None:
        return Verdict(change, Status.NOOP, record_id=record_id, values=change.data)
    columns = compared_columns(table, context.scope)
    sent = {n: v for n, v in clean(table, context.scope, change.data, is_insert=False).values.items() if n in columns}
    base = (await _base(context, table, change, record_id, sent)).row
    earlier = read_earlier(context, table, change, record_id)
    if earlier in (Earlier.APPLIED, Earlier.MERGED):
        return Verdict(change, Status.NOOP, record_id=record_id, values=sent, base=base, is_told=True)
    await check_permission(context, table, row, {})
    if earlier is Earlier.REFUSED or base is None or compare(columns, base, row, {}).is_changed_by_others:
        return replace(_conflict(change, record_id, "changed", "others changed the record since"), values=sent, base=base)
    await check_rules(context, table, row, None)
    await context.writes.delete(table, record_id)
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


async def edit_row(context: PushContext, table: Table, change: PushedChange, record_id: int, cleaned: Cleaned) -> Verdict:
    """Decide an edit of a live row by base and policy, and write what of it takes effect."""
    row = context.rows.get(table, record_id)
    assert row is not None
    columns = compared_columns(table, context.scope)
    sent = {name: value for name, value in cleaned.values.items() if name in columns}
    base = await _base(context, table, change, record_id, sent)
    edits = compare(columns, base.row, row, sent)
    resolution = resolve(table.policy, edits, is_later=await _is_later(context, table, change, record_id, base, edits))
    earlier = read_earlier(context, table, change, record_id)
    if earlier is Earlier.REFUSED and edits.device:
        resolution = Resolution(Outcome.REFUSED, {}, resolution.fields)
    elif earlier in (Earlier.APPLIED, Earlier.MERGED):
        resolution = Resolution(Outcome.NOTHING, {}, resolution.fields)
    if resolution.outcome is Outcome.REFUSED:
        conflict = _conflict(change, record_id, "changed", "others changed the record since")
        return replace(conflict, values=sent, base=base.row, fields=resolution.fields, ignored=tuple(cleaned.ignored))
    if resolution.outcome is not Outcome.NOTHING:
        await check_permission(context, table, row, resolution.values)
        await check_rules(context, table, row, {**row, **resolution.values})
        try:
            await context.writes.update(table, record_id, resolution.values)
        except (DuplicateKey, ForeignKeyFailed, DataRefused) as problem:
            raise await translated(context, table, {**row, **resolution.values}, problem) from problem
        context.rows.put(table, record_id, {**row, **resolution.values}, sent)
    after = {**row, **resolution.values}
    is_change = any(not is_same(columns[name], value, row.get(name)) for name, value in resolution.values.items())
    status = {Outcome.APPLIED: Status.APPLIED, Outcome.MERGED: Status.MERGED, Outcome.NOTHING: Status.NOOP}[resolution.outcome]
    if status is Status.NOOP and earlier is Earlier.MERGED:
        status = Status.MERGED
    return Verdict(
        change,
        status,
        record_id=record_id,
        ignored=tuple(cleaned.ignored),
        fields=resolution.fields,
        values=sent,
        base=base.row,
        is_told=status is Status.MERGED or not is_as_sent(table, after, change, cleaned),
        is_change=is_change,
        is_exact=is_change and is_exact(table, after, change, cleaned),
    )


async def _base(context: PushContext, table: Table, change: PushedChange, record_id: int, sent: Row) -> Base:
    row = context.rows.get(table, record_id)
    assert row is not None
    cursors: int | tuple[int, ...] = context.windows[table.name] if change.base_version is None else change.base_version
    if await _is_of_lost_past(context, cursors):
        return Base(None, 0)
    said, is_new = context.rows.said(table, record_id), context.rows.first_said(table, record_id) is not None
    past, columns = context.past.of(table.name, record_id), compared_columns(table, context.scope)
    since = context.deliveries.held_since(table.name)
    return find_base(table, past, columns, row, sent, cursors, said, held_since=since, is_new=is_new)


async def _is_of_lost_past(context: PushContext, cursors: int | tuple[int, ...]) -> bool:
    """Whether the device may have edited an image that no longer is part of the past: then nothing is known of its base."""
    named = (cursors,) if isinstance(cursors, int) else cursors
    if context.last_version is not None:
        named = (*named, context.last_version)
    return bool(named) and await context.forks.is_lost(max(named))


async def _is_later(context: PushContext, table: Table, change: PushedChange, record_id: int, base: Base, edits: Edits) -> bool:
    """Under `latest`, whether this edit was made after all that others did since its base; not asked where nobody did anything."""
    row = context.rows.get(table, record_id)
    if table.policy is not Policy.LATEST or not edits.is_changed_by_others or row is None:
        return False
    edit = (context.edited_at_us[change.seq], context.install.device_id, change.local_id or "")
    record = Record(context.scope.company_id, table.name, record_id, context.install.device_id)
    return await is_latest(context.session, record, base.version, row, edit)


def _conflict(change: PushedChange, record_id: int, code: str, message: str) -> Verdict:
    return Verdict(change, Status.CONFLICT, record_id=record_id, code=code, message=message, is_told=True)
