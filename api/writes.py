"""The one way a domain row is locked, read and written, by push and by the data endpoints. Identifiers come from schema.tables.

Locks are taken in one order, company, then rows by (table, id), so that two writers seldom deadlock; `Database.run` runs again
those that do. Rows are found through UNIQUE (company_id, id): neither a row nor a lock of another company is ever touched.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from api.cleaning import Cleaned, clean
from api.db import Outcome, Session, Statement
from api.origins import open_origin
from api.scope import Scope, forbidden, heads_of
from schema.columns import Access, Column, Kind
from schema.tables import TABLES, Table
from schema.values import mysql_from_wire, wire_from_mysql

__all__ = [
    "Cleaned",
    "clean",
    "delete_row",
    "deleting_rows",
    "demand_may_write",
    "hold_company",
    "insert_row",
    "insert_rows",
    "inserting_rows",
    "lock_rows",
    "locking_rows",
    "open_origin",
    "restore_row",
    "rows_found",
    "share_parents",
    "share_rows",
    "sharing_ids",
    "stored_columns",
    "update_row",
    "updating_rows",
    "wire_row",
]

_STORED = {table.name: tuple(c for c in table.columns if c.access is not Access.PRIVATE) for table in TABLES.values()}
_HOLD_COMPANY = "SELECT books_locked_until FROM companies WHERE id = %s AND is_active AND deleted_at IS NULL FOR {lock}"


async def hold_company(session: Session, company_id: int, *, is_to_change: bool = False) -> dt.date | None:
    """Hold the company as it is until the transaction ends, and return the day up to which its books are locked.

    `is_to_change`: the caller may write its row. Two who share it first, and then both want it alone, end in a deadlock.
    Raises SyncError 403 for one that was closed meanwhile.
    """
    row = await session.fetch_one(_HOLD_COMPANY.format(lock="UPDATE" if is_to_change else "SHARE"), (company_id,))
    if row is None:
        raise forbidden()
    locked_until: dt.date | None = row[0]
    return locked_until


async def lock_rows(session: Session, table: Table, company_id: int, ids: Iterable[int]) -> dict[int, dict[str, Any]]:
    """Lock rows FOR UPDATE in the order of their ids; return those that exist, soft-deleted ones too, as wire values by id.

    A row has every column but the private ones.
    """
    return await _read_rows(session, table, company_id, ids, "FOR UPDATE")


async def share_rows(session: Session, table: Table, company_id: int, ids: Iterable[int]) -> dict[int, dict[str, Any]]:
    """The same FOR SHARE: what only must not change meanwhile."""
    return await _read_rows(session, table, company_id, ids, "FOR SHARE")


def locking_rows(table: Table, company_id: int, ids: Iterable[int], lock: str) -> Statement:
    """Return what reads rows as `lock_rows` does, FOR UPDATE or FOR SHARE, for `rows_found`."""
    wanted = sorted(ids)
    names = _names(stored_columns(table))
    return f"SELECT {names} FROM {_found_by_id(table)} AND id IN ({_marks(wanted)}) ORDER BY id {lock}", (company_id, *wanted)


def rows_found(table: Table, outcome: Outcome) -> dict[int, dict[str, Any]]:
    """Return the rows that a statement of `locking_rows` gave."""
    columns = stored_columns(table)
    return {row[0]: wire_row(columns, row) for row in outcome.rows}


def sharing_ids(table: Table, company_id: int, ids: Iterable[int]) -> Statement:
    """Return what locks rows FOR SHARE in the order of their ids, and gives the ids that exist, soft-deleted ones included."""
    wanted = sorted(ids)
    return f"SELECT id FROM {_found_by_id(table)} AND id IN ({_marks(wanted)}) ORDER BY id FOR SHARE", (company_id, *wanted)


async def share_parents(session: Session, table_name: str, company_id: int, ids: Iterable[int]) -> set[int]:
    """Lock rows FOR SHARE in the order of their ids; return the ids that exist in the company, soft-deleted ones included."""
    wanted = set(ids)
    return {row[0] for row in await session.fetch_all(*sharing_ids(TABLES[table_name], company_id, wanted))} if wanted else set()


async def demand_may_write(
    session: Session, scope: Scope, table: Table, row: Mapping[str, Any] | None, values: Mapping[str, Any]
) -> None:
    """Raise SyncError 403 where this person may not turn `row` (None: a new one) into what it is with `values` over it."""
    name, ids = heads_of(table.name, row, values)
    heads = await share_rows(session, TABLES[name], scope.company_id, ids)
    if not scope.may_write_row(table.name, row, values, heads):
        raise forbidden()


async def insert_row(session: Session, table: Table, company_id: int, values: Mapping[str, Any]) -> int:
    """Insert wire values, defaults for absent columns, and return the id. Raises DuplicateKey, ForeignKeyFailed, DataRefused."""
    params = {name: mysql_from_wire(table.by_name[name], value) for name, value in values.items()}
    if not table.is_scope:
        params = {"company_id": company_id, **params}
    columns = ", ".join(f"`{name}`" for name in params)
    sql = f"INSERT INTO `{table.name}` ({columns}) VALUES ({_marks(params)})"
    return (await session.execute(sql, tuple(params.values()))).last_id


async def insert_rows(session: Session, table: Table, company_id: int, rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Insert rows by one statement, with defaults for absent columns; return their ids in order. Raises as `insert_row`.

    The caller has asked for the session's `id_step`.
    Source: MySQL manual, "AUTO_INCREMENT Handling in InnoDB": the values of a simple insert follow one another.
    """
    assert session.id_step is not None
    first = (await session.execute(*inserting_rows(table, company_id, rows))).last_id
    return [first + number * session.id_step for number in range(len(rows))]


