"""What people do on a phone to the records that everything else refers to. Every text and sum that is written is written once only,
so that an old value that comes back is seen.
"""

from __future__ import annotations

from random import Random

from tests.convergence.phone import Phone
from tests.convergence.script import EDITED
from tests.oracle import Row

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
MERGED = ("products", "item_categories", "units_of_measure")
"""Tables whose policy keeps the edits of both sides."""
SKUS, CODES, SETTINGS = ("A", "B", "C"), ("10", "20"), ("theme", "paper", "tax")


def word(rng: Random) -> str:
    """A text that is written once only."""
    return f"w{rng.getrandbits(40):010x}"


def first_word(table: str, row: Row) -> str | None:
    """The word a record was made with, where it still stands in this image."""
    value = row.get("value") if table == "settings" else row.get(TEXTS[table][0]) if table in TEXTS else None
    return str(value["at"]) if isinstance(value, dict) else value


def edit(phone: Phone, rng: Random) -> str:
    """One edit offline: a new record, a change or a deletion of one that is held. Returns it for people."""
    held: list[tuple[str, int | str]] = [record for record in (*phone.rows, *phone.drafts) if record[0] in EDITED]
    roll = rng.random()
    if not held or roll < 0.25:
        table = rng.choice(EDITED)
        data = new_row(phone, table, rng)
        return f"inserts {table} {phone.insert(table, **data)} {data}"
    mergeable = [record for record in held if record[0] in MERGED]
    table, record = rng.choice(mergeable if mergeable and rng.random() < 0.4 else held)
    if roll < 0.88:
        changed = _changes(phone, table, rng)
        phone.update(table, record, **changed)
        return f"updates {table} {record} {changed}"
    phone.delete(table, record)
    return f"deletes {table} {record}"


def new_row(phone: Phone, table: str, rng: Random) -> Row:
    """A new record as a person would type it."""
    match table:
        case "products":
            row: Row = {"name": word(rng), "sale_price": _sum(rng), "sku": rng.choice((*SKUS, None, None, None))}
            references = (("category_id", "item_categories"), ("uom_id", "units_of_measure"))
            return row | {column: reference(phone, target, rng) for column, target in references if rng.random() < 0.5}
        case "parties":
            return {"name": word(rng), "party_type": rng.choice(("customer", "supplier")), "credit_limit": _sum(rng)}
        case "payment_accounts":
            return {"account_name": word(rng), "account_type": "bank", "account_number": word(rng), "is_active": rng.random() < 0.5}
        case "item_categories":
            return {"name": word(rng), "parent_category_id": reference(phone, "item_categories", rng)}
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
                {"category_id": reference(phone, "item_categories", rng)},
            )
        )
    if table == "parties" and rng.random() < 0.3:
        changed |= {"payment_terms_days": rng.randint(1, 90), "is_active": rng.random() < 0.5}
    return changed


def reference(phone: Phone, table: str, rng: Random) -> int | str | None:
    """A record that the device holds, a draft among them, or none."""
    held: list[int | str] = [key for name, key in (*phone.rows, *phone.drafts) if name == table]
    return rng.choice(held) if held and rng.random() < 0.8 else None


def _sum(rng: Random) -> str:
    return f"{rng.randint(1, 9_999_999) / 100:.2f}"
