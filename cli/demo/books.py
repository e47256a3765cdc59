"""A basket as a bookkeeper has it: the documents of one posted sale, which stand or fall together. Pure.

The sale's total is what the retailer receives. Cash takes what the household pays; a manufacturer's coupon is owed by the
manufacturer; what the loyalty card took off the shelf price is an entry of its own, so that revenue is at shelf prices.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from cli.demo.retailer import Basket, BasketLine

CASH, COUPONS_OWED, INVENTORY = "1000", "1100", "1200"
SALES, DISCOUNTS, COST_OF_GOODS = "4000", "4900", "5000"


@dataclass(frozen=True, slots=True)
class NewRow:
    """A row that a till makes: the name it gives it, and its columns. References are local ids or server ids."""

    table: str
    local_id: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ledger:
    """What a till looks up in its own store: accounts by code, products by SKU, and its drawer, a payment account."""

    accounts: Mapping[str, Mapping[str, Any]]
    products: Mapping[str, Mapping[str, Any]]
    drawer_id: int


@dataclass(frozen=True, slots=True)
class Sale:
    """A basket rung up: its number is made offline, so it holds the till's code; `party` is the household's local id."""

    basket: Basket
    till_code: str
    number: int
    party: str

    @property
    def name(self) -> str:
        """The prefix of the local ids of this sale's documents."""
        return f"basket-{self.basket.basket_id}"

    @property
    def invoice_number(self) -> str:
        return f"INV-{self.till_code}-{self.number:06d}"

    @property
    def paid(self) -> Decimal:
        """What the household pays; coupons worth more than the basket are not paid out."""
        return max(self.basket.total - sum((line.coupon for line in self.basket.lines), Decimal(0)), Decimal(0))


def sale_documents(sale: Sale, ledger: Ledger) -> list[NewRow]:
    """Return transaction, lines, invoice, journal entries that balance, payment and stock movements of one sale."""
    basket, name = sale.basket, sale.name
    date = basket.at.date().isoformat()
    heads = [
        NewRow(
            "transactions",
            name,
            {
                "type": "sale",
                "date": date,
                "reference_no": sale.invoice_number,
                "party_id": sale.party,
                "payment_account_id": ledger.drawer_id,
                "description": f"basket {basket.basket_id} at {basket.at:%H:%M:%S}",
                "total_amount": str(basket.total),
                "is_posted": True,
            },
        ),
        NewRow(
            "invoices",
            f"{name}/invoice",
            {
                "transaction_id": name,
                "invoice_type": "sale",
                "invoice_number": sale.invoice_number,
                "party_id": sale.party,
                "invoice_date": date,
                "due_date": date,
                "grand_total": str(basket.total),
                "status": "paid",
            },
        ),
    ]
    return [*heads, *_lines(sale, ledger), *_entries(sale, ledger, date), *_payment(sale, ledger, date)]


def _lines(sale: Sale, ledger: Ledger) -> Iterator[NewRow]:
    """Each line with the movement that takes it from the shelf."""
    date = sale.basket.at.date().isoformat()
    for number, line in enumerate(sale.basket.lines, 1):
        product = ledger.products[str(line.product_id)]
        yield NewRow(
            "transaction_lines",
            f"{sale.name}/line-{number}",
            {
                "transaction_id": sale.name,
                "product_id": product["id"],
                "description": product["name"],
                "quantity": str(line.quantity),
                "unit_price": str(round(line.gross / line.quantity, 2)),
                "line_amount": str(line.amount),
            },
        )
        yield NewRow(
            "stock_ledger",
            f"{sale.name}/out-{number}",
            {
                "product_id": product["id"],
                "date": date,
                "movement_type": "outSale",
                "quantity_delta": str(-line.quantity),
                "unit_cost": product["last_cost"],
                "total_cost": str(_cost(line, product)),
                "transaction_id": sale.name,
                "invoice_id": f"{sale.name}/invoice",
            },
        )


def _entries(sale: Sale, ledger: Ledger, date: str) -> Iterator[NewRow]:
    """Debits equal credits: paid + coupons + discounts = sales at shelf prices, and cost = what leaves the inventory."""
    total, zero = sale.basket.total, Decimal(0)
    discount = sum((line.discount for line in sale.basket.lines), zero)
    cost = sum((_cost(line, ledger.products[str(line.product_id)]) for line in sale.basket.lines), zero)
    entries = [
        (CASH, "debit", sale.paid),
        (COUPONS_OWED, "debit", total - sale.paid),
        (DISCOUNTS, "debit", discount),
        (SALES, "credit", total + discount),
        (COST_OF_GOODS, "debit", cost),
        (INVENTORY, "credit", cost),
    ]
    for code, side, amount in entries:
        if amount:
            yield NewRow(
                "account_transactions",
                f"{sale.name}/entry-{code}",
                {
                    "account_id": ledger.accounts[code]["id"],
                    "transaction_type": "saleInvoice",
                    "transaction_id": sale.name,
                    "transaction_date": date,
                    side: str(amount),
                    "description": ledger.accounts[code]["name"],
                    "reference_no": sale.invoice_number,
                    "party_id": sale.party,
                },
            )


def _payment(sale: Sale, ledger: Ledger, date: str) -> Iterator[NewRow]:
    if not sale.paid:
        return
    receipt = f"{sale.name}/receipt"
    receipt_no = f"RCP-{sale.till_code}-{sale.number:06d}"
    yield NewRow(
        "payment_ins",
        receipt,
        {
            "receipt_no": receipt_no,
            "receipt_date": date,
            "party_id": sale.party,
            "total_amount": str(sale.paid),
            "description": sale.invoice_number,
        },
    )
    yield NewRow(
        "payment_in_lines",
        f"{receipt}/line",
        {
            "payment_in_id": receipt,
            "payment_account_id": ledger.drawer_id,
            "amount": str(sale.paid),
            "reference_no": receipt_no,
        },
    )


def _cost(line: BasketLine, product: Mapping[str, Any]) -> Decimal:
    return round(line.quantity * Decimal(product["last_cost"]), 2)