def inserting_rows(table: Table, company_id: int, rows: Sequence[Mapping[str, Any]]) -> Statement:
    """Return what inserts rows as `insert_rows` does."""
    named = dict.fromkeys(name for row in rows for name in row)
    columns = [column for column in table.own if column.name in named]
    own = () if table.is_scope else (company_id,)
    lists: list[str] = []
    params: list[Any] = []
    for values in rows:
        marks = ("%s" if column.name in values else "DEFAULT" for column in columns)
        lists.append(f"({', '.join((*('%s' for _ in own), *marks))})")
        params += own
        params += [mysql_from_wire(column, values[column.name]) for column in columns if column.name in values]
    names = ", ".join((*("`company_id`" for _ in own), *(f"`{column.name}`" for column in columns)))
    return f"INSERT INTO `{table.name}` ({names}) VALUES {', '.join(lists)}", params


async def update_row(session: Session, table: Table, company_id: int, record_id: int, values: Mapping[str, Any]) -> None:
    """Set columns of a row that the caller has locked. Raises DuplicateKey, ForeignKeyFailed, DataRefused."""
    if values:
        result = await session.execute(*_updating(table, company_id, {record_id: values}))
        assert result.rows == 1, f"{table.name} {record_id} was not locked"


def updating_rows(table: Table, company_id: int, edits: Mapping[int, Mapping[str, Any]]) -> list[tuple[Sequence[int], Statement]]:
    """Return what sets columns of rows that the caller has locked, by id, each with the ids of its rows: one statement where it can
    be. Each row keeps what it does not name.
    """
    return [(tuple(part), _updating(table, company_id, part)) for part in _alike(table, edits)]


def _alike(table: Table, edits: Mapping[int, Mapping[str, Any]]) -> list[dict[int, Mapping[str, Any]]]:
    """Split edits into those that one statement may make."""
    alike: dict[frozenset[str], dict[int, Mapping[str, Any]]] = {}
    for record_id in sorted(edits):
        # A JSON column that some of the rows keep would go through text, and might not come back the same.
        documents = frozenset(name for name in edits[record_id] if table.by_name[name].kind is Kind.JSON)
        if edits[record_id]:
            alike.setdefault(documents, {})[record_id] = edits[record_id]
    return list(alike.values())


