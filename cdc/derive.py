"""One row of a row event → what devices are told of it: which company's feed, which operation, which data.

Values come from the event alone, never from a later SELECT.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schema.changes import Operation, RecordChange
from schema.errors import Halt
from schema.tables import Table
from schema.values import rfc3339_from_us, wire_json

Row = Mapping[str, Any]
"""Column name → MySQL value as `cdc.decode` gives it."""


def derive_changes(table: Table, before: Row | None, after: Row | None, commit_time_us: int) -> list[RecordChange]:
    """Return the changes one row image pair makes: one, or two where the row moved to another company or got another id.

    A soft delete and a hard DELETE are both DELETE with `deleted_at` set, a restore is an INSERT (contract §2.4).
    Raises Halt where the event lacks a column that `schema.tables` declares.
    """
    for image in (before, after):
        if image is not None:
            _require_columns(table, image)
    if after is None:
        assert before is not None
        return [_deletion(table, before, commit_time_us)]
    if before is None:
        return [_stored(table, after, None, Operation.INSERT)]
    if _place(table, before) != _place(table, after):
        return [_deletion(table, before, commit_time_us), _stored(table, after, None, Operation.INSERT)]
    was_deleted = before["deleted_at"] is not None
    changed = _changed_columns(table, before, after)
    return [_stored(table, after, changed, Operation.INSERT if was_deleted else Operation.UPDATE)]


def _stored(table: Table, after: Row, before: str | None, operation: Operation) -> RecordChange:
    is_deleted = after["deleted_at"] is not None
    return _change(table, after, Operation.DELETE if is_deleted else operation, before)


def _deletion(table: Table, before: Row, commit_time_us: int) -> RecordChange:
    if before["deleted_at"] is not None:
        return _change(table, before, Operation.DELETE, None)
    deleted_at = rfc3339_from_us(commit_time_us).removesuffix("Z")
    return _change(table, {**before, "deleted_at": deleted_at}, Operation.DELETE, '{"deleted_at":null}')


def _change(table: Table, row: Row, operation: Operation, before: str | None) -> RecordChange:
    return RecordChange(
        company_id=row[table.company_column],
        table=table.name,
        record_id=row["id"],
        operation=operation,
        data=wire_json(row, table.public),
        sealed=wire_json(row, table.restricted) if table.restricted else None,
        before=before,
        is_deleted=operation is Operation.DELETE,
    )


def _changed_columns(table: Table, before: Row, after: Row) -> str:
    """JSON of the public columns that changed, with their values before. Restricted ones stay in the older change's `sealed`."""
    return wire_json(before, tuple(c for c in table.public if before[c.name] != after[c.name]))


def _place(table: Table, row: Row) -> tuple[int, int]:
    return row[table.company_column], row["id"]


def _require_columns(table: Table, row: Row) -> None:
    missing = [c.name for c in table.columns if c.name not in row]
    if missing:
        raise Halt(
            "column_missing",
            f"the binlog's rows of {table.name} lack {', '.join(missing)}",
            hint="undo the DROP or RENAME COLUMN, or change schema/tables.py with a migration",
        )
