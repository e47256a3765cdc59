"""How a push changes rows: one by one, or held back until all of it goes into MySQL in one packet.

What is held back may refer to rows that are held back too. MySQL gives a row its id when it makes it, so until then another number
stands for it (`NewId`), and in SQL a variable that keeps what MySQL gave.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from api.db import DataRefused, DuplicateKey, ForeignKeyFailed, Session, Statement
from api.db_text import Variable
from api.new_ids import NewId
from api.writes import delete_row, deleting_rows, inserting_rows, update_row, updating_rows
from schema.columns import ID_MAX
from schema.tables import TABLES, Table

_RANDOM_BITS = 50
Values = Mapping[str, Any]
"""Wire values by column."""


class InTurn(Exception):
    """Something among many changes is refused, or may depend on their order: they are to be undone, and applied in turn."""


@dataclass(frozen=True, slots=True)
class _Held:
    """A statement: the new rows that it makes, in their order, whose first id goes into `variable`; or how many it must find."""

    statement: Statement
    new: Sequence[NewId] = ()
    variable: str | None = None
    rows: int | None = None


class PushWrites:
    """New rows, and edits and deletions of rows that the push has locked.

    While they are held back, each record has at most one edit or deletion: the change log has a change for each.
    """

    def __init__(self, session: Session, company_id: int) -> None:
        self._session = session
        self._company_id = company_id
        self._is_held = False
        self._new: list[_Held] = []
        self._edits: dict[str, dict[int, Values]] = defaultdict(dict)
        self._deleted: dict[str, set[int]] = defaultdict(set)
        self._next_id = ID_MAX - secrets.randbits(_RANDOM_BITS)
        self._variables: dict[int, tuple[str, int]] = {}
        """Of each new row the name, and how far its id is above it."""
        self._ids: dict[int, int] = {}

    def hold(self) -> None:
        """Hold back from here on."""
        self._is_held = True

    def drop(self) -> None:
        """Forget what is held back, and hold back nothing more."""
        self._is_held = False
        self._new.clear()
        self._edits.clear()
        self._deleted.clear()
        self._ids.clear()

    async def release(self) -> Mapping[int, int]:
        """Write what is held back, and hold back nothing more; return the ids of the new rows. Raises InTurn where MySQL refuses
        any of it.
        """
        await self._write(is_last=True)
        self._is_held = False
        ids, self._ids = self._ids, {}
        return ids

    def insert(self, table: Table, rows: Sequence[Values]) -> Sequence[NewId]:
        """Hold new rows back, with defaults for absent columns; return what stands for their ids."""
        assert self._is_held and self._session.id_step is not None
        variable = f"new_{len(self._variables)}"
        ids = [NewId(self._next_id - number) for number in range(len(rows))]
        self._next_id -= len(rows)
        self._variables |= {new: (variable, number * self._session.id_step) for number, new in enumerate(ids)}
        self._new.append(_Held(inserting_rows(table, self._company_id, rows), ids, variable))
        return ids

    async def update(self, table: Table, record_id: int, values: Values) -> None:
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
            await self._write(is_last=False)

    async def _write(self, *, is_last: bool) -> None:
        """New rows in the order they came, then table by table in the order of the declarations, each table's rows by id."""
        held = [*self._new, *self._held_edits()]
        written = [self._with_variables(one.statement) for one in held]
        used = {value.name for _, params in written for value in params if type(value) is Variable}
        statements: list[Statement] = []
        places: list[int] = []
        for one, statement in zip(held, written, strict=True):
            places.append(len(statements))
            statements.append(statement)
            if one.variable is not None and (one.variable in used or not is_last):
                statements.append((f"SET @{one.variable} = LAST_INSERT_ID()", ()))
        try:
            outcomes = await self._session.run(*statements)
        except (DuplicateKey, ForeignKeyFailed, DataRefused) as problem:
            raise InTurn from problem
        for one, place in zip(held, places, strict=True):
            result = outcomes[place].result
            assert one.rows in (None, result.rows), f"{one.rows} rows were not locked"
            self._ids |= {new: result.last_id + self._variables[new][1] for new in one.new}
        self._new.clear()
        self._edits.clear()
        self._deleted.clear()

    def _held_edits(self) -> Iterable[_Held]:
        for name, table in TABLES.items():
            for ids, statement in updating_rows(table, self._company_id, self._edits.get(name, {})):
                yield _Held(statement, rows=len(ids))
        for name, table in TABLES.items():
            if self._deleted.get(name):
                yield _Held(deleting_rows(table, self._company_id, self._deleted[name]))

    def _with_variables(self, statement: Statement) -> Statement:
        """Put variables in the place of what stands for ids of new rows. Raises InTurn for a number that only looks like it."""
        sql, params = statement
        known = self._variables
        if not known:
            return statement
        return sql, [self._in_sql(v) if type(v) is NewId or (type(v) is int and v in known) else v for v in params]

    def _in_sql(self, value: int) -> Variable:
        if type(value) is not NewId:
            raise InTurn
        return Variable(*self._variables[value])
