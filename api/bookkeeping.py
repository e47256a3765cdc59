"""Brings the rows together that `schema.rules` judges: a change with its document, a transaction with its lines and entries.

Used by push and by the data endpoints, inside their transaction. What plain SQL wrote is taken as it is.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from api.db import Session
from api.writes import share_rows
from schema.errors import SyncError
from schema.rules import (
    KEPT_WHILE_REFERENCED,
    Breach,
    TransactionSums,
    check_document,
    check_entry,
    check_part,
    check_period,
    check_sums,
    documents_that_refer_to,
)
from schema.tables import TABLES, Table

Row = Mapping[str, Any]
FindRow = Callable[[Table, int], Awaitable[Row | None]]

BALANCED = frozenset({"transactions", "transaction_lines", "account_transactions"})
"""Tables whose changes may unbalance a transaction."""

_SUMS = """
SELECT t.id, t.total_amount, t.is_posted,
    (SELECT COUNT(*) FROM transaction_lines l
     WHERE l.company_id = t.company_id AND l.transaction_id = t.id AND l.deleted_at IS NULL),
    (SELECT COALESCE(SUM(l.line_amount), 0) FROM transaction_lines l
     WHERE l.company_id = t.company_id AND l.transaction_id = t.id AND l.deleted_at IS NULL),
    (SELECT COUNT(*) FROM account_transactions a
     WHERE a.company_id = t.company_id AND a.transaction_id = t.id AND a.deleted_at IS NULL),
    (SELECT COALESCE(SUM(a.debit), 0) FROM account_transactions a
     WHERE a.company_id = t.company_id AND a.transaction_id = t.id AND a.deleted_at IS NULL),
    (SELECT COALESCE(SUM(a.credit), 0) FROM account_transactions a
     WHERE a.company_id = t.company_id AND a.transaction_id = t.id AND a.deleted_at IS NULL)
FROM transactions t WHERE t.company_id = %s AND t.id IN ({marks}) AND t.deleted_at IS NULL
"""


@dataclass(frozen=True, slots=True)
class Bookkeeping:
    """The rules as they apply to one company's transaction under way. `locked_until`: the last day of the locked books."""

    session: Session
    company_id: int
    locked_until: dt.date | None
    find_row: FindRow

    async def check_change(self, table: Table, before: Row | None, after: Row | None) -> Breach | None:
        """Judge one row: what it was (None: new) and what it would be (None: deleted)."""
        breach = check_period(table.name, before, after, self.locked_until)
        if breach is None and before is not None:
            breach = check_document(table.name, before, after)
        if breach is None and after is not None and table.name == "account_transactions":
            breach = check_entry(after)
        if breach is None and table.head is not None:
            breach = await self._check_part(table, before, after)
        if breach is None and after is None and table.name in KEPT_WHILE_REFERENCED:
            assert before is not None
            breach = await self._check_unreferenced(table, before["id"])
        return breach

    async def demand(self, table: Table, before: Row | None, after: Row | None) -> None:
        """Judge one row that is about to be written alone. Raises SyncError 409."""
        breach = await self.check_change(table, before, after)
        if breach is not None:
            raise breach_error(breach)

    async def demand_balance(self, table: Table, row: Row) -> None:
        """Judge the transaction that a row, just written alone, belongs to. Raises SyncError 409."""
        transaction = transaction_of(table, row)
        breaches = await self.check_transactions([transaction] if transaction is not None else [])
        for breach in breaches.values():
            raise breach_error(breach)

    async def check_transactions(self, ids: Iterable[int]) -> dict[int, Breach]:
        """Judge transactions as they stand now; return what is wrong, by id."""
        wanted = sorted(set(ids))
        if not wanted:
            return {}
        sql = _SUMS.format(marks=", ".join("%s" for _ in wanted))
        sums = {}
        for row in await self.session.fetch_all(sql, (self.company_id, *wanted)):
            record_id, total, is_posted, lines, line_amount, entries, debit, credit = row
            sums[record_id] = TransactionSums(
                Decimal(total), bool(is_posted), lines, Decimal(line_amount), entries, Decimal(debit), Decimal(credit)
            )
        return _judged(sums)

    async def _check_part(self, table: Table, before: Row | None, after: Row | None) -> Breach | None:
        """A line, entry or movement counts with its document's date, and stays where the document does."""
        assert table.head is not None
        head_table = TABLES[table.references[table.head]]
        for row in (before, after):
            head = await self._referenced(head_table, row, table.head)
            breach = check_period(head_table.name, head, None, self.locked_until) if head is not None else None
            if breach is not None:
                return breach
        transaction = await self._referenced(TABLES["transactions"], before, "transaction_id")
        invoice = await self._referenced(TABLES["invoices"], before, "invoice_id")
        return check_part(table.name, transaction, invoice, is_new=before is None)

    async def _referenced(self, table: Table, row: Row | None, column: str) -> Row | None:
        record_id = row.get(column) if row is not None else None
        return await self.find_row(table, record_id) if isinstance(record_id, int) else None

    async def _check_unreferenced(self, table: Table, record_id: int) -> Breach | None:
        for name, column in documents_that_refer_to(table.name):
            sql = f"SELECT 1 FROM `{name}` WHERE company_id = %s AND `{column}` = %s AND deleted_at IS NULL LIMIT 1"
            if await self.session.fetch_one(sql, (self.company_id, record_id)):
                message = f"{name} refer to this row of {table.name}: make it inactive instead"
                return Breach("referenced", message, details={"referenced_by": name})
        return None


