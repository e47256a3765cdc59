"""A device as the contract tells it: an offline store with an outbox, over HTTP, in two habits.

*naive* knows the plan's fields only: sends whole rows, stores `current_version` of every answer, pulls once a sync, ignores
`results`. *full* sends only what changed with its base version, reads `results`, and pulls until nothing is left.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import aiohttp

from schema.tables import TABLES
from tests.oracle import Row, Rows

Change = dict[str, Any]
Key = tuple[str, int]
"""table, server id."""
LocalKey = tuple[str, str]
"""table, local id."""


class Refused(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(f"{status} {body.get('code')}: {body.get('message')}")
        self.status = status
        self.body = body
        self.code = body.get("code")


@dataclass
class Line:
    """One device's end of the line: pulls and pushes as they are, nothing remembered."""

    http: aiohttp.ClientSession
    url: str
    token: str
    device_id: str
    company_id: int | None = None

    async def ask(self, path: str, body: Any, **more: Any) -> dict[str, Any]:
        """POST a body and return the answer's. Raises Refused."""
        headers = {"Authorization": f"Bearer {self.token}", **more.pop("headers", {})}
        if not more:
            more["json"] = body
        async with self.http.post(self.url + path, headers=headers, **more) as response:
            answer: dict[str, Any] = await response.json(content_type="application/json")
        if response.status != 200:
            raise Refused(response.status, answer)
        return answer

    async def pull(self, last_version: int = 0, **more: Any) -> dict[str, Any]:
        """One page."""
        return await self.ask("/api/sync/pull", {**self._envelope(), "last_version": last_version, **more})

    async def pull_all(self, last_version: int = 0, **more: Any) -> tuple[list[Change], int]:
        """All pages; the changes and the last cursor."""
        changes: list[Change] = []
        while True:
            page = await self.pull(last_version, **more)
            changes += page["changes"]
            last_version = page["current_version"]
            if not page["has_more"]:
                return changes, last_version

    async def push(self, *changes: Change, **more: Any) -> dict[str, Any]:
        """Changes as they are."""
        return await self.ask("/api/sync/push", {**self._envelope(), "changes": list(changes), **more})

    async def push_one(self, change: Change, **more: Any) -> dict[str, Any]:
        """One change; its result."""
        result: dict[str, Any] = (await self.push(change, **more))["results"][0]
        return result

    async def status(self) -> dict[str, Any]:
        """What `GET /api/sync/status` says."""
        params = {name: str(value) for name, value in self._envelope().items()}
        headers = {"Authorization": f"Bearer {self.token}"}
        async with self.http.get(f"{self.url}/api/sync/status", params=params, headers=headers) as response:
            body: dict[str, Any] = await response.json()
        if response.status != 200:
            raise Refused(response.status, body)
        status: dict[str, Any] = body["status"]
        return status

    def _envelope(self) -> dict[str, Any]:
        return {"device_id": self.device_id, **({"company_id": self.company_id} if self.company_id else {})}


_stamps = itertools.count()


def stamp() -> str:
    """A device's clock that never says the same twice."""
    return (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(milliseconds=next(_stamps))).isoformat().replace("+00:00", "Z")


def insert(table: str, local_id: Any, /, *, more: Any = None, **data: Any) -> Change:
    """An INSERT as the plan writes it; `more` are fields beside `data`."""
    made = {"table": table, "local_id": local_id, "operation": "INSERT", "data": data, "timestamp": stamp()}
    return {**made, **(more or {})}


def update(table: str, record_id: int | None, /, *, more: Any = None, **data: Any) -> Change:
    """An UPDATE by `data.id`, as an app that knows the plan's fields only writes it; without one `more` names the record."""
    named = {"id": record_id} if record_id is not None else {}
    return {"table": table, "operation": "UPDATE", "data": {**named, **data}, "timestamp": stamp(), **(more or {})}


