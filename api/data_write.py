"""What the data endpoints do inside their transaction: origin first, then locks, checks, and one row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from api import logins
from api.bookkeeping import Bookkeeping, books_of
from api.data_read import not_found
from api.db import DuplicateKey, ForeignKeyFailed, Session
from api.origins import open_first_origin
from api.preconditions import check_unchanged
from api.scope import Scope
from api.writes import delete_row, demand_may_write, hold_company, insert_row, lock_rows, open_origin, share_parents, update_row
from schema.changes import OriginKind
from schema.errors import SyncError
from schema.tables import TABLES, Table
from schema.values import is_same


@dataclass(frozen=True, slots=True)
class Writer:
    """One data write: its table, who writes, and the request it belongs to."""

    table: Table
    scope: Scope
    request_id: str

    async def insert(self, session: Session, values: Mapping[str, Any]) -> tuple[int, int]:
        """Insert a row and return (origin id, record id). Raises SyncError 403, 409, 422."""
        origin_id, books = await self._begin(session)
        await self._check_references(session, values)
        await demand_may_write(session, self.scope, self.table, None, values)
        new = {**{column.name: column.default for column in self.table.own}, **values}
        await books.demand(self.table, None, new)
        try:
            record_id = await insert_row(session, self.table, self.scope.company_id, values)
        except (DuplicateKey, ForeignKeyFailed) as problem:
            raise _refused(problem) from problem
        await books.demand_balance(self.table, {**new, "id": record_id})
        return origin_id, record_id

    async def update(self, session: Session, record_id: int, values: Mapping[str, Any], if_match: int | None) -> int:
        """Set what differs and return the origin id. Raises SyncError 403, 404, 409, 412, 422."""
        origin_id, books = await self._begin(session)
        row = await self._lock(session, record_id, if_match)
        changed = {name: value for name, value in values.items() if not is_same(self.table.by_name[name], row[name], value)}
        await self._check_references(session, changed)
        await demand_may_write(session, self.scope, self.table, row, changed)
        if changed:
            await books.demand(self.table, row, {**row, **changed})
        try:
            await update_row(session, self.table, self.scope.company_id, record_id, changed)
        except (DuplicateKey, ForeignKeyFailed) as problem:
            raise _refused(problem) from problem
        await books.demand_balance(self.table, row)
        await books.demand_balance(self.table, {**row, **changed})
        return origin_id

    async def delete(self, session: Session, record_id: int, if_match: int | None) -> int:
        """Soft-delete a row and return the origin id. Raises SyncError 403, 404, 412."""
        origin_id, books = await self._begin(session)
        row = await self._lock(session, record_id, if_match)
        await demand_may_write(session, self.scope, self.table, row, {})
        await books.demand(self.table, row, None)
        await delete_row(session, self.table, self.scope.company_id, record_id)
        await books.demand_balance(self.table, row)
        return origin_id

    async def _begin(self, session: Session) -> tuple[int, Bookkeeping]:
        origin_id = await open_origin(session, kind=OriginKind.API, scope=self.scope, request_id=self.request_id)
        # A company that is written itself is locked as the row it is.
        locked_until = None if self.table.is_scope else await hold_company(session, self.scope.company_id)
        return origin_id, books_of(session, self.scope.company_id, locked_until)

    async def _lock(self, session: Session, record_id: int, if_match: int | None) -> dict[str, Any]:
        row = (await lock_rows(session, self.table, self.scope.company_id, [record_id])).get(record_id)
        if row is None or row["deleted_at"] is not None:
            raise not_found()
        if if_match is not None:
            await check_unchanged(session, self.table, self.scope.company_id, row, if_match)
        return row

    async def _check_references(self, session: Session, values: Mapping[str, Any]) -> None:
        """A row of another company is as unknown as one that does not exist."""
        wanted: dict[str, set[int]] = defaultdict(set)
        for column, parent in self.table.references.items():
            if values.get(column) is not None:
                wanted[parent].add(int(values[column]))
        found = {name: await share_parents(session, name, self.scope.company_id, wanted[name]) for name in sorted(wanted)}
        missing = [
            column
            for column, parent in self.table.references.items()
            if values.get(column) is not None and int(values[column]) not in found[parent]
        ]
        if missing:
            raise _unresolved(dict.fromkeys(missing, "refers to no record of this company"))


async def create_company(
    session: Session, values: Mapping[str, Any], *, login_id: int, device_id: str | None, request_id: str
) -> tuple[int, int]:
    """Make a company whose owner is the login, and return (origin id, company id)."""
    origin_id = await open_first_origin(session, login_id=login_id, device_id=device_id, request_id=request_id)
    company_id = await insert_row(session, TABLES["companies"], 0, values)
    await logins.create_owner(session, company_id, login_id)
    return origin_id, company_id


def _refused(problem: DuplicateKey | ForeignKeyFailed) -> SyncError:
    if isinstance(problem, DuplicateKey):
        return SyncError(409, "duplicate_key", "another record has this value already", details={"key": problem.key})
    return _unresolved({})


def _unresolved(details: Mapping[str, str]) -> SyncError:
    return SyncError(422, "unresolved_reference", "a reference has no record", details=details)
