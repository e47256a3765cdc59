"""The whole demo: shops opened, their days played side by side, and at the end every device compared with MySQL."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Executor, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field

from cli.demo.check import Difference, Rows, audit_books, find_differences, read_company
from cli.demo.office import Office
from cli.demo.retailer import StoreBook
from cli.demo.server import Server
from cli.demo.shop import Shop, Watcher
from cli.demo.till import Till
from schema.connect import open_connection


@dataclass(frozen=True, slots=True)
class Equality:
    """How a device stands against MySQL: rows that MySQL has, those of them that the device holds exactly, all differences."""

    rows: int
    rows_equal: int
    differences: list[Difference]


@dataclass(slots=True)
class Outcome:
    """What was played and what came of it. `devices` are by device id; `complaints` are about the books of a store."""

    run_id: str
    shops: list[Shop]
    devices: dict[str, Equality] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    setup_seconds: float = 0.0
    trading_seconds: float = 0.0
    check_seconds: float = 0.0

    @property
    def differences(self) -> list[Difference]:
        """Of all devices."""
        return [difference for equality in self.devices.values() for difference in equality.differences]

    @property
    def is_equal(self) -> bool:
        """Whether every device equals MySQL, and MySQL the retailer's figures."""
        return not self.differences and not self.complaints


def play(server: Server, books: Sequence[StoreBook], tills: int, watch: Callable[[StoreBook], Watcher]) -> Outcome:
    """Play all books at once, each on a company of its own. Raises Refused."""
    outcome = Outcome(secrets.token_hex(4), [])
    stop = threading.Event()
    shop_pool = ThreadPoolExecutor(len(books), "shop")
    till_pool = ThreadPoolExecutor(len(books) * tills, "till")
    with ExitStack() as undo:
        for book in books:
            outcome.shops.append(_open_shop(undo, server, book, tills, till_pool, watch(book), outcome.run_id))
        undo.enter_context(till_pool)
        undo.enter_context(shop_pool)
        undo.callback(stop.set)  # first of all, should something fail: the other shops end with the day they are at
        started = time.monotonic()
        _together(shop_pool, outcome.shops, Shop.set_up)
        set_up = time.monotonic()
        _together(shop_pool, outcome.shops, lambda shop: _play_days(shop, outcome.run_id, stop))
        outcome.setup_seconds, outcome.trading_seconds = set_up - started, time.monotonic() - set_up
    _check(server, outcome)
    return outcome


def _open_shop(undo: ExitStack, server: Server, book: StoreBook, count: int, pool: Executor, watcher: Watcher, run_id: str) -> Shop:
    """Register the store's login with its first till, sign the others in."""
    login = {"email": f"store-{book.store_id}-{run_id}@example.com", "password": secrets.token_urlsafe(12)}
    tills = []
    for number in range(1, count + 1):
        till = Till(server.api_url, f"till-{run_id}-{book.store_id}-{number}", f"Till {number}")
        undo.callback(till.client.close)
        tills.append(till)
    company = {"name": f"Manager of store {book.store_id}", "company_name": f"Store {book.store_id} · 商店 · متجر"}
    tills[0].sign_in("/api/auth/register", {**login, **company})
    for till in tills[1:]:
        till.sign_in("/api/auth/login", login)
    connection = undo.enter_context(open_connection(server.mysql, autocommit=True))
    return Shop(book, tills, Office(connection, tills[0].company_id), pool, watcher)


def _play_days(shop: Shop, run_id: str, stop: threading.Event) -> None:
    for number in range(len(shop.book.days)):
        if stop.is_set():
            return
        shop.play_day(number)
    shop.close(run_id)


def _together(pool: Executor, shops: Sequence[Shop], work: Callable[[Shop], None]) -> None:
    """Raises what the first shop raised that failed, without waiting for the others."""
    done, _ = wait([pool.submit(work, shop) for shop in shops], return_when=FIRST_EXCEPTION)
    for future in done:
        future.result()


def _check(server: Server, outcome: Outcome) -> None:
    started = time.monotonic()
    with open_connection(server.mysql, autocommit=True) as connection:
        for shop in outcome.shops:
            company_id = shop.tills[0].company_id
            rows = read_company(connection, company_id)
            outcome.complaints += [f"store {shop.book.store_id}: {text}" for text in audit_books(connection, company_id, shop.book)]
            for till in shop.tills:
                outcome.devices[till.device_id] = _compare(till, rows)
    outcome.check_seconds = time.monotonic() - started


def _compare(till: Till, rows: Rows) -> Equality:
    differences = list(find_differences(till.device_id, till.store, rows))
    differing = {(difference.table, difference.record) for difference in differences}
    keys = [(table, record_id) for table, records in rows.items() for record_id in records]
    return Equality(len(keys), sum(key not in differing for key in keys), differences)
