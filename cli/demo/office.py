"""The back office: somebody at a plain SQL client, who knows nothing of sync. Devices hear of it from the binlog."""

from __future__ import annotations

import json
from typing import Any

import pymysql
from pymysql.connections import Connection

CLOSED = "demo.closed"
_DEADLOCK = 1213
_ATTEMPTS_MAX = 10
_ADD_SUPPLIERS = """
INSERT INTO parties (company_id, name, party_type, customer_class) VALUES
    (%s, 'Nordmühle Großhandel', 'supplier', 'wholesaler'), (%s, '東京青果株式会社', 'supplier', 'wholesaler'),
    (%s, 'شركة البحر للتجارة', 'supplier', 'wholesaler'), (%s, 'ООО «Молоко»', 'supplier', 'wholesaler')
"""
_RAISE_PRICES = """
UPDATE products p JOIN item_categories c ON c.company_id = p.company_id AND c.id = p.category_id
SET p.sale_price = ROUND(p.sale_price * 1.05, 2) WHERE p.company_id = %s AND c.name = %s
"""
_READ_PRICE = "SELECT sale_price FROM products WHERE company_id = %s AND id = %s"
_DELETE_SUPPLIER = "DELETE FROM parties WHERE company_id = %s AND name = 'Nordmühle Großhandel'"
_CLOSE = "INSERT INTO settings (company_id, name, value) VALUES (%s, %s, %s)"


class Office:
    """One company's back office on a connection of its own, in autocommit mode."""

    def __init__(self, connection: Connection[Any], company_id: int) -> None:
        self._connection = connection
        self._company_id = company_id

    def add_suppliers(self) -> int:
        """A multi-row INSERT. Returns the number of rows."""
        return self._execute(_ADD_SUPPLIERS, *[self._company_id] * 4)

    def raise_prices(self, category: str) -> int:
        """Five per cent on everything in a category. Returns the number of rows."""
        return self._execute(_RAISE_PRICES, self._company_id, category)

    def price(self, product_id: int) -> str:
        """A product's sale price as it is now."""
        with self._connection.cursor() as cursor:
            cursor.execute(_READ_PRICE, (self._company_id, product_id))
            row = cursor.fetchone()
        return str(row[0]) if row else ""

    def delete_supplier(self) -> int:
        """A hard DELETE of a party without documents. Returns the number of rows."""
        return self._execute(_DELETE_SUPPLIER, self._company_id)

    def close_books(self, run_id: str) -> int:
        """The last write of the demo: a device that has it has everything before it."""
        return self._execute(_CLOSE, self._company_id, CLOSED, json.dumps({"run": run_id}))

    def _execute(self, statement: str, *params: Any) -> int:
        """A statement that MySQL chose as the victim of a deadlock with pushes is run again, as its manual advises."""
        for attempt in range(_ATTEMPTS_MAX):
            try:
                with self._connection.cursor() as cursor:
                    return int(cursor.execute(statement, params))
            except pymysql.err.OperationalError as problem:
                if problem.args[0] != _DEADLOCK or attempt == _ATTEMPTS_MAX - 1:
                    raise
        raise AssertionError("the last attempt returns or raises")
