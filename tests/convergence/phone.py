"""A device whose line fails: answers and requests get lost, requests are sent twice, the outbox goes in other batches each time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from tests.device import Change, Device, Key, LocalKey
from tests.oracle import Row


class Fault(StrEnum):
    """What happens to a request on its way."""

    NONE = "none"
    REQUEST_LOST = "request lost"
    ANSWER_LOST = "answer lost"
    DOUBLED = "doubled"


@dataclass(frozen=True, slots=True)
class Trip:
    """How one sync goes: its halves, in how many pushes the outbox is sent, what fails, and what the pull asks for."""

    pushes: bool = True
    pulls: bool = True
    batches: int = 1
    push_fault: Fault = Fault.NONE
    pull_fault: Fault = Fault.NONE
    takes_second: bool = False
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
    """A device of either habit. `name` is for people; a naive one has no `install_id`.

    A record with unsent changes is the device's own until they are sent: of what is pulled a naive device takes only the columns
    that it does not have itself, a full one puts its changes over it.
    """

    name: str = ""
    install_id: str = ""
    witness: Witness | None = None
    needs_pull: bool = False

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

    async def _push_all(self, trip: Trip) -> str:
        said = ""
        outbox, count = list(self.outbox), max(1, min(trip.batches, len(self.outbox)))
        size = -(-len(outbox) // count)
        for number in range(count if outbox else 0):
            batch = outbox[number * size : (number + 1) * size]
            if batch:
                said += await self._push_batch(batch, trip, is_last=(number + 1) * size >= len(outbox))
        return said

    async def _push_batch(self, batch: list[Change], trip: Trip, *, is_last: bool) -> str:
        more: dict[str, Any] = {} if self.is_naive else {"last_version": self.cursor, "sent_at": self.clock()}
        if self.install_id:
            more["install_id"] = self.install_id
        fault = trip.push_fault if is_last else Fault.NONE
        sent = [{**change, "data": dict(change["data"])} for change in batch]

        async def ask() -> dict[str, Any]:
            answer = await self.line.push(*sent, **more)
            if self.witness is not None:
                self.witness.pushed(self, sent, answer)
            return answer

        answer = await _through(ask, fault, "push", takes_second=trip.takes_second)
        self.outbox = [change for change in self.outbox if not any(change is other for other in batch)]
        if self.is_naive:
            self._take_mappings(batch, answer["id_mappings"])
        else:
            self._take_results(batch, answer["results"])
        self.cursor = answer["current_version"]
        told = ", ".join(_said(change, result) for change, result in zip(sent, answer["results"], strict=True))
        return f"pushed [{told}] → {self.cursor}; "

    async def _pull(self, trip: Trip) -> str:
        more: dict[str, Any] = {}
        if trip.limit is not None:
            more["limit"] = trip.limit
        if trip.tables is not None:
            more["tables"] = list(trip.tables)
        fault, said = trip.pull_fault, ""
        while True:

            async def ask(cursor: int = self.cursor) -> dict[str, Any]:
                page = await self.line.pull(cursor, **more)
                if self.witness is not None:
                    self.witness.pulled(self, page)
                return page

            try:
                page = await _through(ask, fault, "pull", takes_second=trip.takes_second)
            except ConnectionError:
                self.needs_pull = self.is_naive
                raise
            for change in page["changes"]:
                self._take(change)
            said += f"pulled {len(page['changes'])} from {self.cursor} → {page['current_version']}; "
            self.cursor, fault = page["current_version"], Fault.NONE
            if self.is_naive or not page["has_more"]:
                return said

    def _take(self, change: Change) -> None:
        key = (change["table"], change["record_id"])
        unsent = list(self._unsent(key))
        if not unsent:
            super()._take(change)
            return
        if self.is_naive:
            if key in self.rows:
                self.rows[key] = {**change["data"], **self.rows[key]}
            return
        super()._take(change)
        for edit in unsent:
            if edit["operation"] == "DELETE":
                self.rows.pop(key, None)
            elif key in self.rows:
                self.rows[key] = {**self.rows[key], **_own_columns(edit["data"])}

    def _unsent(self, key: Key) -> Iterator[Change]:
        """Changes in the outbox of a record that has its server id."""
        for change in self.outbox:
            if change["table"] == key[0] and key[1] == self._target(change):
                yield change

    def _target(self, change: Change) -> int | None:
        if change["operation"] == "INSERT":
            return self.ids.get(_local_key(change))
        named: int | None = change.get("record_id") or change["data"].get("id")
        return named if named is not None else self.ids.get(_local_key(change))

    def _take_mappings(self, sent: list[Change], mappings: dict[str, int]) -> None:
        """An INSERT without a mapping stays unsent work, and so does what was done to the record after it."""
        for change in sent:
            if change["operation"] == "INSERT" and change["local_id"] in mappings and _local_key(change) not in self.ids:
                self._map(change["table"], change["local_id"], mappings[change["local_id"]])
        self.outbox = [change for change in sent if self._target(change) is None] + self.outbox


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


def _local_key(change: Change) -> LocalKey:
    return change["table"], change.get("local_id") or ""


def _own_columns(data: Row) -> Row:
    return {name: value for name, value in data.items() if name != "id"}
