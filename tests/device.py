"""A device as the contract tells it: an offline store with an outbox, over HTTP, in two habits.

*naive* knows the plan's fields only: sends whole rows, stores `current_version` of every answer, pulls once a sync, ignores
`results`, and keeps what it takes row by row. *full* sends only what changed with its base version, reads `results`, pulls until
nothing is left, drops the tables that were revoked, and keeps an answer in one transaction.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import aiohttp

from schema.tables import TABLES
from tests.oracle import Row, Rows
from tests.store import Shelf, Store

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
    """One device's end of the line: pulls and pushes as they are, nothing remembered.

    Somebody with one company need not name it.
    """

    http: aiohttp.ClientSession
    url: str
    token: str
    device_id: str
    company_id: int | None = None
    names_company: bool = True

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
        return {"device_id": self.device_id, **({"company_id": self.company_id} if self.company_id and self.names_company else {})}


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
    """Rows by server id, drafts by local id until they have one, and what is still to be sent, all in `store`.

    A record with unsent changes is the device's own until they are sent: of what is pulled a naive device takes only the columns
    that it does not have itself, a full one puts its changes over it.
    """

    line: Line
    habit: Habit = Habit.NAIVE
    clock: Callable[[], str] = stamp
    store: Store = field(default_factory=Store)

    @property
    def is_naive(self) -> bool:
        return self.habit is Habit.NAIVE

    @property
    def cursor(self) -> int:
        return int(self.store.state.get("cursor", 0))

    @cursor.setter
    def cursor(self, version: int) -> None:
        self.store.state["cursor"] = version

    @property
    def rows(self) -> Shelf:
        """Live rows by table and server id."""
        return self.store.rows

    @property
    def drafts(self) -> Shelf:
        """Rows that have no server id yet, by table and local id."""
        return self.store.drafts

    @property
    def outbox(self) -> Shelf:
        """Changes that are still to be sent, by their number."""
        return self.store.outbox

    def insert(self, table: str, *, group: str | None = None, **data: Any) -> str:
        """Make a record offline; returns its local id, by which other records may refer to it."""
        local_id = f"temp_{self.store.next_number('local id'):03d}"
        self.drafts[table, local_id] = data
        self._send("INSERT", table, local_id, data, group)
        return local_id

    def update(self, table: str, record: int | str, *, group: str | None = None, **data: Any) -> None:
        """Edit a record that the device holds, by server id or by local id."""
        before = self.row(table, record)
        row = {**before, **data}
        key = self._id(table, record)
        self._hold(table, record, row)
        if self.is_naive:
            sent = {**row, **({"id": key} if key is not None else {})}
            self._send("UPDATE", table, record if isinstance(record, str) else f"row_{record}", sent, group)
        else:
            changed = {name: value for name, value in data.items() if before.get(name) != value}
            self._send("UPDATE", table, record if isinstance(record, str) else None, changed, group, **self._named(table, key))

    def delete(self, table: str, record: int | str) -> None:
        """Delete a record that the device holds."""
        key = self._id(table, record)
        if key is not None:
            del self.rows[table, key]
        else:
            del self.drafts[table, str(record)]
        data = {"id": key} if self.is_naive and key is not None else {}
        more = {} if self.is_naive else self._named(table, key)
        self._send("DELETE", table, record if isinstance(record, str) else None, data, None, **more)

    async def sync(self) -> None:
        """Push, then pull; where the push fails, nothing is pulled."""
        await self.push()
        await self.pull()

    async def push(self, *, is_answer_lost: bool = False) -> dict[str, Any]:
        """Send the outbox in one request. Raises ConnectionError where the answer is lost; the outbox is kept then."""
        sent = dict(self.outbox.listed())
        if not sent:
            return {}
        answer = await self.line.push(*sent.values(), **self.push_fields())
        if is_answer_lost:
            raise ConnectionError("the answer was lost")
        self.take_pushed(sent, answer)
        return answer

    def push_fields(self) -> dict[str, Any]:
        """What a push says beside its changes."""
        return {} if self.is_naive else {"last_version": self.cursor, "sent_at": self.clock()}

    def take_pushed(self, sent: dict[int, Change], answer: dict[str, Any]) -> None:
        """Take over the answer to a push of these changes of the outbox. Of a naive device every change stays whose record has no
        server id yet; of a full one every rejected change that may be sent again.
        """
        with self._at_once():
            if self.is_naive:
                self._take_mappings(sent, answer["id_mappings"])
            else:
                self._take_results(sent, answer["results"])
            self.cursor = answer["current_version"]

    async def pull(self, **more: Any) -> dict[str, Any]:
        """One page for a naive device, all of them for a full one; returns the last answer."""
        while True:
            page = await self.line.pull(self.cursor, **more)
            self.take_page(page)
            if self.is_naive or not page["has_more"]:
                return page

    def reset(self) -> None:
        """Start again after a 410: the server's rows go, what is unsent stays."""
        with self._at_once():
            self.rows.clear()
            self.store.versions.clear()
            self.cursor = 0

    def take_page(self, page: dict[str, Any]) -> None:
        """Take over the answer to a pull."""
        with self._at_once():
            for change in page["changes"]:
                self._take(change)
            for table in () if self.is_naive else page.get("revoked", ()):
                self._drop(table)
            self.cursor = page["current_version"]

    def held(self) -> Rows:
        """Live rows by table and server id; drafts are not among them."""
        found: Rows = {}
        for (table, record_id), row in self.rows.listed():
            found.setdefault(table, {})[record_id] = row
        return found

    def row(self, table: str, record: int | str) -> Row:
        """One row or draft."""
        key = self._id(table, record)
        row: Row = self.rows[table, key] if key is not None else self.drafts[table, str(record)]
        return row

    def _at_once(self) -> Any:
        return nullcontext() if self.is_naive else self.store.transaction()

    def _hold(self, table: str, record: int | str, row: Row) -> None:
        key = self._id(table, record)
        if key is not None:
            self.rows[table, key] = row
        else:
            self.drafts[table, str(record)] = row

    def _send(self, operation: str, table: str, local_id: str | None, data: Row, group: str | None, **more: Any) -> None:
        named = {**({"local_id": local_id} if local_id is not None else {}), **({"group": group} if group is not None else {})}
        change = {"table": table, **named, "operation": operation, "data": data, "timestamp": self.clock(), **more}
        self.outbox[self.store.next_number("outbox")] = change

    def _named(self, table: str, record_id: int | None) -> dict[str, Any]:
        if record_id is None:
            return {}
        version = self.store.versions.get((table, record_id))
        return {"record_id": record_id, **({"base_version": version} if version is not None else {})}

    def _id(self, table: str, record: int | str) -> int | None:
        return self.store.ids.get((table, record)) if isinstance(record, str) else record

    def _take(self, change: Change) -> None:
        key = (change["table"], change["record_id"])
        unsent = [edit for _, edit in self.outbox.listed() if (edit["table"], self._target(edit)) == key]
        if unsent and self.is_naive:
            if key in self.rows:
                self.rows[key] = {**change["data"], **self.rows[key]}
            return
        if change["operation"] == "DELETE":
            self.rows.pop(key, None)
        else:
            self.rows[key] = change["data"]
        self.store.versions[key] = change["version"]
        if not self.is_naive and change["device_id"] == self.line.device_id:
            self._map({(change["table"], change["local_id"]): change["record_id"]})
        for edit in unsent:
            if edit["operation"] == "DELETE":
                self.rows.pop(key, None)
            elif key in self.rows:
                self.rows[key] = {**self.rows[key], **{n: v for n, v in edit["data"].items() if n != "id"}}

    def _target(self, change: Change) -> int | None:
        """The server id of a change's record, as far as the device knows it."""
        local = self.store.ids.get((change["table"], change.get("local_id") or ""))
        if change["operation"] == "INSERT":
            return local
        named: int | None = change.get("record_id") or change["data"].get("id")
        return named if named is not None else local

    def _take_mappings(self, sent: dict[int, Change], mappings: dict[str, int]) -> None:
        """An INSERT without a mapping stays unsent work, and so does what was done to the record after it."""
        made = [change for change in sent.values() if change["operation"] == "INSERT" and change["local_id"] in mappings]
        self._map({(change["table"], change["local_id"]): mappings[change["local_id"]] for change in made})
        for number, change in sent.items():
            if self._target(change) is not None:
                self.outbox.pop(number, None)

    def _take_results(self, sent: dict[int, Change], results: list[dict[str, Any]]) -> None:
        answered = list(zip(sent.items(), results, strict=True))
        made = [(change, result) for (_, change), result in answered if change["operation"] == "INSERT" and result["record_id"]]
        self._map({(change["table"], change["local_id"]): result["record_id"] for change, result in made})
        for (number, change), result in answered:
            if "server_data" in result:
                self._take_told(change["table"], result)
            elif result.get("version") is not None:
                self.store.versions[change["table"], result["record_id"]] = result["version"]
            if result["status"] == "rejected" and result["retryable"]:
                continue
            self.outbox.pop(number, None)
            if result["status"] == "rejected":
                self.store.refused[number] = {**change, "code": result["code"]}
                self.drafts.pop((change["table"], change.get("local_id", "")), None)

    def _take_told(self, table: str, result: dict[str, Any]) -> None:
        key = (table, result["record_id"])
        if result["server_deleted"]:
            self.rows.pop(key, None)
        else:
            self.rows[key] = result["server_data"]
        self.store.versions[key] = result["server_version"]

    def _map(self, ids: dict[LocalKey, int]) -> None:
        """Records have their server ids from here on, in their own rows and wherever others refer to them."""
        new = {key: record_id for key, record_id in ids.items() if key not in self.store.ids}
        for (table, local_id), record_id in new.items():
            self.store.ids[table, local_id] = record_id
            draft = self.drafts.pop((table, local_id), None)
            if draft is not None:
                self.rows.setdefault((table, record_id), {**draft, "id": record_id})
        for shelf in (self.rows, self.drafts) if new else ():
            for key, row in shelf.listed():
                if _relink(key[0], row, new):
                    shelf[key] = row
        for number, change in self.outbox.listed() if new else ():
            if _relink(change["table"], change["data"], new):
                self.outbox[number] = change

    def _drop(self, table: str) -> None:
        for key in [key for key in self.rows if key[0] == table]:
            del self.rows[key]


def _relink(name: str, row: Row, ids: dict[LocalKey, int]) -> bool:
    """Put server ids in place of local ones; tell whether there was any."""
    references = {column: (target, row.get(column)) for column, target in TABLES[name].references.items()}
    found = {column: ids[key] for column, key in references.items() if key in ids}
    row.update(found)
    return bool(found)
