"""Roles as data (domain.md): which tables a role reads and writes, whose rows, and who may see restricted columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schema.tables import TABLES

ALL = frozenset(TABLES)
SALE_TYPES = frozenset({"sale", "saleReturn"})
_SALES_WRITES = frozenset(
    {"parties", "transactions", "transaction_lines", "invoices", "stock_ledger", "payment_ins", "payment_in_lines"}
)
# What sale documents refer to, payment accounts without their restricted columns, and the company that heads a receipt.
_SALES_READS = _SALES_WRITES | {"companies", "products", "item_categories", "units_of_measure", "payment_accounts"}


@dataclass(frozen=True, slots=True)
class Role:
    """What one role may do in its company."""

    name: str
    readable: frozenset[str]
    writable: frozenset[str]
    may_see_restricted: bool = False
    may_resolve_conflicts: bool = False
    may_write_owners: bool = False
    is_limited_to_own_sales: bool = False


ROLES: Mapping[str, Role] = {
    role.name: role
    for role in (
        Role("owner", ALL, ALL, may_see_restricted=True, may_resolve_conflicts=True, may_write_owners=True),
        Role("admin", ALL, ALL, may_see_restricted=True, may_resolve_conflicts=True),
        Role(
            "accountant",
            ALL - {"users"},
            ALL - {"users", "companies"},
            may_see_restricted=True,
            may_resolve_conflicts=True,
        ),
        Role("sales", _SALES_READS, _SALES_WRITES, is_limited_to_own_sales=True),
        Role("viewer", ALL, frozenset()),
    )
}


def is_own_sale(table: str, row: Mapping[str, Any], head: Mapping[str, Any] | None, user_id: int) -> bool:
    """Tell whether a row belongs to a sale document that the user made.

    `head` is the row of `transactions` or `payment_ins` that `row` refers to. A sale invoice that is not posted yet has none.
    """
    match table:
        case "transactions":
            return row.get("type") in SALE_TYPES and row.get("created_by_user_id") == user_id
        case "payment_ins":
            return row.get("created_by_user_id") == user_id
        case "invoices" if row.get("invoice_type") not in SALE_TYPES:
            return False
        case "invoices" if row.get("transaction_id") is None:
            return True
        case "transaction_lines" | "invoices" | "stock_ledger":
            return head is not None and head.get("type") in SALE_TYPES and head.get("created_by_user_id") == user_id
        case "payment_in_lines":
            return head is not None and head.get("created_by_user_id") == user_id
        case _:
            return True
