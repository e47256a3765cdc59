"""Whether devices hold what MySQL has: plain SELECTs, turned into wire values by information_schema alone.

Nothing here is shared with what decodes the binlog or answers pulls, so a mistake there cannot hide here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pymysql.connections import Connection

from cli.demo.retailer import StoreBook
from cli.demo.store import LocalStore
from schema.columns import Access
from schema.tables import TABLES

_READ_COLUMNS = """
SELECT TABLE_NAME, COLUMN_NAME, DATA_TYPE, COLUMN_TYPE FROM information_schema.COLUMNS
WHERE TABLE_SCHEMA = DATABASE() ORDER BY TABLE_NAME, ORDINAL_POSITION
"""
_READ_SALES = """
SELECT COUNT(*), COALESCE(SUM(total_amount), 0) FROM transactions WHERE company_id = %s AND type = 'sale' AND deleted_at IS NULL
"""
_READ_LINES = """
SELECT COUNT(*), COALESCE(SUM(line_amount), 0) FROM transaction_lines WHERE company_id = %s AND deleted_at IS NULL
"""
_READ_STOCK = "SELECT COALESCE(SUM(-quantity_delta), 0) FROM stock_ledger WHERE company_id = %s AND deleted_at IS NULL"
_READ_CASH = """
SELECT COALESCE(SUM(l.amount), 0) - (SELECT COALESCE(SUM(e.debit), 0) FROM account_transactions e
    JOIN accounts a ON a.company_id = e.company_id AND a.id = e.account_id AND a.code = '1000'
    WHERE e.company_id = %s AND e.deleted_at IS NULL)
FROM payment_in_lines l WHERE l.company_id = %s AND l.deleted_at IS NULL
"""
_READ_UNBALANCED = """
SELECT transaction_id FROM account_transactions WHERE company_id = %s AND deleted_at IS NULL
GROUP BY transaction_id HAVING SUM(debit) <> SUM(credit)
"""
_PRIVATE = {(table.name, c.name) for table in TABLES.values() for c in table.columns if c.access is Access.PRIVATE}

Rows = dict[str, dict[int, dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Difference:
    """What a device holds that MySQL does not, or the other way round. `column` None: the whole row, absent on one side."""

    device: str
    table: str
    record: int | str
    column: str | None
    on_device: Any
    in_mysql: Any


def read_company(connection: Connection[Any], company_id: int) -> Rows:
    """Return all live rows of a company as wire values, by table and id."""
    columns: dict[str, list[tuple[str, str, str]]] = {name: [] for name in TABLES}
    with connection.cursor() as cursor:
        cursor.execute(_READ_COLUMNS)
        for table, name, data_type, column_type in cursor.fetchall():
            if table in columns and (table, name) not in _PRIVATE:
                columns[table].append((name, data_type, column_type))
        return {table: _read_rows(cursor, table, described, company_id) for table, described in columns.items()}


def _read_rows(cursor: Any, table: str, columns: list[tuple[str, str, str]], company_id: int) -> dict[int, dict[str, Any]]:
    names = ", ".join(f"`{name}`" for name, _, _ in columns)
    scope = TABLES[table].company_column
    cursor.execute(f"SELECT {names} FROM `{table}` WHERE `{scope}` = %s AND deleted_at IS NULL", (company_id,))
    rows = {}
    for row in cursor.fetchall():
        values = {name: _wire(kind, full, value) for (name, kind, full), value in zip(columns, row, strict=True)}
        rows[values["id"]] = values
    return rows


def _wire(data_type: str, column_type: str, value: Any) -> Any:
    """A driver's value as contract §2.3 writes it."""
    if value is None:
        return None
    if column_type == "tinyint(1)":
        return value == 1
    if data_type == "decimal":
        return format(value, "f")
    if data_type == "date":
        return value.isoformat()
    if data_type == "timestamp":
        return f"{value.isoformat()}Z"
    return json.loads(value) if data_type == "json" else value


def find_differences(device: str, store: LocalStore, rows: Rows, equal: set[int] | None = None) -> Iterator[Difference]:
    """Compare a device's store with a company's rows: every table, every row, every column.

    `equal`: the `id` of row objects found equal; several stores that hold the same objects are compared with one such set.
    """
    equal = set() if equal is None else equal
    for table, expected in rows.items():
        held = store.rows.get(table, {})
        for record_id in sorted(expected.keys() | held.keys()):
            row = held.get(record_id)
            if record_id in expected and id(row) in equal:
                continue
            found = list(_compare(device, table, record_id, row, expected.get(record_id)))
            yield from found
            if not found:
                equal.add(id(row))
    for table in sorted(store.rows.keys() - rows.keys()):
        yield from (Difference(device, table, record_id, None, row, None) for record_id, row in store.rows[table].items())
    for table, unsent in store.unsent.items():
        yield from (Difference(device, table, local_id, None, row, None) for local_id, row in unsent.items())


def _compare(
    device: str, table: str, record_id: int, held: Mapping[str, Any] | None, expected: Mapping[str, Any] | None
) -> Iterator[Difference]:
    if held is None or expected is None:
        yield Difference(device, table, record_id, None, held, expected)
        return
    for column in sorted(expected.keys() | held.keys()):
        if column not in held or column not in expected or not _is_same(held[column], expected[column]):
            yield Difference(device, table, record_id, column, held.get(column), expected.get(column))


def _is_same(one: Any, other: Any) -> bool:
    """Python takes True for 1; on the wire they differ."""
    return type(one) is type(other) and bool(one == other)


def audit_books(connection: Connection[Any], company_id: int, book: StoreBook) -> list[str]:
    """Compare the company's books with the retailer's own figures; return what does not agree, as sentences."""
    lines = [line for basket in book.baskets for line in basket.lines]
    zero = Decimal(0)
    expected = {
        "sales": (len(book.baskets), sum((basket.total for basket in book.baskets), zero)),
        "lines": (len(lines), sum((line.amount for line in lines), zero)),
        "stock": (sum((line.quantity for line in lines), zero),),
        "payments less cash entries": (zero,),
        "unbalanced transactions": (),
    }
    with connection.cursor() as cursor:
        found = {
            "sales": _one(cursor, _READ_SALES, company_id),
            "lines": _one(cursor, _READ_LINES, company_id),
            "stock": _one(cursor, _READ_STOCK, company_id),
            "payments less cash entries": _one(cursor, _READ_CASH, company_id, company_id),
            "unbalanced transactions": tuple(find_unbalanced(connection, company_id)),
        }
    return [f"{name}: {found[name]} in MySQL, {expected[name]} expected" for name in expected if found[name] != expected[name]]


def find_unbalanced(connection: Connection[Any], company_id: int) -> list[int]:
    """The ids of transactions whose debits and credits differ."""
    with connection.cursor() as cursor:
        cursor.execute(_READ_UNBALANCED, (company_id,))
        return [int(row[0]) for row in cursor.fetchall()]


def _one(cursor: Any, query: str, *params: int) -> tuple[Any, ...]:
    cursor.execute(query, params)
    return cursor.fetchone() or ()
