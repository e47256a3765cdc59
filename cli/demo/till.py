"""A till: a device that writes into its own store and an outbox first, and syncs when it can (contract §2 and §3)."""

from __future__ import annotations

import datetime as dt
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cli.demo.books import Ledger, NewRow
from cli.demo.client import ApiClient, Refused
from cli.demo.store import LocalStore

PUSH_CHANGES_MAX = 1000
_TOLD_TO_PEOPLE = ("conflict", "merged")


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


@dataclass(slots=True)
class Tally:
    """What a till has done. Times are in seconds, one for each request; `lags_ms` is what pulls were answered.

    `pending` counts pushes that were answered before the tailer had passed them.
    """

    statuses: Counter[str] = field(default_factory=Counter)
    repeated: int = 0
    pending: int = 0
    pulled: int = 0
    push_times: list[float] = field(default_factory=list)
    pull_times: list[float] = field(default_factory=list)
    lags_ms: list[int] = field(default_factory=list)
    conflicts: list[dict[str, Any]] = field(default_factory=list)


class Till:
    """One device of one store. Used by one thread at a time."""

    def __init__(self, api_url: str, device_id: str, name: str) -> None:
        self.device_id = device_id
        self.name = name
        self.code = ""
        self.store = LocalStore()
        self.tally = Tally()
        self.company_id = 0
        self.client = ApiClient(api_url)
        self._outbox: list[Change] = []
        self._cursor = 0
        self._sales = 0
        self._parties: set[str] = set()

    def sign_in(self, path: str, body: dict[str, Any]) -> None:
        """Register or log in as this device, and take the code that the company leases it. Raises Refused."""
        answer = self.client.post(path, {**body, "device_id": self.device_id, "device_name": self.name})
        company = answer["user"]["companies"][0]
        self.client.token = answer["token"]
        self.company_id, self.code = company["id"], company["document_code"]

    def next_number(self) -> int:
        """The number of the next sale; with the till's code it is unique in the company."""
        self._sales += 1
        return self._sales

    def ledger(self) -> Ledger:
        """What a sale looks up, from this till's own store."""
        drawer = next(iter(self.store.rows["payment_accounts"].values()))
        return Ledger(self.store.by("accounts", "code"), self.store.by("products", "sku"), drawer["id"])

    def know_party(self, party: NewRow) -> None:
        """Make a household's row, unless this till made it before."""
        if party.local_id not in self._parties:
            self._parties.add(party.local_id)
            self.insert([party])

    def insert(self, rows: Iterable[NewRow], group: str | None = None) -> None:
        """Write new rows here and into the outbox."""
        now = _now()
        for row in rows:
            self.store.put_new(row.table, row.local_id, row.data)
            self._outbox.append(Change(row.table, "INSERT", row.data, now, local_id=row.local_id, group=group))

    def edit(self, table: str, record_id: int, values: Mapping[str, Any]) -> None:
        """Change a row here and in the outbox, with the version it was seen at."""
        base = self.store.version(table, record_id)
        self.store.edit(table, record_id, values)
        self._outbox.append(Change(table, "UPDATE", dict(values), _now(), record_id=record_id, base_version=base))

    def delete(self, table: str, record_id: int) -> None:
        """Delete a row here and in the outbox."""
        base = self.store.version(table, record_id)
        self.store.remove(table, record_id)
        self._outbox.append(Change(table, "DELETE", {}, _now(), record_id=record_id, base_version=base))

    def sync(self, *, lose_an_answer: bool = False) -> None:
        """Push the outbox, then pull until nothing is left. Raises Refused.

        `lose_an_answer`: the first push is sent, its answer thrown away, and the same push sent again.
        """
        while self._outbox:
            batch = self._next_batch()
            if lose_an_answer:
                self._push(batch)
            self._take(batch, self._push(batch), is_repeated=lose_an_answer)
            lose_an_answer = False
            del self._outbox[: len(batch)]
        while self._pull():
            pass

    def _next_batch(self) -> list[Change]:
        """As many changes as fit into a push, groups whole."""
        if len(self._outbox) <= PUSH_CHANGES_MAX:
            return list(self._outbox)
        end = PUSH_CHANGES_MAX
        while end > 1 and self._outbox[end].group is not None and self._outbox[end].group == self._outbox[end - 1].group:
            end -= 1
        return self._outbox[:end]

    def _push(self, batch: list[Change]) -> dict[str, Any]:
        started = time.monotonic()
        body = {
            "device_id": self.device_id,
            "changes": [change.body() for change in batch],
            "last_version": self._cursor,
            "sent_at": _now(),
        }
        answer = self.client.post("/api/sync/push", body)
        self.tally.push_times.append(time.monotonic() - started)
        return answer

    def _take(self, batch: list[Change], answer: dict[str, Any], *, is_repeated: bool) -> None:
        """Do what the results say and keep the cursor. Raises Refused for a change that was rejected, or took effect twice."""
        self._cursor = answer["current_version"]
        self.tally.pending += answer["pending"]
        for change, result in zip(batch, answer["results"], strict=True):
            status, record_id = result["status"], result["record_id"]
            self.tally.statuses[status] += 1
            self.tally.repeated += is_repeated
            if status == "rejected" or (is_repeated and status == "applied"):
                why = f"{status} {result.get('code', '')} {result.get('message', '')}".strip()
                raise Refused("demo_refused", f"{self.device_id}: {change.operation} {change.table}: {why}", details=result)
            if change.local_id is not None:
                self.store.stored(change.table, change.local_id, record_id)
            if "server_data" in result:
                is_deleted = result["server_deleted"]
                self.store.told(change.table, record_id, result["server_data"], result["server_version"], is_deleted=is_deleted)
            if status in _TOLD_TO_PEOPLE:
                self.tally.conflicts.append({"device": self.device_id, "sent": dict(change.data), **result})

    def _pull(self) -> bool:
        """Take one page; tell whether there is more."""
        started = time.monotonic()
        answer = self.client.post("/api/sync/pull", {"device_id": self.device_id, "last_version": self._cursor})
        self.tally.pull_times.append(time.monotonic() - started)
        self.tally.lags_ms.append(answer["lag_ms"])
        for change in answer["changes"]:
            is_deleted = change["operation"] == "DELETE"
            self.store.told(change["table"], change["record_id"], change["data"], change["version"], is_deleted=is_deleted)
        self.tally.pulled += len(answer["changes"])
        self._cursor = answer["current_version"]
        return bool(answer["has_more"])


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat().replace("+00:00", "Z")
