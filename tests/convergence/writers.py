"""What plain SQL does beside the phones: rows made, changed, deleted softly and hard, restored, moved to another company."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pymysql

from tests.convergence.edits import SETTINGS, SKUS, TEXTS, word
from tests.convergence.script import EDITED
from tests.oracle import Row
from tests.sql_client import SqlClient

MOVABLE = ("parties", "payment_accounts", "item_categories", "units_of_measure", "settings", "accounts")
LOCKS = (None, None, "2026-01-31", "2026-02-28")
WITHOUT_EFFECT = (1062, 1205, 1213, 1451, 1452)
"""A duplicate key, a lock that did not come, a deadlock, a row that is referred to."""


def write_sql(sql: SqlClient, company_id: int, rng: Random) -> str:
    """One statement of a plain SQL writer; one that MySQL refuses has no effect."""
    table = rng.choice(_used(sql, company_id)) if rng.random() < 0.8 else rng.choice(EDITED)
    make: Callable[[SqlClient, str, int, Random], tuple[str, list[Any]]] = rng.choices(
        (_sql_insert, _sql_update, _sql_delete, _sql_remove, _sql_restore), weights=(25, 40, 13, 12, 10)
    )[0]
    return _run(sql, *make(sql, table, company_id, rng))


def move_row(sql: SqlClient, company_id: int, other_id: int, rng: Random) -> str:
    """Give a row to the other company; MySQL refuses one that refers to rows of its own, or is referred to."""
    table = rng.choice(MOVABLE)
    params = [other_id, *_row(sql, table, company_id, rng, is_any=rng.random() < 0.2)]
    return _run(sql, f"UPDATE {table} SET company_id = %s WHERE company_id = %s AND id = %s", params)


def lock_books(sql: SqlClient, company_id: int, rng: Random) -> str:
    """Lock the books up to a day, or open them."""
    return _run(sql, "UPDATE companies SET books_locked_until = %s WHERE id = %s", [rng.choice(LOCKS), company_id])


def open_accounts(sql: SqlClient, company_id: int, rng: Random) -> str:
    """Two accounts that entries may name."""
    params = [value for _ in range(2) for value in (company_id, word(rng))]
    return _run(sql, "INSERT INTO accounts (company_id, name, account_type) VALUES (%s, %s, 'asset'), (%s, %s, 'revenue')", params)


def _run(sql: SqlClient, statement: str, params: list[Any]) -> str:
    try:
        with sql.connection.cursor() as cursor:
            count = cursor.execute(statement, params)
    except (pymysql.err.IntegrityError, pymysql.err.OperationalError) as problem:
        if problem.args[0] not in WITHOUT_EFFECT:
            raise
        return f"SQL refused ({problem.args[0]}): {statement} {params}"
    return f"SQL ({count}): {statement} {params}"


def _used(sql: SqlClient, company_id: int) -> list[str]:
    """Tables in which the company has rows, as often as it has some."""
    counts = " UNION ALL ".join(f"SELECT '{table}' FROM {table} WHERE company_id = %s" for table in EDITED)
    return sorted(row[0] for row in sql.rows(counts, *[company_id] * len(EDITED))) or list(EDITED)


def _sql_insert(_: SqlClient, table: str, company_id: int, rng: Random) -> tuple[str, list[Any]]:
    more: Row = {
        "settings": {"name": rng.choice(SETTINGS), "value": f'{{"at": "{word(rng)}"}}'},
        "products": {"sku": rng.choice(SKUS)},
    }.get(table, {})
    more |= {"accounts": {"account_type": "asset"}, "payment_accounts": {"account_type": "cash"}}.get(table, {})
    row = {"company_id": company_id, **{column: word(rng) for column in TEXTS[table]}, **more}
    columns = ", ".join(f"`{column}`" for column in row)
    return f"INSERT INTO {table} ({columns}) VALUES ({', '.join('%s' for _ in row)})", list(row.values())


def _sql_update(sql: SqlClient, table: str, company_id: int, rng: Random) -> tuple[str, list[Any]]:
    if table == "settings":
        return "UPDATE settings SET value = JSON_OBJECT('at', %s) WHERE company_id = %s AND id = %s", [
            word(rng),
            *_row(sql, table, company_id, rng),
        ]
    column = rng.choice(TEXTS[table])
    if rng.random() < 0.15:
        return f"UPDATE {table} SET `{column}` = CONCAT(%s, '-', id) WHERE company_id = %s AND deleted_at IS NULL", [
            word(rng),
            company_id,
        ]
    return f"UPDATE {table} SET `{column}` = %s WHERE company_id = %s AND id = %s", [word(rng), *_row(sql, table, company_id, rng)]


def _sql_delete(sql: SqlClient, table: str, company_id: int, rng: Random) -> tuple[str, list[Any]]:
    return f"UPDATE {table} SET deleted_at = CURRENT_TIMESTAMP(6) WHERE company_id = %s AND id = %s", _row(
        sql, table, company_id, rng
    )


def _sql_remove(sql: SqlClient, table: str, company_id: int, rng: Random) -> tuple[str, list[Any]]:
    return f"DELETE FROM {table} WHERE company_id = %s AND id = %s", _row(sql, table, company_id, rng, is_any=True)


def _sql_restore(sql: SqlClient, table: str, company_id: int, rng: Random) -> tuple[str, list[Any]]:
    condition = "company_id = %s AND deleted_at IS NOT NULL ORDER BY id LIMIT 1"
    return f"UPDATE {table} SET deleted_at = NULL WHERE {condition}", [company_id]


def _row(sql: SqlClient, table: str, company_id: int, rng: Random, *, is_any: bool = False) -> list[int]:
    condition = "" if is_any else " AND deleted_at IS NULL"
    ids = [row[0] for row in sql.rows(f"SELECT id FROM {table} WHERE company_id = %s{condition} ORDER BY id", company_id)]
    return [company_id, rng.choice(ids) if ids else 0]
