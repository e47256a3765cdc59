"""The rules of the books, read from the change log in its order: what devices and data endpoints wrote must never break one.

Shares no code with the rules themselves.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from decimal import Decimal
from itertools import groupby
from typing import Any

from tests.convergence.witness import must
from tests.oracle import SET_BY_MYSQL, Row

DATES = {
    "transactions": "date",
    "invoices": "invoice_date",
    "account_transactions": "transaction_date",
    "stock_ledger": "date",
}
PARTS = ("transaction_lines", "account_transactions", "stock_ledger")
MAY_CHANGE = {"status", "due_date", "notes"}
CENT = Decimal("0.01")
Key = tuple[str, int]


class Books:
    """The documents of one company as they were at some version."""

    def __init__(self) -> None:
        self.rows: dict[Key, Row] = {}
        self.locked_until = ""

    def play(self, changes: Iterable[dict[str, Any]]) -> None:
        """All changes of the company, oldest first."""
        for _, tx in groupby(changes, key=lambda change: change["tx"]):
            self._play_tx(list(tx))

    def _play_tx(self, tx: list[dict[str, Any]]) -> None:
        is_ours = tx[0]["origin"] in ("device", "api")
        before = dict(self.rows)
        for change in tx:
            key = (change["table_name"], change["record_id"])
            after = json.loads(change["data"]) if change["operation"] != "DELETE" else None
            if key[0] == "companies":
                self.locked_until = (after or {}).get("books_locked_until") or ""
            elif key[0] in (*DATES, *PARTS):
                if is_ours:
                    self._judge(key, self.rows.get(key), after, before)
                self.rows[key] = after or {}
        if is_ours:
            touched = {self._transaction(key, rows.get(key)) for rows in (before, self.rows) for key in _changed(tx)}
            for transaction in touched - {None}:
                self._add_up(transaction)

    def _judge(self, key: Key, old: Row | None, new: Row | None, before: dict[Key, Row]) -> None:
        what = f"{key}: {old} → {new}"
        for row in (old or {}, new or {}):
            head = self.rows.get(("transactions", row.get("transaction_id") or 0)) if key[0] in PARTS else None
            days = [row[DATES[key[0]]]] if row and key[0] in DATES else []
            days += [head["date"]] if head else []
            must(not days or min(days) > self.locked_until, f"in books locked until {self.locked_until}, {what}")
        if not old:
            return
        changed = {n for n in old if n not in SET_BY_MYSQL and (new or {}).get(n) != old[n]}
        if key[0] == "transactions":
            must(not (old["is_posted"] and (changed or new is None)), f"a posted transaction was changed, {what}")
        elif key[0] == "invoices":
            is_kept = old["status"] == "draft" or (new is not None and changed <= MAY_CHANGE and new["status"] != "draft")
            must(is_kept, f"an invoice that is out was changed, {what}")
        else:
            head = before.get(("transactions", old["transaction_id"] or 0)) or {}
            must(not (head.get("is_posted") and (changed or new is None)), f"a part of a posted transaction was changed, {what}")

    def _transaction(self, key: Key, row: Row | None) -> int | None:
        found = key[1] if key[0] == "transactions" else (row or {}).get("transaction_id") if key[0] in PARTS else None
        return found if found is not None and self.rows.get(("transactions", found)) else None

    def _add_up(self, transaction: int | None) -> None:
        head = self.rows["transactions", transaction or 0]
        parts = [(table, row) for (table, _), row in self.rows.items() if row and row.get("transaction_id") == transaction]
        debit, credit = (
            sum(Decimal(row[n]) for table, row in parts if table == "account_transactions") for n in ("debit", "credit")
        )
        must(debit == credit, f"entries of transaction {transaction}: {debit} and {credit}")
        lines = [Decimal(row["line_amount"]) for table, row in parts if table == "transaction_lines"]
        is_even = not lines or abs(sum(lines) - Decimal(head["total_amount"])) <= CENT * len(lines)
        must(is_even or not head["is_posted"], f"lines of transaction {transaction}: {lines}, total {head['total_amount']}")


def _changed(tx: list[dict[str, Any]]) -> list[Key]:
    return [(change["table_name"], change["record_id"]) for change in tx]
