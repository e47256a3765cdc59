"""A lost id is never given to another record (contract §1.2): in a new epoch every synced table's AUTO_INCREMENT is raised first.

InnoDB's counter moves on an INSERT even if it is rolled back, and the redo log keeps it over a crash; no right to ALTER is needed,
and nothing stands in the binlog. So a replica has not seen it: it is done once in each epoch and on each server.
Source: MySQL 9.7 manual, "AUTO_INCREMENT Handling in InnoDB", "InnoDB AUTO_INCREMENT Counter Initialization".
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from aiohttp import web

from api.db import Database, Session
from api.keys import DATABASE
from schema.columns import Column, Kind
from schema.errors import MatrixError
from schema.logs import get_logger
from schema.tables import RESERVED, TABLES, Table
from schema.versions import ID_STEP

log = get_logger(__name__)

IS_RAISED = "(s.epoch = 0 OR EXISTS (SELECT 1 FROM sync_id_floors f WHERE f.epoch = s.epoch AND f.server_uuid = @@server_uuid))"
"""A condition on `sync_state s`."""
_NOTE = """
INSERT IGNORE INTO sync_id_floors (epoch, server_uuid) SELECT epoch, @@server_uuid FROM sync_state WHERE id = 1 AND epoch > 0
"""
AGAIN_SECONDS = 1.0
_EMPTY: dict[Kind, Any] = {
    Kind.INTEGER: 0,
    Kind.DECIMAL: 0,
    Kind.BOOLEAN: 0,
    Kind.TEXT: "",
    Kind.DATE: "2000-01-01",
    Kind.JSON: "null",
}


async def keep_id_floors(app: web.Application) -> AsyncIterator[None]:
    """Raise the counters as soon as a worker starts in a new epoch or sees one: plain SQL does not ask before it inserts."""
    keeping = asyncio.create_task(_keep(app[DATABASE]))
    yield
    keeping.cancel()
    with suppress(asyncio.CancelledError):
        await keeping


async def _keep(database: Database) -> None:
    news = database.seen.has_new_epoch
    while True:
        await news.wait()
        news.clear()
        try:
            await database.run(raise_id_floors, attempts=1)
        except MatrixError as problem:
            log.warning("ids_not_raised", code=problem.code)
            news.set()
            await asyncio.sleep(AGAIN_SECONDS)


async def raise_id_floors(session: Session) -> None:
    """Raise the counters in the caller's transaction, unless another one has; whoever comes meanwhile waits for its end."""
    if (await session.execute(_NOTE)).rows == 0:
        return
    await session.execute("SAVEPOINT id_floors")
    for table in TABLES.values():
        await _raise(session, table)
    log.info("ids_raised", by=ID_STEP, tables=len(TABLES))


async def _raise(session: Session, table: Table) -> None:
    values = {c.name: _value(c) for c in table.columns if not (c.nullable or c.name in RESERVED)}
    if not table.is_scope:
        values["company_id"] = 0
    next_id = await _insert_undone(session, table, values)
    await _insert_undone(session, table, {**values, "id": next_id + ID_STEP})


async def _insert_undone(session: Session, table: Table, values: dict[str, Any]) -> int:
    """A row of no company, taken back at once; returns the id it was given."""
    names = ", ".join(f"`{name}`" for name in values)
    marks = ", ".join("%s" for _ in values)
    sql = f"INSERT /*+ SET_VAR(foreign_key_checks = 0) */ INTO `{table.name}` ({names}) VALUES ({marks})"
    result = await session.execute(sql, tuple(values.values()))
    await session.execute("ROLLBACK TO SAVEPOINT id_floors")
    return result.last_id


def _value(column: Column) -> Any:
    return column.labels[0] if column.kind is Kind.ENUM else _EMPTY[column.kind]
