"""The accounting rules of the boundary (domain.md, rules 1–4 and 7): push and data endpoints alike, never plain SQL. Pure.

Rows are wire values. A rule answers with a Breach, or None where all is well; what to do with it is the caller's.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from schema.tables import TABLES

Row = Mapping[str, Any]

DATE_COLUMNS: Mapping[str, str] = {
    "transactions": "date",
    "invoices": "invoice_date",
    "account_transactions": "transaction_date",
    "payment_ins": "receipt_date",
    "payment_outs": "voucher_date",
    "stock_ledger": "date",
}
"""The column that says when a document counts."""

INVOICE_MUTABLE = frozenset({"status", "due_date", "notes"})
"""What may still change on an invoice that is not a draft: void, payment status, due date, notes."""

PARTS_OF_TRANSACTIONS = frozenset({"transaction_lines", "account_transactions", "stock_ledger"})
KEPT_WHILE_REFERENCED = frozenset({"parties", "products", "accounts", "payment_accounts"})
"""Made inactive instead of deleted once a document refers to them."""

DOCUMENTS = frozenset(
    {
        "transactions",
        "transaction_lines",
        "invoices",
        "account_transactions",
        "payment_ins",
        "payment_in_lines",
        "payment_outs",
        "payment_out_lines",
        "stock_ledger",
    }
)
CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Breach:
    """A rule that a change, or a group, would break."""

    code: str
    message: str
    is_retryable: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TransactionSums:
    """One transaction as it would be: its total, and the live lines and journal entries that belong to it."""

    total_amount: Decimal
    is_posted: bool
    lines: int
    line_amount: Decimal
    entries: int
    debit: Decimal
    credit: Decimal


def documents_that_refer_to(table: str) -> Iterable[tuple[str, str]]:
    """Return (table, column) of every document column that refers to `table`."""
    return [(d, column) for d in TABLES if d in DOCUMENTS for column, target in TABLES[d].references.items() if target == table]


def check_entry(values: Row) -> Breach | None:
    """Rule 1, one line: neither side is negative, and a journal entry has one of them."""
    debit, credit = Decimal(values.get("debit") or 0), Decimal(values.get("credit") or 0)
    if debit < 0 or credit < 0:
        return Breach("unbalanced", "debit and credit must not be negative", details={"column": "debit" if debit < 0 else "credit"})
    if debit and credit:
        return Breach("unbalanced", "a journal entry has a debit or a credit, not both")
    return None


def check_sums(sums: TransactionSums) -> Breach | None:
    """Rules 1 and 2, one transaction: debits equal credits, and the lines of a posted one add up to its total."""
    if sums.entries and sums.debit != sums.credit:
        return Breach(
            "unbalanced",
            f"debits of {sums.debit} and credits of {sums.credit} differ",
            is_retryable=True,
            details={"debit": str(sums.debit), "credit": str(sums.credit)},
        )
    if sums.is_posted and sums.lines and abs(sums.line_amount - sums.total_amount) > CENT * sums.lines:
        return Breach(
            "unbalanced",
            f"lines of {sums.line_amount} do not add up to the total of {sums.total_amount}",
            is_retryable=True,
            details={"lines": str(sums.line_amount), "total": str(sums.total_amount)},
        )
    return None


def check_period(table: str, before: Row | None, after: Row | None, locked_until: dt.date | None) -> Breach | None:
    """Rule 4: neither the row as it was nor as it would be is dated in a locked period."""
    column = DATE_COLUMNS.get(table)
    if column is None or locked_until is None:
        return None
    for row in (before, after):
        if row is not None and row.get(column) is not None and row[column] <= locked_until.isoformat():
            first_open = (locked_until + dt.timedelta(days=1)).isoformat()
            message = f"the books are locked up to {locked_until.isoformat()}"
            return Breach("period_locked", message, details={"first_open_date": first_open})
    return None


def check_document(table: str, before: Row, after: Row | None) -> Breach | None:
    """Rule 3 for a document itself: a posted transaction, or an invoice that is no draft, only changes as voiding and paying do."""
    if table == "transactions" and before["is_posted"]:
        return _immutable("a posted transaction")
    if table == "invoices" and before["status"] != "draft":
        changed = [] if after is None else [name for name, value in after.items() if before.get(name) != value]
        is_reopened = after is not None and after.get("status", before["status"]) == "draft"
        is_void = before["status"] == "void" and "status" in changed
        if after is None or is_reopened or is_void or not set(changed) <= INVOICE_MUTABLE:
            return _immutable(f"an invoice that is {before['status']}")
    return None


def check_part(table: str, transaction: Row | None, invoice: Row | None, *, is_new: bool) -> Breach | None:
    """Rule 3 for lines, entries and movements: those of a posted transaction or an issued invoice stay. New ones may still come."""
    if is_new or table not in PARTS_OF_TRANSACTIONS:
        return None
    if transaction is not None and transaction["is_posted"]:
        return _immutable("a part of a posted transaction")
    if invoice is not None and invoice["status"] != "draft":
        return _immutable(f"a part of an invoice that is {invoice['status']}")
    return None


def _immutable(what: str) -> Breach:
    return Breach("immutable", f"{what} is not changed: void it by reversing entries instead")
