"""A shop's device without a network: what it holds, its outbox, what it asks, and how it takes the answers (contract §2 and §3).

Who sends and receives is its subclass: a till of the demo by threads, a phone of the simulation by coroutines.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cli.demo.books import Ledger, NewRow, Sale, sale_documents
from cli.demo.catalogue import household, party_name
from cli.demo.retailer import Basket
from cli.demo.store import LocalStore

PUSH_CHANGES_MAX = 1000

Answer = dict[str, Any]
"""The JSON of a good answer."""


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the outbox, as it is sent. `group`: changes that stand or fall together."""

    table: str
    operation: str
    data: Mapping[str, Any]
    timestamp: str
    local_id: str | None = None
    record_id: int | None = None
    base_version: int | None = None
    group: str | None = None

    def body(self) -> dict[str, Any]:
        """The change as the contract has it; what is not known is left out."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in fields.items() if value is not None}


Verdict = tuple[Change, Answer]
"""A change and its entry in `results`."""


class Device:
    """`refused` holds what was rejected for good, for a person to see."""

    def __init__(self, device_id: str, name: str, store: LocalStore | None = None) -> None:
        self.device_id = device_id
        self.name = name
        self.code = ""
        self.company_id = 0
        self.store = store or LocalStore()
        self.outbox: list[Change] = []
        self.refused: list[Verdict] = []
        self._cursor = 0
        self._sales = 0
        self._parties: set[str] = set()

    def signed_in(self, answer: Answer) -> None:
        """Take company and document code from the answer to a sign-in with this device's id."""
        company = answer["user"]["companies"][0]
        self.company_id, self.code = company["id"], company["document_code"]

    def ring_up(self, basket: Basket, ledger: Ledger) -> Sale:
        """Write a basket's documents, and its household's row where this device sells to it for the first time."""
        party = household(basket.household_id)
        if party.local_id not in self._parties:
            self._parties.add(party.local_id)
            self.insert([party])
        self._sales += 1
        sale = Sale(basket, self.code, self._sales, party_name(basket.household_id))
        self.insert(sale_documents(sale, ledger), group=sale.name)
        return sale

    def insert(self, rows: Iterable[NewRow], group: str | None = None) -> None:
        """Write new rows here and into the outbox."""
        now = now_text()
        for row in rows:
            self.store.put_new(row.table, row.local_id, row.data)
            self.outbox.append(Change(row.table, "INSERT", row.data, now, local_id=row.local_id, group=group))

    def edit(self, table: str, record_id: int, values: Mapping[str, Any]) -> None:
        """Change a row here and in the outbox, with the version it was seen at."""
        base = self.store.version(table, record_id)
        self.store.edit(table, record_id, values)
        self.outbox.append(Change(table, "UPDATE", dict(values), now_text(), record_id=record_id, base_version=base))

    def delete(self, table: str, record_id: int) -> None:
        """Delete a row here and in the outbox."""
        base = self.store.version(table, record_id)
        self.store.remove(table, record_id)
        self.outbox.append(Change(table, "DELETE", {}, now_text(), record_id=record_id, base_version=base))

    def next_batch(self) -> list[Change]:
        """As many changes as fit into a push, groups whole."""
        if len(self.outbox) <= PUSH_CHANGES_MAX:
            return list(self.outbox)
        end = PUSH_CHANGES_MAX
        while end > 1 and self.outbox[end].group is not None and self.outbox[end].group == self.outbox[end - 1].group:
            end -= 1
        return self.outbox[:end]

    def push_body(self, batch: Iterable[Change]) -> dict[str, Any]:
        return {
            "device_id": self.device_id,
            "changes": [change.body() for change in batch],
            "last_version": self._cursor,
            "sent_at": now_text(),
        }

    def take_pushed(self, batch: list[Change], answer: Answer) -> list[Verdict]:
        """Take the answer to a push of the outbox's first changes. What may be sent again stays in the outbox.

        The answer's cursor may pass rows that stand exactly as they were sent. This device shows a row's times too, which MySQL
        set, so it goes on from its last pull, and is sent its own rows (contract §2.5).
        """
        verdicts = list(zip(batch, answer["results"], strict=True))
        self.outbox[: len(batch)] = [change for change, result in verdicts if result.get("retryable")]
        for change, result in verdicts:
            self._take_result(change, result)
        self._put_unsent_over({(change.table, result["record_id"]) for change, result in verdicts})
        return verdicts

    def pull_body(self) -> dict[str, Any]:
        return {"device_id": self.device_id, "last_version": self._cursor}

    def take_page(self, page: Answer) -> bool:
        """Take the answer to a pull; tell whether there is more."""
        for change in page["changes"]:
            table, record_id = change["table"], change["record_id"]
            if change["device_id"] == self.device_id:
                self.store.stored(table, change["local_id"], record_id)
            is_deleted = change["operation"] == "DELETE"
            self.store.told(table, record_id, change["data"], change["version"], is_deleted=is_deleted)
        for table in page.get("revoked", ()):
            self.store.drop(table)
        if self.outbox:
            self._put_unsent_over({(change["table"], change["record_id"]) for change in page["changes"]})
        self._cursor = page["current_version"]
        return bool(page["has_more"])

    def start_again(self) -> None:
        """After a 410: the server's rows go, what is unsent stays."""
        self.store.clear()
        self._cursor = 0

    def _take_result(self, change: Change, result: Answer) -> None:
        if result["status"] == "rejected":
            if not result["retryable"]:
                self.refused.append((change, result))
                if change.local_id is not None:
                    self.store.forget(change.table, change.local_id)
            return
        record_id = result["record_id"]
        if change.local_id is not None:
            self.store.stored(change.table, change.local_id, record_id)
        if "server_data" in result:
            is_deleted = result["server_deleted"]
            self.store.told(change.table, record_id, result["server_data"], result["server_version"], is_deleted=is_deleted)

    def _put_unsent_over(self, told: set[tuple[str, int]]) -> None:
        """What a person changed here and the server has not been sent yet stays to be seen."""
        for change in self.outbox:
            if change.record_id is None or (change.table, change.record_id) not in told:
                continue
            if change.operation == "DELETE":
                self.store.remove(change.table, change.record_id)
            elif change.record_id in self.store.rows[change.table]:
                self.store.edit(change.table, change.record_id, change.data)


def now_text() -> str:
    """The device's clock, as the contract writes times."""
    return dt.datetime.now(dt.UTC).isoformat().replace("+00:00", "Z")
