"""Every synced table, declared once. Decoding, validation, endpoints, policies and SQL identifiers derive from here.

`schema.database_check` compares the declarations with information_schema at each start.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType

from schema.columns import (
    ID_MAX,
    Access,
    Column,
    date,
    enum,
    flag,
    integer,
    json_value,
    long_text,
    money,
    quantity,
    reference,
    text,
    timestamp,
)


class Policy(StrEnum):
    """What happens when two devices changed the same record since their base (contract §3)."""

    SERVER_WINS = "server_wins"
    MERGE = "merge"
    LATEST = "latest"
    MANUAL = "manual"


ID = reference("id", None, required=True)
COMPANY_ID = reference("company_id", None, required=True)
TIMES = (timestamp("created_at"), timestamp("updated_at"), timestamp("deleted_at", nullable=True))
WRITER_COLUMN = "created_by_user_id"
"""Set to the writer at INSERT, whatever is sent, and never changed afterwards (domain.md, rule 5)."""
RESERVED = frozenset({"id", "company_id", "created_at", "updated_at", "deleted_at"})
"""Columns that never take effect from a client's `data`."""


@dataclass(frozen=True, slots=True)
class UniqueKey:
    """Columns whose values are unique in a company: a document number over all rows, anything else among live ones."""

    name: str
    columns: tuple[str, ...]
    is_document_number: bool = False


@dataclass(frozen=True)
class Table:
    """One synced table: `own` are the columns a client may write, `head` the reference to the document a line belongs to."""

    name: str
    own: tuple[Column, ...]
    policy: Policy = Policy.SERVER_WINS
    head: str | None = None
    unique: UniqueKey | None = None
    is_scope: bool = False

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """All columns in the order of the wire and of the MySQL table."""
        scope = () if self.is_scope else (COMPANY_ID,)
        return (ID, *scope, *self.own, *TIMES)

    @cached_property
    def by_name(self) -> MappingProxyType[str, Column]:
        """All columns by name."""
        return MappingProxyType({column.name: column for column in self.columns})

    @cached_property
    def writable(self) -> MappingProxyType[str, Column]:
        """The columns that may take effect from `data`, private ones left out."""
        return MappingProxyType({c.name: c for c in self.own if c.access is not Access.PRIVATE})

    @cached_property
    def public(self) -> tuple[Column, ...]:
        """The columns of `data` as the change log stores it."""
        return tuple(c for c in self.columns if c.access is Access.PUBLIC)

    @cached_property
    def restricted(self) -> tuple[Column, ...]:
        """The columns of `sealed`."""
        return tuple(c for c in self.columns if c.access is Access.RESTRICTED)

    @cached_property
    def client_references(self) -> MappingProxyType[str, str]:
        """The references that take effect from `data`."""
        writable = {name: target for name, target in self.references.items() if name in self.writable}
        return MappingProxyType({name: target for name, target in writable.items() if name != WRITER_COLUMN})

    @cached_property
    def references(self) -> MappingProxyType[str, str]:
        """Column → referenced synced table."""
        return MappingProxyType({c.name: c.references for c in self.own if c.references})

    @property
    def company_column(self) -> str:
        """The column that says which company a row belongs to."""
        return "id" if self.is_scope else "company_id"


_DOCUMENT_KINDS = ("sale", "purchase", "saleReturn", "purchaseReturn")

