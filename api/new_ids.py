"""What stands for the ids of new rows until MySQL has made them (`api.push_writes`), and how the ids take their place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schema.tables import TABLES


class NewId(int):
    """Stands for the id of a row that is held back. High and random: no table gets so far, and no client guesses it."""


_HOLDING = {table.name: ("id", *table.references) for table in TABLES.values()}
"""The columns that may hold one, by table."""


def settle(table: str, values: Mapping[str, Any] | None, ids: Mapping[int, int]) -> None:
    """Put ids in the place of what stands for them, in wire values of a table, which are altered."""
    if values is not None:
        for name in _HOLDING.get(table, ()):
            value = values.get(name)
            if type(value) is NewId:
                values[name] = ids[value]  # type: ignore[index]