def _updating(table: Table, company_id: int, rows: Mapping[int, Mapping[str, Any]]) -> Statement:
    assignments, params = _assignments(table, rows) if len(rows) > 1 else _assignment(table, *rows.values())
    sql = f"UPDATE `{table.name}` SET {', '.join(assignments)} WHERE `{table.company_column}` = %s AND id IN ({_marks(rows)})"
    return sql, (*params, company_id, *rows)


def _assignment(table: Table, values: Mapping[str, Any]) -> tuple[list[str], list[Any]]:
    return [f"`{name}` = %s" for name in values], [mysql_from_wire(table.by_name[name], value) for name, value in values.items()]


def _assignments(table: Table, rows: Mapping[int, Mapping[str, Any]]) -> tuple[list[str], list[Any]]:
    assignments: list[str] = []
    params: list[Any] = []
    for name in dict.fromkeys(name for values in rows.values() for name in values):
        setting = {record_id: values[name] for record_id, values in rows.items() if name in values}
        kept = f" ELSE `{name}`" if len(setting) < len(rows) else ""
        assignments.append(f"`{name}` = CASE id {' '.join('WHEN %s THEN %s' for _ in setting)}{kept} END")
        for record_id, value in setting.items():
            params += (record_id, mysql_from_wire(table.by_name[name], value))
    return assignments, params


def deleting_rows(table: Table, company_id: int, ids: Iterable[int]) -> Statement:
    """Return what soft-deletes rows that the caller has locked; those that are deleted already keep their time."""
    wanted = sorted(ids)
    sql = (
        f"UPDATE `{table.name}` SET deleted_at = CURRENT_TIMESTAMP(6) "
        f"WHERE `{table.company_column}` = %s AND id IN ({_marks(wanted)}) AND deleted_at IS NULL"
    )
    return sql, (company_id, *wanted)


async def delete_row(session: Session, table: Table, company_id: int, record_id: int) -> None:
    """Soft-delete one row."""
    await session.execute(*deleting_rows(table, company_id, [record_id]))


async def restore_row(session: Session, table: Table, company_id: int, record_id: int) -> None:
    """Take back a soft delete of a row that the caller has locked. Raises DuplicateKey where its unique value is in use again."""
    await session.execute(
        f"UPDATE `{table.name}` SET deleted_at = NULL WHERE `{table.company_column}` = %s AND id = %s", (company_id, record_id)
    )


def stored_columns(table: Table) -> tuple[Column, ...]:
    """Return every column but the private ones, `id` first."""
    return _STORED[table.name]


def wire_row(columns: Iterable[Column], row: Iterable[Any]) -> dict[str, Any]:
    """Return a row that MySQL gave as wire values by column name."""
    return {column.name: wire_from_mysql(column, value) for column, value in zip(columns, row, strict=True)}


async def _read_rows(session: Session, table: Table, company_id: int, ids: Iterable[int], lock: str) -> dict[int, dict[str, Any]]:
    wanted = set(ids)
    return rows_found(table, (await session.run(locking_rows(table, company_id, wanted, lock)))[0]) if wanted else {}


def _names(columns: Iterable[Column]) -> str:
    return ", ".join(f"`{column.name}`" for column in columns)


def _found_by_id(table: Table) -> str:
    """The optimizer may prefer the primary key, and so wait for another company's lock on a foreign id."""
    index = "PRIMARY" if table.is_scope else f"{table.name}_company_id"
    return f"`{table.name}` FORCE INDEX (`{index}`) WHERE `{table.company_column}` = %s"


def _marks(values: Iterable[Any]) -> str:
    return ", ".join("%s" for _ in values)
