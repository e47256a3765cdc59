"""The accounting rules, pure (domain.md, rules 1–4 and 7)."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema.rules import (
    Breach,
    TransactionSums,
    check_document,
    check_entry,
    check_part,
    check_period,
    check_sums,
    documents_that_refer_to,
)

LOCKED = dt.date(2026, 3, 31)
cents = st.integers(0, 10_000_000).map(lambda n: Decimal(n) / 100)


def code(breach: Breach | None) -> str | None:
    return breach.code if breach else None


def sums(**more: object) -> TransactionSums:
    values = {
        "total_amount": "0",
        "is_posted": True,
        "lines": 0,
        "line_amount": "0",
        "entries": 0,
        "debit": "0",
        "credit": "0",
        **more,
    }
    amounts = {name: Decimal(str(values[name])) for name in ("total_amount", "line_amount", "debit", "credit")}
    return TransactionSums(
        is_posted=bool(values["is_posted"]), lines=int(str(values["lines"])), entries=int(str(values["entries"])), **amounts
    )


@pytest.mark.parametrize(
    ("debit", "credit", "wanted"),
    [
        ("1.00", "0.00", None),
        ("0.00", "1.00", None),
        ("0.00", "0.00", None),
        ("-1.00", "0.00", "unbalanced"),
        ("1.00", "1.00", "unbalanced"),
    ],
)
def test_a_journal_entry_has_one_side_and_is_not_negative(debit: str, credit: str, wanted: str | None) -> None:
    assert code(check_entry({"debit": debit, "credit": credit})) == wanted


@given(cents, cents)
def test_entries_balance_exactly_or_are_refused_and_may_be_sent_again(debit: Decimal, credit: Decimal) -> None:
    breach = check_sums(sums(entries=2, debit=debit, credit=credit))
    assert (breach is None) == (debit == credit)
    assert breach is None or breach.is_retryable


@given(cents, st.integers(1, 20), st.integers(-30, 30))
def test_lines_add_up_to_the_total_within_a_cent_a_line(total: Decimal, lines: int, off: int) -> None:
    amount = total + Decimal(off) / 100
    breach = check_sums(sums(total_amount=total, lines=lines, line_amount=amount))
    assert (breach is None) == (abs(off) <= lines)


def test_a_draft_and_a_head_without_lines_are_not_checked() -> None:
    assert check_sums(sums(total_amount="9.00", lines=1, line_amount="1.00", is_posted=False)) is None
    assert check_sums(sums(total_amount="9.00")) is None


@pytest.mark.parametrize(
    ("day", "wanted"), [("2026-03-31", "period_locked"), ("2026-04-01", None), ("2020-01-01", "period_locked")]
)
def test_nothing_is_dated_in_a_locked_period_before_or_after(day: str, wanted: str | None) -> None:
    row, later = {"invoice_date": day}, {"invoice_date": "2026-05-01"}
    assert code(check_period("invoices", None, row, LOCKED)) == wanted
    assert code(check_period("invoices", row, later, LOCKED)) == wanted, "it is not moved out of it either"
    assert code(check_period("invoices", later, row, LOCKED)) == wanted
    assert code(check_period("invoices", row, None, LOCKED)) == wanted, "nor deleted"
    assert check_period("invoices", row, row, None) is None
    assert check_period("parties", {}, {}, LOCKED) is None


def test_a_locked_period_says_the_first_open_date() -> None:
    breach = check_period("payment_ins", None, {"receipt_date": "2026-03-01"}, LOCKED)
    assert breach is not None and breach.details == {"first_open_date": "2026-04-01"}


def test_a_posted_transaction_does_not_change_and_an_unposted_one_does() -> None:
    posted, draft = {"is_posted": True, "description": "a"}, {"is_posted": False, "description": "a"}
    assert code(check_document("transactions", posted, {**posted, "description": "b"})) == "immutable"
    assert code(check_document("transactions", posted, None)) == "immutable"
    assert check_document("transactions", draft, {**draft, "is_posted": True}) is None


@pytest.mark.parametrize(
    ("before", "change", "wanted"),
    [
        ("draft", {"grand_total": "2.00"}, None),
        ("sent", {"grand_total": "2.00"}, "immutable"),
        ("sent", {"status": "paid"}, None),
        ("sent", {"status": "void"}, None),
        ("sent", {"notes": "late", "due_date": "2026-05-01"}, None),
        ("sent", {"status": "draft"}, "immutable"),
        ("void", {"status": "sent"}, "immutable"),
        ("void", {"notes": "why"}, None),
    ],
)
def test_an_issued_invoice_only_changes_as_paying_and_voiding_do(before: str, change: dict[str, str], wanted: str | None) -> None:
    row = {"status": before, "grand_total": "1.00", "notes": None, "due_date": None}
    assert code(check_document("invoices", row, {**row, **change})) == wanted


def test_parts_of_issued_documents_stay_but_new_ones_may_come() -> None:
    posted, issued, draft = {"is_posted": True}, {"status": "sent"}, {"status": "draft"}
    assert code(check_part("transaction_lines", posted, None, is_new=False)) == "immutable"
    assert code(check_part("stock_ledger", None, issued, is_new=False)) == "immutable"
    assert check_part("stock_ledger", None, draft, is_new=False) is None
    assert check_part("transaction_lines", posted, None, is_new=True) is None
    assert check_part("payment_in_lines", posted, None, is_new=False) is None


def test_documents_that_refer_to_a_product_are_found_from_the_declarations() -> None:
    assert set(documents_that_refer_to("products")) == {("transaction_lines", "product_id"), ("stock_ledger", "product_id")}
