"""How a push changes rows that exist: one by one, or held back until all edits of a table go in one statement."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from api.db import DataRefused, DuplicateKey, ForeignKeyFailed, Session
from api.writes import delete_row, delete_rows, update_row, update_rows
from schema.tables import TABLES, Table


class InTurn(Exception):
    """Something among many changes is refused, or may depend on their order: they are to be undone, and applied in turn."""


class PushWrites:
    """Edits and deletions of rows that the push has locked.

    While they are held back, each record has at most one: the change log has a change for each.
    """

    def __init__(self, session: Session, company_id: int) -> None:
        self._session = session
        self._company_id = company_id
        self._is_held = False
        self._edits: dict[str, dict[int, Mapping[str, Any]]] = defaultdict(dict)
        self._deleted: dict[str, set[int]] = defaultdict(set)

    @property
    def is_held(self) -> bool:
        """Whether many changes are under way at once, of which none may be refused by MySQL."""
        return self._is_held

    def hold(self) -> None:
        """Hold back from here on."""
        self._is_held = True

    def drop(self) -> None:
        """Forget what is held back, and hold back nothing more."""
        self._is_held = False
        self._edits.clear()
        self._deleted.clear()

    async def release(self) -> None:
        """Write what is held back, and hold back nothing more. Raises InTurn where MySQL refuses any of it."""
        await self._write()
        self._is_held = False

    async def update(self, table: Table, record_id: int, values: Mapping[str, Any]) -> None:
        """Set columns. Raises DuplicateKey, ForeignKeyFailed, DataRefused; InTurn where it is held back and order may matter."""
        if not self._is_held:
            await update_row(self._session, table, self._company_id, record_id, values)
            return
        if table.unique is not None and not values.keys().isdisjoint(table.unique.columns):
            raise InTurn
        await self._make_room(table, record_id)
        self._edits[table.name][record_id] = values

    async def delete(self, table: Table, record_id: int) -> None:
        """Soft-delete. Raises InTurn where MySQL refuses what was held back before it."""
        if not self._is_held:
            await delete_row(self._session, table, self._company_id, record_id)
            return
        await self._make_room(table, record_id)
        self._deleted[table.name].add(record_id)

    async def _make_room(self, table: Table, record_id: int) -> None:
        if record_id in self._edits[table.name] or record_id in self._deleted[table.name]:
            await self._write()

    async def _write(self) -> None:
        """Table by table in the order of the declarations, each table's rows by id."""
        edits = [(table, self._edits[name]) for name, table in TABLES.items() if self._edits[name]]
        try:
            await update_rows(self._session, self._company_id, edits)
            for name, table in TABLES.items():
                if self._deleted[name]:
                    await delete_rows(self._session, table, self._company_id, self._deleted[name])
        except (DuplicateKey, ForeignKeyFailed, DataRefused) as problem:
            raise InTurn from problem
        self._edits.clear()
        self._deleted.clear()
