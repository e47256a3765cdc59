"""One store on its days: a company, its tills, its back office, and what happens to them from opening to the last close."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol

from cli.demo.catalogue import category_name, setup_rows
from cli.demo.office import CLOSED, Office
from cli.demo.retailer import Basket, Product, StoreBook, TradingDay
from cli.demo.till import Till

BASKETS_PER_PUSH = 5
MARK_DOWN = Decimal("0.80")
ARRIVAL_S_MAX = 30
_POLL_S = 0.02


class Watcher(Protocol):
    """Who looks on; called from several threads."""

    def say(self, text: str) -> None: ...
    def advance(self, baskets: int) -> None: ...


@dataclass(slots=True)
class Events:
    """What happened beside the sales."""

    price_rows: int = 0
    price_seen_ms: int | None = None
    price_category: str = ""
    sql_rows: int = 0
    deleted: int = 0
    offline: str = ""


@dataclass(slots=True)
class Shop:
    """`tills[0]` sets the company up; `tills[-1]` is the one that will be offline for a day."""

    book: StoreBook
    tills: list[Till]
    office: Office
    pool: Executor
    watcher: Watcher
    events: Events = field(default_factory=Events)

    def set_up(self) -> None:
        """The first till fills the books, the others pull them. Raises Refused."""
        self.watcher.say("setting up")
        first = self.tills[0]
        first.sync()  # its company's own rows, which it will change
        first.edit("companies", first.company_id, {"primary_currency": "USD", "address": f"Store {self.book.store_id}"})
        first.insert(setup_rows(self.book.store_id, [*self.book.products.values(), *self.book.unsold]))
        first.sync()
        self.events.sql_rows += self.office.add_suppliers()
        self._all(self.tills, Till.sync)

    def play_day(self, number: int) -> None:
        """Open, sell, close. On the last till's busiest day that till is offline from opening to close. Raises Refused."""
        day = self.book.days[number]
        is_special = number == self._busiest_day_of(self.tills[-1])
        late = self.tills[-1]
        online = self.tills[:-1] if is_special else self.tills
        self.watcher.say(f"{day.date:%a %d %b}" + (f", till {late.code} offline" if is_special else ""))
        self._all(online, Till.sync)
        if is_special:
            self.events.offline = f"{late.code}, {day.date:%d %b}"
            if self.book.products:
                self._change_prices(online[0], late)
        self._all(self.tills, lambda till: self._sell(till, day, is_offline=till not in online))
        if is_special:
            late.sync(lose_an_answer=True)

    def close(self, run_id: str) -> None:
        """Delete what has no documents, write the last row, and let every till come up to it. Raises Refused."""
        self.watcher.say("closing the books")
        first = self.tills[0]
        if self.book.unsold:
            product = first.store.by("products", "sku")[str(self.book.unsold[0].product_id)]
            first.delete("products", product["id"])
            self.events.deleted += 1
        first.sync()
        deleted = self.office.delete_supplier()
        self.events.deleted += deleted
        self.events.sql_rows += deleted + self.office.close_books(run_id)
        self._all(self.tills, lambda till: _sync_until(till, lambda: CLOSED in till.store.by("settings", "name")))
        self.watcher.say("closed")

    def _change_prices(self, online: Till, late: Till) -> None:
        """The office raises a category's prices in SQL; the till that is offline marks two products of it down by itself.

        Of one it changes nothing but the price: a conflict, and SQL came first. Of the other also the description, which is merged.
        """
        products = _largest_category(self.book.products.values())
        known = late.store.by("products", "sku")
        priced = [known[str(product.product_id)] for product in products[:2]]
        for row, more in zip(priced, ({}, {"description": f"marked down at till {late.code}"}), strict=False):
            late.edit("products", row["id"], {"sale_price": str(round(Decimal(row["sale_price"]) * MARK_DOWN, 2)), **more})
        category = category_name(products[0])
        self.events.price_category = category
        self.events.price_rows = self.office.raise_prices(category)
        self.events.sql_rows += self.events.price_rows
        committed_at = time.monotonic()
        product_id, price = priced[0]["id"], self.office.price(priced[0]["id"])
        if _sync_until(online, lambda: online.store.rows["products"][product_id]["sale_price"] == price):
            self.events.price_seen_ms = round((time.monotonic() - committed_at) * 1000)

    def _sell(self, till: Till, day: TradingDay, *, is_offline: bool) -> None:
        ledger = till.ledger()
        baskets = [basket for basket in day.baskets if self._till_of(basket) is till]
        for count, basket in enumerate(baskets, 1):
            till.ring_up(basket, ledger)
            if count % BASKETS_PER_PUSH == 0 and not is_offline:
                till.sync()
            self.watcher.advance(1)
        if not is_offline:
            till.sync()

    def _till_of(self, basket: Basket) -> Till:
        """A household always goes to the same till, so that it is made once."""
        return self.tills[basket.household_id % len(self.tills)]

    def _busiest_day_of(self, till: Till) -> int:
        """The number of the day on which a till sells the most lines."""
        lines = [sum(len(b.lines) for b in day.baskets if self._till_of(b) is till) for day in self.book.days]
        return lines.index(max(lines))

    def _all(self, tills: Iterable[Till], work: Callable[[Till], object]) -> None:
        """At once, as tills do. Raises what the first of them raised, when all are done."""
        running = [self.pool.submit(work, till) for till in tills]
        problems = [problem for problem in (future.exception() for future in running) if problem is not None]
        if problems:
            raise problems[0]


def _sync_until(till: Till, has_it: Callable[[], bool]) -> bool:
    """Sync until something has arrived; tell whether it did in time."""
    deadline = time.monotonic() + ARRIVAL_S_MAX
    till.sync()
    while not has_it():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
        till.sync()
    return True


def _largest_category(products: Iterable[Product]) -> list[Product]:
    """The products of the category that has most of them, the dearest first."""
    by_category: dict[str, list[Product]] = {}
    for product in products:
        by_category.setdefault(category_name(product), []).append(product)
    largest = max(by_category.values(), key=len)
    return sorted(largest, key=lambda product: product.price, reverse=True)
