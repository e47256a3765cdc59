"""What a device must hold: plain SELECTs in wire form (contract §2.3). Shares no code with `api` or `cdc`.

MySQL itself writes the JSON, by the types information_schema names; only which columns are hidden is said here.
"""

from __future__ import annotations

import json
from typing import Any

from tests.sql_client import SqlClient

Row = dict[str, Any]
Rows = dict[str, dict[int, Row]]
"""Live rows by table and id."""

PRIVATE = {("users", "login_id")}
RESTRICTED = {("payment_accounts", "account_number"), ("payment_accounts", "ifsc_code")}
SEES_RESTRICTED = ("owner", "admin", "accountant")
UNREADABLE: dict[str, set[str]] = {
    "accountant": {"users"},
    "sales": {"users", "accounts", "account_transactions", "payment_outs", "payment_out_lines", "settings"},
}
UNWRITABLE: dict[str, set[str]] = {
    "accountant": {"users", "companies"},
    "sales": {
        "companies", "users", "item_categories", "units_of_measure", "products", "accounts", "payment_accounts",
        "account_transactions", "payment_outs", "payment_out_lines", "settings",
    },
}  # fmt: skip
SYNCED = (
    "companies", "users", "parties", "item_categories", "units_of_measure", "products", "accounts", "payment_accounts",
    "transactions", "transaction_lines", "invoices", "account_transactions", "payment_ins", "payment_in_lines", "payment_outs",
    "payment_out_lines", "stock_ledger", "settings",
)  # fmt: skip
UNWRITABLE["viewer"] = set(SYNCED)
SET_BY_MYSQL = ("company_id", "created_at", "updated_at", "deleted_at")

_COLUMNS = """
SELECT TABLE_NAME, COLUMN_NAME, COLUMN_TYPE FROM information_schema.COLUMNS
WHERE TABLE_SCHEMA = DATABASE() ORDER BY TABLE_NAME, ORDINAL_POSITION
"""


class Oracle:
    """Asks an administrator's SQL client."""

    def __init__(self, sql: SqlClient) -> None:
        self._sql = sql
        self._columns: dict[str, list[tuple[str, str]]] = {}
        for table, column, kind in sql.rows(_COLUMNS):
            if table in SYNCED and (table, column) not in PRIVATE:
                self._columns.setdefault(table, []).append((column, kind))

    def rows(self, company_id: int, *, role: str = "owner") -> Rows:
        """What anyone of this role in this company must hold."""
        readable = [table for table in SYNCED if table not in UNREADABLE.get(role, set())]
        selects = " UNION ALL ".join(self._select(table, role, "deleted_at IS NULL") for table in readable)
        rows: Rows = {table: {} for table in readable}
        for table, record_id, text in self._sql.rows(selects, *[company_id] * len(readable)):
            rows[table][record_id] = json.loads(text)
        return rows

    def table(self, table: str, company_id: int, *, role: str = "owner", where: str = "deleted_at IS NULL") -> dict[int, Row]:
        """Rows of one table by id, live ones by default."""
        found = self._sql.rows(self._select(table, role, where), company_id)
        return {record_id: json.loads(text) for _, record_id, text in found}

    def row(self, table: str, company_id: int, record_id: int, *, role: str = "owner") -> Row | None:
        """One row, deleted or not; None where the company has none of that id."""
        return self.table(table, company_id, role=role, where=f"id = {record_id:d}").get(record_id)

    def _select(self, table: str, role: str, where: str) -> str:
        shown = ", ".join(
            f"'{column}', {_as_json(column, kind)}"
            for column, kind in self._columns[table]
            if role in SEES_RESTRICTED or (table, column) not in RESTRICTED
        )
        scope = "id" if table == "companies" else "company_id"
        return f"SELECT '{table}', id, JSON_OBJECT({shown}) FROM `{table}` WHERE {scope} = %s AND {where}"


def comparable(row: Row) -> Row:
    """A row without what MySQL sets and a device need not know, and without NULLs: absent is NULL."""
    return {name: value for name, value in row.items() if name not in SET_BY_MYSQL and value is not None}


def comparable_rows(rows: Rows) -> Rows:
    """The same of all rows; tables without rows are left out."""
    return {table: {key: comparable(row) for key, row in found.items()} for table, found in rows.items() if found}


def _as_json(column: str, kind: str) -> str:
    if kind == "tinyint(1)":
        return f"IF(`{column}` IS NULL, NULL, IF(`{column}`, CAST('true' AS JSON), CAST('false' AS JSON)))"
    if kind.startswith("timestamp"):
        return f"REPLACE(DATE_FORMAT(`{column}`, '%%Y-%%m-%%dT%%H:%%i:%%s.%%fZ'), '.000000Z', 'Z')"
    if kind.startswith(("decimal", "date")):
        return f"CAST(`{column}` AS CHAR)"
    return f"`{column}`"