def check_new_transactions(transactions: Iterable[Row], lines: Iterable[Row], entries: Iterable[Row]) -> dict[int, Breach]:
    """Judge transactions that were made just now, by all the rows they can have, as wire values; return what is wrong, by id."""
    lines_of, entries_of = _by_transaction(lines), _by_transaction(entries)
    sums = {}
    for row in transactions:
        if row["deleted_at"] is None:
            own_lines, own_entries = lines_of[row["id"]], entries_of[row["id"]]
            sums[row["id"]] = TransactionSums(
                Decimal(row["total_amount"]),
                bool(row["is_posted"]),
                len(own_lines),
                _sum(own_lines, "line_amount"),
                len(own_entries),
                _sum(own_entries, "debit"),
                _sum(own_entries, "credit"),
            )
    return _judged(sums)


def _by_transaction(rows: Iterable[Row]) -> Mapping[int, list[Row]]:
    live: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        if row["deleted_at"] is None:
            live[row["transaction_id"]].append(row)
    return live


def _sum(rows: Iterable[Row], column: str) -> Decimal:
    return sum((Decimal(row[column]) for row in rows if row[column] is not None), Decimal(0))


def _judged(sums: Mapping[int, TransactionSums]) -> dict[int, Breach]:
    return {record_id: breach for record_id, one in sums.items() if (breach := check_sums(one)) is not None}


def books_of(session: Session, company_id: int, locked_until: dt.date | None) -> Bookkeeping:
    """Return the rules for a transaction that writes single rows: what they refer to is read FOR SHARE."""

    async def find_row(table: Table, record_id: int) -> Row | None:
        return (await share_rows(session, table, company_id, [record_id])).get(record_id)

    return Bookkeeping(session, company_id, locked_until, find_row)


def breach_error(breach: Breach) -> SyncError:
    """Return the 409 of a rule that is against a single write."""
    return SyncError(409, breach.code, breach.message, details=breach.details)


def transaction_of(table: Table, row: Row) -> int | None:
    """Return the transaction that a row may unbalance."""
    record_id = row.get("id") if table.name == "transactions" else row.get("transaction_id") if table.name in BALANCED else None
    return record_id if isinstance(record_id, int) else None