_ALL = (
    Table(
        "companies",
        (
            text("name", required=True),
            text("primary_currency", 3, fixed=True),
            integer("financial_year_start_month", "tinyint unsigned", 0, 255),
            long_text("address"),
            text("phone"),
            text("email"),
            flag("is_active", default=True),
            date("books_locked_until"),
        ),
        is_scope=True,
    ),
    Table(
        "users",
        (
            reference("login_id", None, access=Access.PRIVATE),
            text("full_name", required=True),
            text("email"),
            enum("role", "owner", "admin", "accountant", "sales", "viewer", default="viewer"),
            flag("is_active", default=True),
        ),
    ),
    Table(
        "parties",
        (
            text("name", required=True),
            enum("party_type", "customer", "supplier", "both", default="customer"),
            enum("customer_class", "retailer", "wholesaler", "other", default="other"),
            text("phone"),
            text("email"),
            long_text("address"),
            text("tax_number"),
            money("opening_balance"),
            money("credit_limit"),
            integer("payment_terms_days", "int", -(1 << 31), (1 << 31) - 1),
            flag("is_active", default=True),
        ),
        Policy.LATEST,
    ),
    Table(
        "item_categories",
        (text("name", required=True), reference("parent_category_id", "item_categories")),
        Policy.MERGE,
    ),
    Table("units_of_measure", (text("name", required=True), text("abbrev")), Policy.MERGE),
    Table(
        "products",
        (
            text("sku"),
            text("name", required=True),
            long_text("description"),
            reference("category_id", "item_categories"),
            reference("uom_id", "units_of_measure"),
            flag("is_tracked", default=True),
            money("last_cost"),
            money("sale_price"),
            quantity("opening_qty"),
            flag("is_active", default=True),
        ),
        Policy.MERGE,
        unique=UniqueKey("products_sku", ("sku",)),
    ),
    Table(
        "accounts",
        (
            text("name", required=True),
            text("code"),
            enum("account_type", "asset", "liability", "equity", "revenue", "expense"),
            reference("parent_account_id", "accounts"),
            long_text("description"),
            money("opening_balance"),
            flag("is_system"),
            flag("is_active", default=True),
        ),
        unique=UniqueKey("accounts_code", ("code",)),
    ),
    Table(
        "payment_accounts",
        (
            enum("account_type", "cash", "bank", "cheque"),
            text("account_name", required=True),
            text("bank_name"),
            text("account_number", access=Access.RESTRICTED),
            text("ifsc_code", access=Access.RESTRICTED),
            text("icon"),
            flag("is_active", default=True),
            flag("is_default"),
        ),
    ),
    Table(
        "transactions",
        (
            enum("type", "sale", "purchase", "expense", "receipt", "payment", "saleReturn", "purchaseReturn", "journal"),
            date("date", required=True),
            text("reference_no"),
            reference("party_id", "parties"),
            reference("payment_account_id", "payment_accounts"),
            long_text("description"),
            money("total_amount"),
            flag("is_posted", default=True),
            reference("created_by_user_id", "users"),
        ),
    ),
    Table(
        "transaction_lines",
        (
            reference("transaction_id", "transactions", required=True),
            reference("product_id", "products"),
            reference("account_id", "accounts"),
            long_text("description"),
            quantity("quantity"),
            money("unit_price"),
            money("line_amount"),
        ),
        head="transaction_id",
    ),
    Table(
        "invoices",
        (
            reference("transaction_id", "transactions"),
            enum("invoice_type", *_DOCUMENT_KINDS),
            text("invoice_number", required=True),
            reference("party_id", "parties"),
            date("invoice_date", required=True),
            date("due_date"),
            money("grand_total"),
            enum("status", "draft", "sent", "paid", "overdue", "void", default="draft"),
            long_text("notes"),
        ),
        unique=UniqueKey(
            "invoices_invoice_number",
            (
                "invoice_type",
                "invoice_number",
            ),
            is_document_number=True,
        ),
    ),
    Table(
        "account_transactions",
        (
            reference("account_id", "accounts", required=True),
            enum(
                "transaction_type",
                "saleInvoice",
                "purchaseInvoice",
                "paymentIn",
                "paymentOut",
                "journalEntry",
                "saleReturn",
                "purchaseReturn",
                "expense",
            ),
            integer("reference_id", "bigint unsigned", 0, ID_MAX),
            reference("transaction_id", "transactions"),
            date("transaction_date", required=True),
            money("debit"),
            money("credit"),
            long_text("description"),
            text("reference_no"),
            reference("party_id", "parties"),
        ),
        head="transaction_id",
    ),
    Table(
        "payment_ins",
        (
            text("receipt_no", required=True),
            date("receipt_date", required=True),
            reference("party_id", "parties"),
            money("total_amount"),
            long_text("description"),
            text("attachment_path"),
            reference("created_by_user_id", "users"),
        ),
        unique=UniqueKey("payment_ins_receipt_no", ("receipt_no",), is_document_number=True),
    ),
    Table(
        "payment_in_lines",
        (
            reference("payment_in_id", "payment_ins", required=True),
            reference("payment_account_id", "payment_accounts"),
            money("amount"),
            text("reference_no"),
        ),
        head="payment_in_id",
    ),
    Table(
        "payment_outs",
        (
            text("voucher_no", required=True),
            date("voucher_date", required=True),
            reference("party_id", "parties"),
            money("total_amount"),
            long_text("description"),
            text("attachment_path"),
            reference("created_by_user_id", "users"),
        ),
        unique=UniqueKey("payment_outs_voucher_no", ("voucher_no",), is_document_number=True),
    ),
    Table(
        "payment_out_lines",
        (
            reference("payment_out_id", "payment_outs", required=True),
            reference("payment_account_id", "payment_accounts"),
            money("amount"),
            text("reference_no"),
        ),
        head="payment_out_id",
    ),
    Table(
        "stock_ledger",
        (
            reference("product_id", "products", required=True),
            date("date", required=True),
            enum("movement_type", "inPurchase", "outSale", "inAdjustment", "outAdjustment"),
            quantity("quantity_delta"),
            money("unit_cost"),
            money("total_cost"),
            reference("transaction_id", "transactions"),
            reference("invoice_id", "invoices"),
        ),
        head="transaction_id",
    ),
    Table(
        "settings", (text("name", required=True), json_value("value")), Policy.MANUAL, unique=UniqueKey("settings_name", ("name",))
    ),
)

TABLES: MappingProxyType[str, Table] = MappingProxyType({table.name: table for table in _ALL})
"""All synced tables by name, parents before the tables that refer to them."""
