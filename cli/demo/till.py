"""A till: a device that syncs when it can, one request after the other."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from cli.demo.books import Ledger
from cli.demo.client import ApiClient, Refused
from cli.demo.device import Answer, Change, Device

_TOLD_TO_PEOPLE = ("conflict", "merged")


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


class Till(Device):
    """One device of one store. Used by one thread at a time."""

    def __init__(self, api_url: str, device_id: str, name: str) -> None:
        super().__init__(device_id, name)
        self.tally = Tally()
        self.client = ApiClient(api_url)

    def sign_in(self, path: str, body: dict[str, Any]) -> None:
        """Register or log in as this device, and take the code that the company leases it. Raises Refused."""
        answer = self.client.post(path, {**body, "device_id": self.device_id, "device_name": self.name})
        self.client.token = answer["token"]
        self.signed_in(answer)

    def ledger(self) -> Ledger:
        """What a sale looks up, from this till's own store."""
        drawer = next(iter(self.store.rows["payment_accounts"].values()))
        return Ledger(self.store.by("accounts", "code"), self.store.by("products", "sku"), drawer["id"])

    def sync(self, *, lose_an_answer: bool = False) -> None:
        """Push the outbox, then pull until nothing is left. Raises Refused.

        `lose_an_answer`: the first push is sent, its answer thrown away, and the same push sent again.
        """
        while self.outbox:
            batch = self.next_batch()
            if lose_an_answer:
                self._push(batch)
            self._take(batch, self._push(batch), is_repeated=lose_an_answer)
            lose_an_answer = False
        while self._pull():
            pass

    def _push(self, batch: list[Change]) -> Answer:
        started = time.monotonic()
        answer = self.client.post("/api/sync/push", self.push_body(batch))
        self.tally.push_times.append(time.monotonic() - started)
        return answer

    def _take(self, batch: list[Change], answer: Answer, *, is_repeated: bool) -> None:
        """Raises Refused for a change that was rejected, or took effect twice."""
        self.tally.pending += answer["pending"]
        for change, result in self.take_pushed(batch, answer):
            status = result["status"]
            self.tally.statuses[status] += 1
            self.tally.repeated += is_repeated
            if status == "rejected" or (is_repeated and status == "applied"):
                why = f"{status} {result.get('code', '')} {result.get('message', '')}".strip()
                raise Refused("demo_refused", f"{self.device_id}: {change.operation} {change.table}: {why}", details=result)
            if status in _TOLD_TO_PEOPLE:
                self.tally.conflicts.append({"device": self.device_id, "sent": dict(change.data), **result})

    def _pull(self) -> bool:
        """Take one page; tell whether there is more."""
        started = time.monotonic()
        answer = self.client.post("/api/sync/pull", self.pull_body())
        self.tally.pull_times.append(time.monotonic() - started)
        self.tally.lags_ms.append(answer["lag_ms"])
        self.tally.pulled += len(answer["changes"])
        return self.take_page(answer)
