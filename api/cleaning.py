"""A client's `data` turned into wire values that may take effect: what is unknown is named, what is wrong is explained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from api.scope import Scope
from schema.columns import Access, Column
from schema.tables import RESERVED, WRITER_COLUMN, Table
from schema.values import BadValue, wire_from_client

IGNORED_MAX = 100
_NAME_CHARACTERS_MAX = 255


class Cleaned(msgspec.Struct, frozen=True):
    """`values` by column, in wire form; `ignored` names that are no column to this role; `problems` by column, for a person."""

    values: dict[str, Any] = msgspec.field(default_factory=dict)
    ignored: list[str] = msgspec.field(default_factory=list)
    problems: dict[str, str] = msgspec.field(default_factory=dict)


def clean(table: Table, scope: Scope, data: Mapping[str, Any], *, is_insert: bool) -> Cleaned:
    """Convert each value by its column. Reserved columns never take effect; private ones, and restricted ones where the role may
    not see them, are as unknown as any other. `created_by_user_id` is the writer's at INSERT and stays (domain.md, rule 5).
    """
    cleaned = Cleaned()
    for name, value in data.items():
        if name in RESERVED or name == WRITER_COLUMN:
            continue
        column = table.writable.get(name)
        if column is None or (column.access is Access.RESTRICTED and not scope.may_see_restricted):
            if len(cleaned.ignored) < IGNORED_MAX:
                cleaned.ignored.append(name[:_NAME_CHARACTERS_MAX])
            continue
        _take(cleaned, column, value)
    if is_insert:
        for column in table.own:
            is_needed = not column.nullable and column.default is None
            if is_needed and column.name not in cleaned.values and column.name not in cleaned.problems:
                cleaned.problems[column.name] = "required"
        if WRITER_COLUMN in table.by_name:
            cleaned.values[WRITER_COLUMN] = scope.user_id
    return cleaned


def _take(cleaned: Cleaned, column: Column, value: Any) -> None:
    if value is None and not column.nullable:
        if column.default is None:
            cleaned.problems[column.name] = "required"
        else:
            cleaned.values[column.name] = column.default
        return
    try:
        cleaned.values[column.name] = wire_from_client(column, value)
    except BadValue as problem:
        cleaned.problems[column.name] = problem.reason
