"""What all changes of one push share, and the checks each of them goes through on its way to a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from api.bookkeeping import Bookkeeping
from api.cleaning import Cleaned, clean
from api.db import DuplicateKey, ForeignKeyFailed, Session
from api.deliveries import Deliveries
from api.duplicates import duplicate_refusal
from api.identity import Install
from api.past import Forks
from api.push_past import PushPast
from api.push_request import PushedChange
from api.push_rows import PushRows, Row, target_id
from api.push_writes import PushWrites
from api.references import Unresolved
from api.scope import Scope
from api.verdicts import Refused, refused_by
from schema.tables import TABLES, Table


@dataclass(frozen=True, slots=True)
class PushContext:
    """What all changes of one push share. `changes` are in the order sent; `deliveries` are those before this push, and `windows`
    their `base_cursors` by table.
    """

    session: Session
    scope: Scope
    install: Install
    changes: tuple[PushedChange, ...]
    origin_id: int
    deliveries: Deliveries
    windows: Mapping[str, tuple[int, ...]]
    last_version: int | None
    forks: Forks
    rows: PushRows
    past: PushPast
    edited_at_us: Mapping[int, int]
    books: Bookkeeping
    writes: PushWrites


def cleaned_data(
    context: PushContext, table: Table, change: PushedChange, *, is_insert: bool, record_id: int | None = None
) -> Cleaned:
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


async def check_permission(context: PushContext, table: Table, row: Row | None, values: Mapping[str, Any]) -> None:
    """Raises Refused `forbidden` where this user may not write the row."""
    heads = await context.rows.heads(table, row, values)
    if not context.scope.may_write_row(table.name, row, values, heads):
        raise Refused("forbidden", f"this user may not write this row of {table.name}")


async def check_rules(context: PushContext, table: Table, before: Row | None, after: Row | None) -> None:
    """Raises Refused where an accounting rule is against it (`schema.rules`)."""
    breach = await context.books.check_change(table, before, after)
    if breach is not None:
        raise refused_by(breach)


def was_ever_here(context: PushContext, table: Table, record_id: int) -> bool:
    """Whether the company once had a row that is gone now: removed by plain SQL, it stands in the change log as deleted."""
    return context.past.of(table.name, record_id).newest is not None


def existing_id(context: PushContext, change: PushedChange) -> int | None:
    """Return the record of a change that was refused before its row was looked at, where there is one, or once was, that this user
    may read or this device made.
    """
    table = TABLES.get(change.table)
    if table is None:
        return None
    record_id = target_id(change, context.rows.references.records)
    if change.operation == "INSERT":
        if record_id is not None:
            return record_id
        record_id = change.record_id
    if record_id is None or table.name not in context.scope.readable:
        return None
    is_known = context.rows.get(table, record_id) is not None or was_ever_here(context, table, record_id)
    return record_id if is_known else None


def defaults_of(table: Table) -> Row:
    """Return what a new row holds where nothing was sent."""
    return {column.name: column.default for column in table.own}


async def translated(context: PushContext, table: Table, values: Mapping[str, Any], problem: Exception) -> Refused:
    """What MySQL's refusal of one statement means to a client; the statement had no effect."""
    if isinstance(problem, DuplicateKey):
        return await duplicate_refusal(context.session, table, context.scope.company_id, values)
    if isinstance(problem, ForeignKeyFailed):
        return Refused("unresolved_reference", "a reference names no record of this company", is_retryable=True)
    return Refused("bad_value", "a value cannot be stored as it is")
