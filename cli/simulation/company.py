"""One company of a run: its phones, its desk, and how an event becomes work on one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Self

from cli.demo.books import Ledger
from cli.demo.catalogue import setup_rows
from cli.demo.client import Refused
from cli.demo.retailer import Basket, Region
from cli.demo.store import LocalStore
from cli.simulation.client import AsyncClient
from cli.simulation.desk import Desk
from cli.simulation.figures import Figures
from cli.simulation.lag import watch_beats
from cli.simulation.phone import Phone
from cli.simulation.plan import Event, Load, Work, spells
from cli.simulation.shared_rows import SharedRows

SET_UP_S_MAX = 180
_EDITED = {Work.PRICE: ("products", "sale_price"), Work.DESCRIPTION: ("products", "description"), Work.PHONE: ("parties", "phone")}


@dataclass(slots=True)
class Company:
    """`phones[0]` sets the company up. `watcher` is a client of a device that only waits for the desk's beat."""

    number: int
    region: Region
    phones: list[Phone]
    watcher: AsyncClient
    desk: Desk | None = None
    skus: dict[str, int] = field(default_factory=dict)

    @property
    def company_id(self) -> int:
        return self.phones[0].company_id

    @property
    def watcher_id(self) -> str:
        return f"{self.phones[0].device_id}-watcher"

    async def sign_in(self, run_id: str, password: str) -> None:
        """Register the owner with the first phone, sign the others in. Raises Refused."""
        login = {"email": f"simulate-{run_id}-{self.number}@example.com", "password": password}
        names = {"name": f"Owner {self.number}", "company_name": f"Region {self.number} · 地区 · منطقة"}
        await self.phones[0].sign_in("/api/auth/register", {**login, **names})
        for phone in self.phones[1:]:
            await phone.sign_in("/api/auth/login", login)
        answer = await self.watcher.post("/api/auth/login", {**login, "device_id": self.watcher_id, "device_name": "Watcher"})
        self.watcher.token = answer["token"]

    async def set_up(self, open_desk: Callable[[Self], Awaitable[Desk]]) -> None:
        """The first phone fills the books, the others pull them. Raises Refused."""
        first = self.phones[0]
        first.insert(setup_rows(self.region.store_ids[0], self.region.products))
        await first.sync()
        self.skus = {sku: row["id"] for sku, row in first.store.by("products", "sku").items()}
        if len(self.skus) != len(self.region.products) or first.refused:
            raise Refused("simulate_refused", f"not all products of company {self.company_id} were taken: {first.refused[:1]}")
        self.desk = await open_desk(self)
        have_arrived = await asyncio.gather(*(phone.sync_until(self._has_books, SET_UP_S_MAX) for phone in self.phones))
        if not all(have_arrived):
            raise Refused("simulate_unanswered", f"the books of company {self.company_id} did not arrive in {SET_UP_S_MAX} s")

    def trade(self, group: asyncio.TaskGroup, load: Load, stop: asyncio.Event) -> None:
        """Start what goes on until `stop`."""
        for number, phone in enumerate(self.phones):
            group.create_task(phone.live(spells(load, self.number, number), load.sync_every_s, stop))

    def play(self, event: Event, figures: Figures) -> None:
        """Let a person do something on a phone, whether it is online or not."""
        phone = self.phones[event.device]
        if event.basket is not None:
            phone.sell(event.basket, self._ledger(phone, event.basket))
            return
        table, column = _EDITED[event.work]
        record_id = self._household(event.key) if table == "parties" else self.skus[str(event.key)]
        if record_id is None or record_id not in phone.store.rows[table]:
            figures.edits_skipped += 1  # this phone has not heard of it yet
            return
        phone.edit(table, record_id, {column: event.value})
        figures.edits += 1

    async def watch(self, figures: Figures) -> None:
        """See the desk's beats arrive, until the books are closed."""
        assert self.desk is not None
        await watch_beats(self.watcher, self.watcher_id, self.desk, figures)

    def _has_books(self, phone: Phone) -> bool:
        return len(phone.store.rows["products"]) >= len(self.skus) and bool(phone.store.rows["payment_accounts"])

    def _ledger(self, phone: Phone, basket: Basket) -> Ledger:
        """What a sale looks up in the phone's own store."""
        drawer = next(iter(phone.store.rows["payment_accounts"].values()))
        skus = {str(line.product_id) for line in basket.lines}
        products = {sku: phone.store.rows["products"][self.skus[sku]] for sku in skus}
        return Ledger(phone.store.by("accounts", "code"), products, drawer["id"])

    def _household(self, household_id: int) -> int | None:
        return self.phones[household_id % len(self.phones)].party(household_id)


def new_company(
    number: int, region: Region, load: Load, run_id: str, client: Callable[[], AsyncClient], figures: Figures
) -> Company:
    """A company that has not signed in yet; its phones' stores hold equal rows once."""
    shared = SharedRows()
    phones = [
        Phone(
            client(),
            f"simulate-{run_id}-{number}-{device}",
            f"Phone {device}",
            LocalStore(shared.keep),
            figures,
            Random(f"{load.seed} phone {number} {device}"),
        )
        for device in range(load.devices)
    ]
    return Company(number, region, phones, client())
