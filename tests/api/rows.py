"""A row of every synced table, and people who work for a company."""

from __future__ import annotations

from typing import Any

from schema.tables import TABLES
from tests.api.conftest import Api, Person
from tests.sql_client import SqlClient

VALUES: dict[str, dict[str, Any]] = {
    "users": {"full_name": "Cy"},
    "parties": {"name": "Ann"},
    "item_categories": {"name": "Tea"},
    "units_of_measure": {"name": "kg"},
    "products": {"name": "Assam"},
    "accounts": {"name": "Cash", "account_type": "asset"},
    "payment_accounts": {"account_type": "bank", "account_name": "Main", "account_number": "123", "ifsc_code": "X1"},
    "transactions": {"type": "sale", "date": "2026-02-03", "is_posted": False},
    "transaction_lines": {"transaction_id": "transactions"},
    "invoices": {"invoice_type": "sale", "invoice_number": "INV-1", "invoice_date": "2026-02-03"},
    "account_transactions": {"account_id": "accounts", "transaction_type": "journalEntry", "transaction_date": "2026-02-03"},
    "payment_ins": {"receipt_no": "R1", "receipt_date": "2026-02-03"},
    "payment_in_lines": {"payment_in_id": "payment_ins"},
    "payment_outs": {"voucher_no": "V1", "voucher_date": "2026-02-03"},
    "payment_out_lines": {"payment_out_id": "payment_outs"},
    "stock_ledger": {"product_id": "products", "date": "2026-02-03", "movement_type": "inPurchase"},
    "settings": {"name": "theme", "value": {"a": [1, 2.5, None, "é"]}},
}


async def create(person: Person, table: str, **more: Any) -> dict[str, Any]:
    reply = await person.post(f"/api/{table}", {**VALUES[table], **more})
    assert reply.status == 201, reply.body
    row: dict[str, Any] = reply.body["data"]
    return row


async def create_all(person: Person) -> dict[str, dict[str, Any]]:
    """One row of every table but companies."""
    rows: dict[str, dict[str, Any]] = {}
    for table, values in VALUES.items():
        filled = {
            name: rows[value]["id"] if isinstance(value, str) and value in TABLES else value for name, value in values.items()
        }
        rows[table] = await create(person, table, **filled)
    return rows


async def hire(api: Api, admin: SqlClient, owner: Person, role: str) -> Person:
    """Somebody of another e-mail who works for the owner's company only."""
    person = await api.register()
    admin.run(
        f"UPDATE users SET is_active = 0 WHERE login_id = {person.login_id}",
        "INSERT INTO users (company_id, login_id, full_name, role) "
        f"VALUES ({owner.company_id}, {person.login_id}, 'Hired', '{role}')",
    )
    return person
