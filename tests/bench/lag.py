"""From COMMIT to what a device sees, on an idle system: to a pull that asks again and again, and to one that waits.

Beside it: to a SELECT of the head on a connection of its own, which is the tailer's part.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

from tests.bench.figure import Figure
from tests.bench.lab import PULL, Crew, Lab, open_lab
from tests.sql_client import SqlClient

COMMITS = 400
_IDLE_SECONDS = (0.02, 0.06)
_WAIT_SECONDS = 20
_GIVE_UP_SECONDS = 30
Commit = Callable[[], tuple[float, str]]
"""Makes a record; when its COMMIT was answered, in seconds, and its name. On a busy machine a device may see it before that."""


def measure(share: float) -> Iterator[Figure]:
    """Yield p50 and p99 of each way; `share` takes that part of the commits."""
    count = max(20, int(COMMITS * share))
    with ExitStack() as undo:
        lab = undo.enter_context(open_lab())
        reader = undo.enter_context(SqlClient(lab.settings))
        crew = lab.hire()
        lab.caught_up()
        device = undo.enter_context(closing(_Device(lab, crew)))
        selected = _latencies(lab, crew, count, lambda commit: _until_selected(reader, commit))
        lab.caught_up()
        device.drain()
        pulled = _latencies(lab, crew, count, device.until_pulled)
        waited = _latencies(lab, crew, count, device.until_woken)
    for what, latencies, targets in (("a pull", pulled, (4, 20)), ("a waiting pull", waited, (8, 40))):
        for percent, target in zip((50, 99), targets, strict=True):
            yield Figure(
                what=f"COMMIT → visible to {what}, p{percent}",
                ours=_percentile(latencies, percent),
                unit="ms",
                target=f"≤ {target} ms",
                peer="COMMIT → visible to a SELECT",
                peers=_percentile(selected, percent),
            )


class _Device:
    """Pulls over one kept connection."""

    def __init__(self, lab: Lab, crew: Crew) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", lab.port, timeout=_GIVE_UP_SECONDS)
        self._headers = {"Authorization": f"Bearer {crew.tokens[0]}", "Content-Type": "application/json"}
        self._device_id = crew.devices[0]
        self._cursor, self._has_more = 0, True

    def drain(self) -> None:
        """Pull what there is."""
        self._has_more = True
        while self._has_more:
            self._pull()

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def until_pulled(self, commit: Commit) -> float:
        """Seconds from COMMIT to the answer of a pull that has the change."""
        committed, name = commit()
        while name not in self._pull():
            if time.perf_counter() - committed > _GIVE_UP_SECONDS:
                raise TimeoutError("no pull has the change")
        return time.perf_counter() - committed

    def until_woken(self, commit: Commit) -> float:
        """Seconds from COMMIT to the answer of a pull that has waited for it."""
        found: list[float] = []

        def wait(names: list[str]) -> None:
            names += self._pull(wait=_WAIT_SECONDS)
            found.append(time.perf_counter())

        names: list[str] = []
        waiting = threading.Thread(target=wait, args=(names,))
        waiting.start()
        time.sleep(_IDLE_SECONDS[1])  # by then it is held
        committed, name = commit()
        waiting.join()
        if names != [name]:
            raise RuntimeError(f"the pull that waited for {name} was answered with {names}")
        return found[0] - committed

    def _pull(self, **more: object) -> set[str]:
        """The names of the records that came."""
        body = {"device_id": self._device_id, "last_version": self._cursor, **more}
        self._http.request("POST", PULL, json.dumps(body), self._headers)
        answer = json.loads(self._http.getresponse().read())
        self._cursor, self._has_more = answer["current_version"], answer["has_more"]
        return {change["data"]["name"] for change in answer["changes"] if change["table"] == "item_categories"}


def _latencies(lab: Lab, crew: Crew, count: int, until_seen: Callable[[Commit], float]) -> list[float]:
    """Milliseconds, ascending, of so many commits, each on a system that was idle for a moment."""
    chance = random.Random(1)
    found = []

    def commit() -> tuple[float, str]:
        name = f"C {time.monotonic_ns()}"
        lab.sql.run(f"INSERT INTO item_categories (company_id, name) VALUES ({crew.company_id}, '{name}')")
        return time.perf_counter(), name

    for _ in range(count):
        time.sleep(chance.uniform(*_IDLE_SECONDS))
        found.append(until_seen(commit) * 1000)
    return sorted(found)


def _until_selected(reader: SqlClient, commit: Commit) -> float:
    head = reader.value("SELECT head FROM sync_state")
    committed, _ = commit()
    while reader.value("SELECT head FROM sync_state") == head:
        if time.perf_counter() - committed > _GIVE_UP_SECONDS:
            raise TimeoutError("the head does not move")
    return time.perf_counter() - committed


def _percentile(latencies: list[float], percent: int) -> float:
    return latencies[min(len(latencies) - 1, len(latencies) * percent // 100)]
