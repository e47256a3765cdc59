"""Documents on a phone: sales with lines, entries, stock and an invoice, voids by reversing entries, and what the rules forbid."""

from __future__ import annotations

from random import Random
from typing import Any

from tests.convergence.edits import reference, word
from tests.convergence.phone import Phone
from tests.oracle import Row

DAYS = ("2026-01-15", "2026-02-15", "2026-03-15")
SPOILED = 0.08


def sell(phone: Phone, rng: Random) -> str:
    """A sale: a transaction with two lines that add up, its invoice, and, where the phone holds accounts, its entries. Now and then
    one that does not add up.
    """
    day, party, group = rng.choice(DAYS), reference(phone, "parties", rng), _group(phone, rng)
    is_posted, is_spoiled = rng.random() < 0.5, rng.random() < SPOILED
    made: list[tuple[str, str]] = []

    def add(table: str, **row: Any) -> str:
        made.append((table, phone.insert(table, group=group, **row)))
        return made[-1][1]

    sale = {"type": "sale", "date": day, "party_id": party, "total_amount": "30.00", "is_posted": is_posted}
    head = add("transactions", **sale, description=word(rng))
    for amount in ("10.00", "21.00" if is_spoiled and is_posted else "20.00"):
        product = reference(phone, "products", rng)
        line = {"transaction_id": head, "product_id": product, "quantity": "1.000", "unit_price": amount, "line_amount": amount}
        add("transaction_lines", **line, description=word(rng))
        if isinstance(product, int) and rng.random() < 0.3:
            stock = {"product_id": product, "movement_type": "outSale", "quantity_delta": "-1.000", "transaction_id": head}
            add("stock_ledger", **stock, date=day)
    number = word(rng) if rng.random() < 0.8 else "INV-1"
    status = rng.choice(("draft", "sent", "paid"))
    invoice = {"transaction_id": head, "party_id": party, "invoice_date": day, "grand_total": "30.00", "status": status}
    add("invoices", invoice_type="sale", invoice_number=number, notes=word(rng), **invoice)
    accounts = [key for table, key in phone.rows if table == "accounts"]
    for side in ("debit", "credit") if accounts and rng.random() < 0.7 else ():
        amount = "31.00" if is_spoiled and side == "debit" else "30.00"
        add("account_transactions", **_entry(rng.choice(accounts), head, day, side, amount), description=word(rng))
    if is_spoiled:
        phone.spoiled.update(made)
    return f"sells {made}"


def void(phone: Phone, rng: Random) -> str:
    """Void an invoice that is out: its status, and an entry against each entry of its transaction, all of one day: else a lock of
    the books could refuse one of them, and the others would be unbalanced for ever.
    """
    held = [(key[1], row) for key, row in phone.rows.listed() if key[0] == "invoices" and row["status"] not in ("draft", "void")]
    if not held:
        return "has nothing to void"
    invoice_id, invoice = rng.choice(held)
    group, day = _group(phone, rng), rng.choice(DAYS)
    phone.update("invoices", invoice_id, group=group, status="void")
    transaction = invoice.get("transaction_id") or 0
    rows = [row for key, row in phone.rows.listed() if key[0] == "account_transactions" and row["transaction_id"] == transaction]
    made = []
    for entry in rows:
        side, amount = ("credit", entry["debit"]) if float(entry["debit"]) else ("debit", entry["credit"])
        against = _entry(entry["account_id"], transaction, day, side, amount)
        made.append(phone.insert("account_transactions", group=group, **against, description=word(rng)))
    entries = frozenset(("account_transactions", local_id) for local_id in made)
    phone.voids.append(entries)
    if sum(float(row["debit"]) - float(row["credit"]) for row in rows):  # the phone deleted one of them
        phone.spoiled.update(entries)
    return f"voids {invoice_id}: {made}"


def amend(phone: Phone, rng: Random) -> str:
    """Change a document or a part of one; where it is posted, only paying it and its notes are allowed."""
    choices: dict[str, tuple[Row, ...]] = {
        "invoices": ({"notes": word(rng)}, {"status": "paid"}, {"grand_total": "31.00"}),
        "transactions": ({"description": word(rng)}, {"is_posted": True}, {"date": rng.choice(DAYS)}),
        "transaction_lines": ({"description": word(rng)},),
        "account_transactions": ({"description": word(rng)},),
        "stock_ledger": ({"date": rng.choice(DAYS)},),
    }
    held = [key for key in phone.rows if key[0] in choices]
    if not held:
        return "has nothing to amend"
    table, record_id = rng.choice(held)
    if rng.random() < 0.15:
        phone.delete(table, record_id)
        return f"deletes {table} {record_id}"
    changed = rng.choice(choices[table])
    phone.update(table, record_id, **changed)
    return f"amends {table} {record_id} {changed}"


def _entry(account: int, transaction: int | str, day: str, side: str, amount: str) -> Row:
    row = {"account_id": account, "transaction_id": transaction, "transaction_date": day, "transaction_type": "saleInvoice"}
    return {**row, "debit": "0.00", "credit": "0.00", side: amount}


def _group(phone: Phone, rng: Random) -> str | None:
    """A full device may say what belongs together."""
    return word(rng) if not phone.is_naive and rng.random() < 0.5 else None
