"""Whether a row is what a device sent: every column of it (exact), or every column that was sent (as sent). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api.cleaning import Cleaned
from api.push_request import PushedChange
from api.scope import Scope
from schema.columns import Access, Column
from schema.tables import RESERVED, TABLES, WRITER_COLUMN, Table
from schema.values import is_same

_COMPARED = {
    (table.name, sees_restricted): {
        name: column
        for name, column in table.writable.items()
        if name != WRITER_COLUMN and (column.access is Access.PUBLIC or sees_restricted)
    }
    for table in TABLES.values()
    for sees_restricted in (False, True)
}


def compared_columns(table: Table, scope: Scope) -> Mapping[str, Column]:
    """The columns in which edits count: those this device can see and change."""
    return _COMPARED[table.name, scope.may_see_restricted]


def is_equal(table: Table, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one.keys() == other.keys() and all(is_same(table.by_name[name], value, other[name]) for name, value in one.items())


def is_as_sent(table: Table, row: Mapping[str, Any], change: PushedChange, cleaned: Cleaned) -> bool:
    """Whether every column that was sent stands in the row as it was sent."""
    return all(_is_kept(table, row, cleaned, name, value) for name, value in change.data.items() if name in table.writable)


def is_exact(table: Table, row: Mapping[str, Any], change: PushedChange, cleaned: Cleaned) -> bool:
    """Whether every public column equals what was sent, absent = NULL (contract §1.3)."""
    return all(
        is_same(column, row.get(column.name), _sent(change, cleaned, column.name))
        for column in table.public
        if column.name not in RESERVED
    )


def _sent(change: PushedChange, cleaned: Cleaned, name: str) -> Any:
    value = change.data.get(name)
    return None if value is None else cleaned.values.get(name) if name != WRITER_COLUMN else value


def _is_kept(table: Table, row: Mapping[str, Any], cleaned: Cleaned, name: str, value: Any) -> bool:
    """A null that became a default was not kept, and neither was somebody else as the writer."""
    if name == WRITER_COLUMN:
        return bool(row.get(name) == value)
    if name not in cleaned.values or (value is None and cleaned.values[name] is not None):
        return False
    return is_same(table.by_name[name], cleaned.values[name], row.get(name))