def delete(table: str, record_id: int | None, /, *, more: Change | None = None) -> Change:
    """A DELETE by `data.id`."""
    named = {"id": record_id} if record_id is not None else {}
    return {"table": table, "operation": "DELETE", "data": named, "timestamp": stamp(), **(more or {})}


class Habit(StrEnum):
    """How much of the contract a device knows."""

    NAIVE = "naive"
    FULL = "full"


@dataclass
class Device:
    """Rows by server id, drafts by local id until they have one, and what is still to be sent."""

    line: Line
    habit: Habit = Habit.NAIVE
    cursor: int = 0
    rows: dict[Key, Row] = field(default_factory=dict)
    versions: dict[Key, int] = field(default_factory=dict)
    drafts: dict[LocalKey, Row] = field(default_factory=dict)
    ids: dict[LocalKey, int] = field(default_factory=dict)
    outbox: list[Change] = field(default_factory=list)
    refused: list[Change] = field(default_factory=list)
    clock: Callable[[], str] = stamp
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def is_naive(self) -> bool:
        return self.habit is Habit.NAIVE

    def insert(self, table: str, **data: Any) -> str:
        """Make a record offline; returns its local id, by which other records may refer to it."""
        local_id = f"temp_{next(self._numbers):03d}"
        self.drafts[table, local_id] = dict(data)
        self._send("INSERT", table, local_id, data)
        return local_id

    def update(self, table: str, record: int | str, **data: Any) -> None:
        """Edit a record that the device holds, by server id or by local id."""
        row = self._held(table, record)
        before = dict(row)
        row.update(data)
        key = self._id(table, record)
        if self.is_naive:
            sent = {**row, **({"id": key} if key is not None else {})}
            self._send("UPDATE", table, record if isinstance(record, str) else f"row_{record}", sent)
        else:
            changed = {name: value for name, value in data.items() if before.get(name) != value}
            self._send("UPDATE", table, record if isinstance(record, str) else None, changed, **self._named(table, key))

    def delete(self, table: str, record: int | str) -> None:
        """Delete a record that the device holds."""
        self._held(table, record)
        key = self._id(table, record)
        if key is not None:
            del self.rows[table, key]
        else:
            del self.drafts[table, str(record)]
        data = {"id": key} if self.is_naive and key is not None else {}
        more = {} if self.is_naive else self._named(table, key)
        self._send("DELETE", table, record if isinstance(record, str) else None, data, **more)

    async def sync(self) -> None:
        """Push, then pull; where the push fails, nothing is pulled."""
        await self.push()
        await self.pull()

    async def push(self, *, is_answer_lost: bool = False) -> dict[str, Any]:
        """Send the outbox in one request. Raises ConnectionError where the answer is lost; the outbox is kept then."""
        if not self.outbox:
            return {}
        sent = list(self.outbox)
        more = {} if self.is_naive else {"last_version": self.cursor, "sent_at": self.clock()}
        answer = await self.line.push(*sent, **more)
        if is_answer_lost:
            raise ConnectionError("the answer was lost")
        self.outbox = self.outbox[len(sent) :]
        if self.is_naive:
            self._take_mappings(sent, answer["id_mappings"])
        else:
            self._take_results(sent, answer["results"])
        self.cursor = answer["current_version"]
        return answer

    async def pull(self, **more: Any) -> dict[str, Any]:
        """One page for a naive device, all of them for a full one; returns the last answer."""
        while True:
            page = await self.line.pull(self.cursor, **more)
            for change in page["changes"]:
                self._take(change)
            self.cursor = page["current_version"]
            for table in () if self.is_naive else page.get("revoked", ()):
                self._drop(table)
            if self.is_naive or not page["has_more"]:
                return page

    def reset(self) -> None:
        """Start again after a 410: the server's rows go, what is unsent stays."""
        self.rows.clear()
        self.versions.clear()
        self.cursor = 0

    def held(self) -> Rows:
        """Live rows by table and server id; drafts are not among them."""
        found: Rows = {}
        for (table, record_id), row in self.rows.items():
            found.setdefault(table, {})[record_id] = row
        return found

    def row(self, table: str, record: int | str) -> Row:
        """One row or draft."""
        return self._held(table, record)

    def _send(self, operation: str, table: str, local_id: str | None, data: Row, **more: Any) -> None:
        named = {"local_id": local_id} if local_id is not None else {}
        change = {"table": table, **named, "operation": operation, "data": dict(data), "timestamp": self.clock(), **more}
        self.outbox.append(change)

    def _named(self, table: str, record_id: int | None) -> dict[str, Any]:
        if record_id is None:
            return {}
        version = self.versions.get((table, record_id))
        return {"record_id": record_id, **({"base_version": version} if version is not None else {})}

    def _id(self, table: str, record: int | str) -> int | None:
        return self.ids.get((table, record)) if isinstance(record, str) else record

    def _held(self, table: str, record: int | str) -> Row:
        key = self._id(table, record)
        return self.rows[table, key] if key is not None else self.drafts[table, str(record)]

    def _take(self, change: Change) -> None:
        key = (change["table"], change["record_id"])
        if change["operation"] == "DELETE":
            self.rows.pop(key, None)
        else:
            self.rows[key] = change["data"]
        self.versions[key] = change["version"]
        if not self.is_naive and change["device_id"] == self.line.device_id:
            self._map(change["table"], change["local_id"], change["record_id"])

    def _take_mappings(self, sent: list[Change], mappings: dict[str, int]) -> None:
        """A naive device keeps an INSERT without a mapping: it is unsent work."""
        for change in sent:
            if change["operation"] != "INSERT":
                continue
            if change["local_id"] in mappings:
                self._map(change["table"], change["local_id"], mappings[change["local_id"]])
            else:
                self.outbox.insert(0, change)

    def _take_results(self, sent: list[Change], results: list[dict[str, Any]]) -> None:
        for change, result in zip(sent, results, strict=True):
            if result["record_id"] is not None and change["operation"] == "INSERT":
                self._map(change["table"], change["local_id"], result["record_id"])
            if "server_data" in result:
                self._take_told(change["table"], result)
            elif result.get("version") is not None:
                self.versions[change["table"], result["record_id"]] = result["version"]
            if result["status"] == "rejected":
                self._take_rejected(change, result)

    def _take_told(self, table: str, result: dict[str, Any]) -> None:
        key = (table, result["record_id"])
        if result["server_deleted"]:
            self.rows.pop(key, None)
        else:
            self.rows[key] = result["server_data"]
        self.versions[key] = result["server_version"]

    def _take_rejected(self, change: Change, result: dict[str, Any]) -> None:
        if result["retryable"]:
            self.outbox.append(change)
            return
        self.refused.append({**change, "code": result["code"]})
        self.drafts.pop((change["table"], change.get("local_id", "")), None)

    def _map(self, table: str, local_id: str, record_id: int) -> None:
        """A record has its server id from here on, in its own row and wherever others refer to it."""
        self.ids[table, local_id] = record_id
        draft = self.drafts.pop((table, local_id), None)
        if draft is not None:
            self.rows.setdefault((table, record_id), {**draft, "id": record_id})
        for name, row in self._all_rows():
            for column, target in TABLES[name].references.items():
                if target == table and row.get(column) == local_id:
                    row[column] = record_id

    def _all_rows(self) -> Iterator[tuple[str, Row]]:
        yield from ((table, row) for (table, _), row in self.rows.items())
        yield from ((table, row) for (table, _), row in self.drafts.items())
        yield from ((change["table"], change["data"]) for change in self.outbox)

    def _drop(self, table: str) -> None:
        for key in [key for key in self.rows if key[0] == table]:
            del self.rows[key]
