"""A device whose line fails and whose app dies: answers and requests get lost, requests are sent twice, the outbox goes in other
batches each time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from tests.device import Change, Device, LocalKey


class Fault(StrEnum):
    """What happens to a request on its way, or to the app while it takes over the answer."""

    NONE = "none"
    REQUEST_LOST = "request lost"
    ANSWER_LOST = "answer lost"
    DOUBLED = "doubled"
    APP_DIES = "app dies"


@dataclass(frozen=True, slots=True)
class Trip:
    """How one sync goes: its halves, in how many pushes the outbox is sent, what fails, and what the pull asks for.

    `steps`: how much of an answer an app that dies takes over before.
    """

    pushes: bool = True
    pulls: bool = True
    batches: int = 1
    push_fault: Fault = Fault.NONE
    pull_fault: Fault = Fault.NONE
    takes_second: bool = False
    steps: int = 0
    limit: int | None = None
    tables: tuple[str, ...] | None = None


class Witness(Protocol):
    """Sees every answer, also those that the device never gets."""

    def pushed(self, phone: Phone, sent: list[Change], answer: dict[str, Any]) -> None:
        """An answer to a push."""

    def pulled(self, phone: Phone, answer: dict[str, Any]) -> None:
        """An answer to a pull."""


@dataclass
class Phone(Device):
    """A device of either habit. `name` is for people; a naive one has no `install_id`. `wants` goes with each pull.

    `role` and `tables` (None: all) are what its user and it may, as things are; `spoiled` are local ids of wrong documents, `voids`
    those of the entries that void one invoice, each time.
    """

    name: str = ""
    install_id: str = ""
    witness: Witness | None = None
    wants: dict[str, bool] = field(default_factory=dict)
    role: str = "owner"
    tables: frozenset[str] | None = None
    is_read_only: bool = False
    spoiled: set[LocalKey] = field(default_factory=set)
    voids: list[frozenset[LocalKey]] = field(default_factory=list)
    needs_pull: bool = False
    _steps_left: int | None = None

    @property
    def company_id(self) -> int:
        return self.line.company_id or 0

    async def travel(self, trip: Trip) -> str:
        """One sync; returns what was heard, for people. A lost answer or request ends it, as a timeout does.

        A device that sends no `last_version` never pushes after a pull whose answer it never got (contract §1.3): it pulls again.
        """
        try:
            if self.needs_pull:
                await self._pull(Trip(tables=trip.tables))
                self.needs_pull = False
            said = await self._push_all(trip) if trip.pushes else ""
            return said + (await self._pull(trip) if trip.pulls else "")
        except ConnectionError as lost:
            return f"{lost}"
        finally:
            self._steps_left = None

    def torn_voids(self) -> set[LocalKey]:
        """Entries of voids that went in parts, one of which was refused for good with the invoice: the others never balance."""
        refused = {(change["table"], change.get("local_id", "")) for _, change in self.store.refused.listed()}
        return {key for entries in self.voids if entries & refused for key in entries}

    def push_fields(self) -> dict[str, Any]:
        more = super().push_fields()
        return {**more, "install_id": self.install_id} if self.install_id else more

    async def _push_all(self, trip: Trip) -> str:
        said = ""
        outbox, count = self.outbox.listed(), max(1, min(trip.batches, len(self.outbox)))
        size = -(-len(outbox) // count)
        for number in range(count if outbox else 0):
            # What the answers so far said of references is in the outbox, not in this list.
            batch = {seq: self.outbox[seq] for seq, _ in outbox[number * size : (number + 1) * size]}
            if batch:
                said += await self._push_batch(batch, trip, is_last=(number + 1) * size >= len(outbox))
        return said

    async def _push_batch(self, batch: dict[int, Change], trip: Trip, *, is_last: bool) -> str:
        more = self.push_fields()
        fault = trip.push_fault if is_last else Fault.NONE
        sent = list(batch.values())

        async def ask() -> dict[str, Any]:
            answer = await self.line.push(*sent, **more)
            if self.witness is not None:
                self.witness.pushed(self, sent, answer)
            return answer

        answer = await _through(ask, fault, "push", takes_second=trip.takes_second)
        self._steps_left = trip.steps if fault is Fault.APP_DIES else None
        self.take_pushed(batch, answer)
        told = ", ".join(_said(change, result) for change, result in zip(sent, answer["results"], strict=True))
        return f"pushed [{told}] → {self.cursor}; "

    async def _pull(self, trip: Trip) -> str:
        more: dict[str, Any] = dict(self.wants)
        if trip.limit is not None:
            more["limit"] = trip.limit
        if trip.tables is not None:
            more["tables"] = list(trip.tables)
        fault, said = trip.pull_fault, ""
        while True:
            before = self.cursor

            async def ask(cursor: int = before) -> dict[str, Any]:
                page = await self.line.pull(cursor, **more)
                if self.witness is not None:
                    self.witness.pulled(self, page)
                return page

            try:
                page = await _through(ask, fault, "pull", takes_second=trip.takes_second)
                self._steps_left = trip.steps if fault is Fault.APP_DIES else None
                self.take_page(page)
            except ConnectionError:
                self.needs_pull = self.is_naive
                raise
            said += f"pulled {len(page['changes'])} from {before} → {page['current_version']}; "
            fault = Fault.NONE
            if self.is_naive or not page["has_more"]:
                return said

    def _take(self, change: Change) -> None:
        self._step()
        super()._take(change)

    def _map(self, ids: dict[LocalKey, int]) -> None:
        super()._map(ids)
        self._step()

    def _step(self) -> None:
        if self._steps_left is None:
            return
        self._steps_left -= 1
        if self._steps_left < 0:
            raise ConnectionError("the app died")


async def _through(ask: Callable[[], Awaitable[dict[str, Any]]], fault: Fault, what: str, *, takes_second: bool) -> dict[str, Any]:
    """Ask over a line with this fault. Raises ConnectionError where nothing comes back."""
    if fault is Fault.REQUEST_LOST:
        raise ConnectionError(f"{what}: request lost")
    if fault is Fault.DOUBLED:
        return (await asyncio.gather(ask(), ask()))[takes_second]
    answer = await ask()
    if fault is Fault.ANSWER_LOST:
        raise ConnectionError(f"{what}: answer lost")
    return answer


def _said(change: Change, result: dict[str, Any]) -> str:
    return " ".join(str(part) for part in (change["table"], result["record_id"], result["status"], result.get("code")) if part)
