"""Somebody at a plain SQL client, who knows nothing of sync and writes at a steady rate; a beat shows how late it arrives."""

from __future__ import annotations

import json
import time
from array import array
from collections.abc import Callable, Sequence
from random import Random
from threading import Event
from typing import Any

from pymysql.connections import Connection

from cli.demo.office import Office

BEAT = "simulate.beat"
_BEAT_S = 0.5
_TICK_S = 0.1
_ROWS_MAX = 50
_COST_SHARE, _PRICE_SHARE, _COUNT_SHARE = 0.75, 0.85, 0.95

_SET_COSTS = "UPDATE products SET last_cost = %s + id %% 100 / 100 WHERE company_id = %s AND id IN %s"
_SET_PRICES = "UPDATE products SET sale_price = %s + id %% 100 / 100 WHERE company_id = %s AND id IN %s"
_COUNT_STOCK = "INSERT INTO stock_ledger (company_id, product_id, date, movement_type, quantity_delta) VALUES "
_ADD_SUPPLIERS = "INSERT INTO parties (company_id, name, party_type, customer_class) VALUES "
_DELETE_SUPPLIERS = "DELETE FROM parties WHERE company_id = %s AND id IN %s"
_ADD_BEAT = "INSERT INTO settings (company_id, name, value) VALUES (%s, %s, '0')"
_BEAT_NOW = "UPDATE settings SET value = %s WHERE company_id = %s AND name = %s"


class Desk(Office):
    """One company's, with a connection and a thread of its own. `rows` counts rows inserted, updated and deleted; `beats` has when
    the COMMIT of each beat was answered (`time.monotonic`), `times` the seconds that it took.
    """

    def __init__(self, connection: Connection[Any], company_id: int, products: Sequence[int], random: Random) -> None:
        super().__init__(connection, company_id)
        self.rows = 0
        self.beats: list[float] = []
        self.times = array("d")
        self._products = products
        self._random = random
        self._suppliers = range(0)

    def open(self) -> None:
        """The row whose value is the beat's number."""
        self._execute(_ADD_BEAT, self._company_id, BEAT)

    def write(self, rows_per_second: float, stop: Event) -> None:
        """Write until told to stop. Raises pymysql.err.MySQLError."""
        started = time.monotonic()
        beat_at = started
        written = 0
        while not stop.wait(_TICK_S):
            now = time.monotonic()
            while (owed := int(rows_per_second * (now - started)) - written) > 0:
                count = min(owed, _ROWS_MAX)
                self.rows += self._write(count)
                written += count
            if now >= beat_at:
                asked = time.monotonic()
                self._execute(_BEAT_NOW, json.dumps(len(self.beats) + 1), self._company_id, BEAT)
                self.beats.append(time.monotonic())
                self.times.append(self.beats[-1] - asked)
                beat_at += _BEAT_S

    def _write(self, count: int) -> int:
        """One statement of about so many rows; returns how many it changed."""
        what = self._random.random()
        if what < _PRICE_SHARE:
            ids = self._random.sample(self._products, min(count, len(self._products)))
            statement = _SET_COSTS if what < _COST_SHARE else _SET_PRICES
            return self._execute(statement, self._random.randrange(1, 50), self._company_id, ids)
        if what < _COUNT_SHARE:
            return self._insert(_COUNT_STOCK, count, lambda: (self._random.choice(self._products), "2017-12-30", "inAdjustment", 1))
        return self._change_suppliers(count)

    def _change_suppliers(self, count: int) -> int:
        """New suppliers; the ones before them go, by a hard DELETE."""
        deleted = self._execute(_DELETE_SUPPLIERS, self._company_id, list(self._suppliers)) if self._suppliers else 0
        name = f"供应商 {self._random.randrange(10**6)}"
        added = self._insert(_ADD_SUPPLIERS, count, lambda: (name, "supplier", "wholesaler"))
        with self._connection.cursor() as cursor:
            cursor.execute("SELECT LAST_INSERT_ID()")
            first = int((cursor.fetchone() or (0,))[0])
        self._suppliers = range(first, first + count)  # InnoDB numbers the rows of a simple INSERT one after the other
        return deleted + added

    def _insert(self, head: str, count: int, values: Callable[[], tuple[Any, ...]]) -> int:
        rows = [(self._company_id, *values()) for _ in range(count)]
        places = ", ".join(["(" + ", ".join(["%s"] * len(row)) + ")" for row in rows])
        return self._execute(head + places, *(value for row in rows for value in row))
