"""A phone: a full client of the contract that loses its network and some answers, and comes back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from decimal import Decimal
from random import Random
from typing import Any, Self

from cli.demo.books import Ledger
from cli.demo.catalogue import party_name
from cli.demo.client import Refused
from cli.demo.device import Device
from cli.demo.retailer import Basket
from cli.demo.store import LocalStore
from cli.simulation.client import AsyncClient
from cli.simulation.figures import PULL, PUSH, SYNC, Figures
from cli.simulation.plan import ANSWERS_LOST_SHARE

RESET = 410
_AGAIN_S = 0.2


class AnswerLost(Exception):
    """The server has a push, and the phone does not know."""


class Phone(Device):
    """`sold` has the total of each invoice that was written here, by number; `parties` the record ids of those that it made."""

    def __init__(self, client: AsyncClient, device_id: str, name: str, store: LocalStore, figures: Figures, random: Random) -> None:
        super().__init__(device_id, name, store)
        self.client = client
        self.sold: dict[str, Decimal] = {}
        self.parties: dict[str, int] = {}
        self._figures = figures
        self._random = random

    async def sign_in(self, path: str, body: dict[str, Any]) -> None:
        """Register or log in as this device, and take the code that the company leases it. Raises Refused."""
        answer = await self.client.post(path, {**body, "device_id": self.device_id, "device_name": self.name})
        self.client.token = answer["token"]
        self.signed_in(answer)

    def sell(self, basket: Basket, ledger: Ledger) -> None:
        """Ring a basket up, online or not."""
        sale = self.ring_up(basket, ledger)
        self.sold[sale.invoice_number] = basket.total
        self._figures.sales += 1

    def party(self, household_id: int) -> int | None:
        """The record id of a household, where this phone made it and knows it."""
        return self.parties.get(party_name(household_id))

    async def live(self, spells: Iterator[tuple[bool, float]], sync_every_s: float, stop: asyncio.Event) -> None:
        """Sync about so often while there is a network, until told to stop."""
        for is_online, seconds in spells:
            until = time.monotonic() + seconds
            self._figures.offline_spells += not is_online
            while is_online and not stop.is_set() and time.monotonic() < until:
                with suppress(Refused, AnswerLost):  # counted; what is unsent stays in the outbox
                    await self.sync(may_lose_answers=True)
                await pause(stop, sync_every_s * self._random.uniform(0.5, 1.5))
            if not is_online:
                await pause(stop, seconds)
            if stop.is_set():
                return

    async def sync(self, *, may_lose_answers: bool = False) -> None:
        """Push the outbox, then pull until nothing is left. Raises Refused and AnswerLost; a 410 begins again from 0."""
        started = time.monotonic()
        try:
            while self.outbox and await self._push(may_lose_answers=may_lose_answers):
                pass
            while await self._pull():
                pass
        except Refused as problem:
            if problem.details.get("status") != RESET:
                self._figures.failures[f"{problem.code} {problem.details.get('status', '')}".strip()] += 1
                raise
            self._figures.started_again += 1
            self.start_again()
        else:
            self._figures.took(SYNC, time.monotonic() - started)

    async def sync_until(self, is_done: Callable[[Self], bool], seconds_max: float) -> bool:
        """Sync until something holds; tell whether it did in time. Raises Refused where the last sync came to nothing."""
        deadline = time.monotonic() + seconds_max
        while True:
            try:
                await self.sync()
            except Refused:
                if time.monotonic() > deadline:
                    raise
            if is_done(self):
                return True
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(_AGAIN_S)

    async def _push(self, *, may_lose_answers: bool) -> bool:
        """Send a batch; tell whether all of it is settled, rather than to be sent again with the next sync."""
        batch = self.next_batch()
        answer = await self.client.post("/api/sync/push", self.push_body(batch), what=PUSH)
        if may_lose_answers and self._random.random() < ANSWERS_LOST_SHARE:
            self._figures.answers_lost += 1
            raise AnswerLost
        self._figures.take_push(answer)
        verdicts = self.take_pushed(batch, answer)
        for change, result in verdicts:
            if change.table == "parties" and change.local_id is not None and result["record_id"]:
                self.parties[change.local_id] = result["record_id"]
        return not any(result.get("retryable") for _, result in verdicts)

    async def _pull(self) -> bool:
        """Take one page; tell whether there is more."""
        page = await self.client.post("/api/sync/pull", self.pull_body(), what=PULL)
        self._figures.take_page(page)
        return self.take_page(page)


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait, but not once it is over."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
