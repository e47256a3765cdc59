"""SELECTs of the data endpoints. Each takes a Scope and answers for its company only."""

from __future__ import annotations

from typing import Any

from api.data_query import Page, visible_columns
from api.db import Session
from api.scope import Scope
from api.writes import wire_row
from schema.errors import SyncError
from schema.tables import Table
from schema.values import mysql_from_wire


def not_found() -> SyncError:
    """Return the 404, the same for a row that does not exist and for one of another company."""
    return SyncError(404, "not_found", "there is no such record")


async def read_page(session: Session, table: Table, scope: Scope, page: Page) -> list[dict[str, Any]]:
    """Return the rows after `page.after` by id, one more than `page.limit` where there are more."""
    columns = visible_columns(table, scope)
    names = ", ".join(f"`{column.name}`" for column in columns)
    wheres = [f"`{table.company_column}` = %s", "id > %s"]
    params: list[Any] = [scope.company_id, page.after]
    if not page.include_deleted:
        wheres.append("deleted_at IS NULL")
    for condition in page.filters:
        wheres.append(f"`{condition.column.name}` <=> %s")
        params.append(mysql_from_wire(condition.column, condition.value))
    sql = f"SELECT {names} FROM `{table.name}` WHERE {' AND '.join(wheres)} ORDER BY id LIMIT %s"
    return [wire_row(columns, row) for row in await session.fetch_all(sql, (*params, page.limit + 1))]


async def read_record(
    session: Session, table: Table, scope: Scope, record_id: int, *, include_deleted: bool = False
) -> tuple[dict[str, Any], int | None]:
    """Return a row and the newest version of it that is in the change log, both of one moment. Raises SyncError 404."""
    columns = visible_columns(table, scope)
    names = ", ".join(f"r.`{column.name}`" for column in columns)
    sql = (
        f"SELECT l.version, {names} FROM `{table.name}` r "
        "LEFT JOIN sync_live l ON l.company_id = %s AND l.table_name = %s AND l.record_id = r.id "
        f"WHERE r.`{table.company_column}` = %s AND r.id = %s"
    )
    found = await session.fetch_one(sql, (scope.company_id, table.name, scope.company_id, record_id))
    if found is None:
        raise not_found()
    row = wire_row(columns, found[1:])
    if row["deleted_at"] is not None and not include_deleted:
        raise not_found()
    return row, found[0]
