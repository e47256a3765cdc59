"""What people do on a phone, and what plain SQL does beside it. Every text and sum that is written is written once only, so that
an old value that comes back is seen.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pymysql

from tests.convergence.phone import Phone
from tests.convergence.script import EDITED
from tests.oracle import Row
from tests.sql_client import SqlClient

TEXTS = {
    "products": ("name", "description"),
    "parties": ("name", "phone", "address"),
    "payment_accounts": ("account_name", "bank_name", "account_number"),
    "item_categories": ("name",),
    "units_of_measure": ("name", "abbrev"),
    "settings": (),
    "accounts": ("name", "description"),
    "transactions": ("description",),
    "transaction_lines": ("description",),
    "invoices": ("notes",),
}
"""Columns of which each value is written once."""
SKUS, CODES, SETTINGS = ("A", "B", "C"), ("10", "20"), ("theme", "paper", "tax")
WITHOUT_EFFECT = (1062, 1205, 1213, 1451, 1452)
"""A duplicate key, a lock that did not come, a deadlock, a row that is referred to."""


def word(rng: Random) -> str:
    """A text that is written once only."""
    return f"w{rng.getrandbits(40):010x}"


def first_word(table: str, row: Row) -> str | None:
    """The word a record was made with, where it still stands in this image."""
    value = row.get("value") if table == "settings" else row.get(TEXTS[table][0]) if table in TEXTS else None
    return str(value["at"]) if isinstance(value, dict) else value


def edit(phone: Phone, rng: Random) -> str:
    """One edit offline: a new record, a change or a deletion of one that is held. Returns it for people."""
    held: list[tuple[str, int | str]] = sorted((*phone.rows, *phone.drafts), key=str)
    held = [record for record in held if record[0] in EDITED]
    roll = rng.random()
    if not held or roll < 0.25:
        table = rng.choice(EDITED)
        data = _new_row(phone, table, rng)
        return f"inserts {table} {phone.insert(table, **data)} {data}"
    table, record = rng.choice(held)
    if roll < 0.88:
        changed = _changes(phone, table, rng)
        phone.update(table, record, **changed)
        return f"updates {table} {record} {changed}"
    phone.delete(table, record)
    return f"deletes {table} {record}"


def sell(phone: Phone, rng: Random) -> str:
    """A sale: a transaction with two lines that add up, and its invoice."""
    party = _reference(phone, "parties", rng)
    head = phone.insert(
        "transactions",
        type="sale",
        date="2026-03-01",
        party_id=party,
        total_amount="30.00",
        description=word(rng),
        is_posted=rng.random() < 0.5,
    )
    for amount in ("10.00", "20.00"):
        product = _reference(phone, "products", rng)
        line = {"transaction_id": head, "product_id": product, "quantity": "1.000", "unit_price": amount, "line_amount": amount}
        phone.insert("transaction_lines", description=word(rng), **line)
    invoice = {"transaction_id": head, "party_id": party, "invoice_date": "2026-03-01", "grand_total": "30.00"}
    number = word(rng) if rng.random() < 0.8 else "INV-1"
    phone.insert("invoices", invoice_type="sale", invoice_number=number, notes=word(rng), **invoice)
    return f"sells {head}"


def write_sql(sql: SqlClient, company_id: int, rng: Random) -> str:
    """One statement of a plain SQL writer; one that MySQL refuses has no effect."""
    table = rng.choice(_used(sql, company_id)) if rng.random() < 0.8 else rng.choice(EDITED)
    make: Callable[[SqlClient, str, int, Random], tuple[str, list[Any]]] = rng.choices(
        (_sql_insert, _sql_update, _sql_delete, _sql_remove, _sql_restore), weights=(25, 40, 13, 12, 10)
    )[0]
    statement, params = make(sql, table, company_id, rng)
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


def _new_row(phone: Phone, table: str, rng: Random) -> Row:
    match table:
        case "products":
            row: Row = {"name": word(rng), "sale_price": _sum(rng), "sku": rng.choice((*SKUS, None, None, None))}
            references = (("category_id", "item_categories"), ("uom_id", "units_of_measure"))
            return row | {column: _reference(phone, target, rng) for column, target in references if rng.random() < 0.5}
        case "parties":
            return {"name": word(rng), "party_type": rng.choice(("customer", "supplier")), "credit_limit": _sum(rng)}
        case "payment_accounts":
            return {"account_name": word(rng), "account_type": "bank", "account_number": word(rng), "is_active": rng.random() < 0.5}
        case "item_categories":
            return {"name": word(rng), "parent_category_id": _reference(phone, "item_categories", rng)}
        case "units_of_measure":
            return {"name": word(rng), "abbrev": word(rng)}
        case "settings":
            return {"name": rng.choice(SETTINGS) if rng.random() < 0.5 else word(rng), "value": {"at": word(rng)}}
        case _:
            return {"name": word(rng), "code": rng.choice((*CODES, None, None)), "account_type": "asset"}


def _changes(phone: Phone, table: str, rng: Random) -> Row:
    """Some columns of a row that is there."""
    if table == "settings":
        return {"value": {"at": word(rng), "n": [1, 2.5, None, "é"]}}
    changed: Row = {column: word(rng) for column in rng.sample(TEXTS[table], rng.randint(1, len(TEXTS[table])))}
    if table == "products" and rng.random() < 0.5:
        changed |= rng.choice(
            (
                {"sale_price": _sum(rng)},
                {"sku": rng.choice((*SKUS, None))},
                {"category_id": _reference(phone, "item_categories", rng)},
            )
        )
    if table == "parties" and rng.random() < 0.3:
        changed |= {"payment_terms_days": rng.randint(1, 90), "is_active": rng.random() < 0.5}
    return changed


def _reference(phone: Phone, table: str, rng: Random) -> int | str | None:
    """A record that the device holds, a draft among them, or none."""
    held: list[int | str] = [*sorted(k for t, k in phone.rows if t == table), *sorted(k for t, k in phone.drafts if t == table)]
    return rng.choice(held) if held and rng.random() < 0.8 else None


def _sum(rng: Random) -> str:
    return f"{rng.randint(1, 9_999_999) / 100:.2f}"


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
