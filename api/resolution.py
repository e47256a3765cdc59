"""Resolving a conflict writes a normal change with an origin of its own; the first resolution wins, later ones are told it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson

from api.bookkeeping import Bookkeeping, books_of
from api.cleaning import clean
from api.db import Session
from api.push_answer import visible_columns
from api.scope import Scope
from api.writes import delete_row, demand_may_write, hold_company, lock_rows, restore_row, update_row
from schema.errors import SyncError
from schema.tables import TABLES, Table

CONFLICT_COLUMNS = (
    "id, device_id, user_id, table_name, record_id, local_id, operation, type, code, fields, base, client, server, status, "
    "resolution, resolved_by, resolved_at, created_at"
)
_LOCK = f"SELECT {CONFLICT_COLUMNS} FROM sync_conflicts WHERE company_id = %s AND id = %s FOR UPDATE"
_RESOLVE = """
UPDATE sync_conflicts SET status = 'resolved', resolution = %s, resolved_by = %s, resolved_at = CURRENT_TIMESTAMP(6)
WHERE company_id = %s AND id = %s
"""


async def resolve_conflict(
    session: Session,
    scope: Scope,
    conflict_id: int,
    choice: str,
    data: dict[str, Any] | None,
    open_origin: Callable[[Session], Awaitable[int]],
) -> tuple[int | None, dict[str, Any]]:
    """Resolve a conflict of the scope's company inside the caller's transaction: `server`, `client`, or, with `data`, `merged`.

    Returns the origin id (None where it was resolved before) and what the answer says. Raises SyncError 403, 404, 409, 422.
    """
    row = await session.fetch_one(_LOCK, (scope.company_id, conflict_id))
    if row is None or row[3] not in TABLES:
        raise SyncError(404, "not_found", "no such conflict")
    table, record_id = TABLES[row[3]], row[4]
    if row[13] == "resolved":
        current = (await lock_rows(session, table, scope.company_id, [record_id])).get(record_id)
        return None, {"already_resolved": True, **_answer(scope, table, conflict_id, row[14], current)}
    locked_until = await hold_company(session, scope.company_id, is_to_change=table.is_scope)
    origin_id = await open_origin(session)
    current = (await lock_rows(session, table, scope.company_id, [record_id])).get(record_id)
    if choice != "server":
        sent = data if data is not None else orjson.loads(row[11])
        books = books_of(session, scope.company_id, locked_until)
        await _write(books, scope, table, current, sent, is_delete=row[6] == "DELETE" and choice == "client")
    await session.execute(_RESOLVE, (choice, scope.user_id, scope.company_id, conflict_id))
    after = (await lock_rows(session, table, scope.company_id, [record_id])).get(record_id)
    return origin_id, {"already_resolved": False, **_answer(scope, table, conflict_id, choice, after)}


async def _write(
    books: Bookkeeping, scope: Scope, table: Table, row: dict[str, Any] | None, sent: dict[str, Any], *, is_delete: bool
) -> None:
    """Write a decision as any writer would: converted, permitted, by the rules, and restored where it was deleted meanwhile."""
    if row is None:
        raise SyncError(409, "not_applicable", "the row is gone: resolve with server")
    session, record_id = books.session, int(row["id"])
    cleaned = clean(table, scope, sent, is_insert=False)
    if cleaned.problems:
        raise SyncError(422, "bad_value", "a value cannot be stored", details={"columns": cleaned.problems})
    await demand_may_write(session, scope, table, row, cleaned.values)
    after = None if is_delete else {**row, **cleaned.values}
    await books.demand(table, row, after)
    if after is None:
        await delete_row(session, table, scope.company_id, record_id)
    else:
        if row["deleted_at"] is not None:
            await restore_row(session, table, scope.company_id, record_id)
        await update_row(session, table, scope.company_id, record_id, cleaned.values)
    await books.demand_balance(table, row)
    await books.demand_balance(table, after or row)


def _answer(scope: Scope, table: Table, conflict_id: int, choice: str, row: Mapping[str, Any] | None) -> dict[str, Any]:
    data = visible_columns(scope, table.name, row) if row is not None else {}
    is_deleted = row is None or row["deleted_at"] is not None
    return {"conflict_id": conflict_id, "resolution": choice, "server_data": data, "server_deleted": is_deleted}
