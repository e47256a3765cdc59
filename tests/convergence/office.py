"""What people do at a desk, over HTTP: rows written by the data endpoints, with or without If-Match, and conflicts resolved."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.api.conftest import Person, Reply
from tests.convergence.edits import TEXTS, word
from tests.convergence.script import EDITED
from tests.convergence.witness import Answers, Written, must
from tests.oracle import Row
from tests.sql_client import SqlClient

DESK = "desk"
"""How the request ids and devices of people at a desk begin."""
_REFUSED = (404, 409, 412, 422)
_VERSIONS = "SELECT version FROM sync_changes WHERE company_id = %s AND table_name = %s AND record_id = %s AND for_device IS NULL"
_requests = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Office:
    """The owner of a company at a desk; `sql` looks up what there is."""

    person: Person
    company_id: int
    sql: SqlClient
    answers: Answers

    async def write(self, rng: Random) -> str:
        """POST, PATCH or DELETE one row of a table."""
        table = rng.choice(EDITED)
        ids = [row[0] for row in self.sql.rows(f"SELECT id FROM {table} WHERE company_id = %s ORDER BY id", self.company_id)]
        roll = rng.random()
        if not ids or roll < 0.2:
            return await self._send("POST", table, None, None, _new_row(table, rng))
        record_id = rng.choice(ids)
        if_match = await self._version(table, record_id, rng)
        if roll < 0.85:
            return await self._send("PATCH", table, record_id, if_match, _changes(table, rng))
        return await self._send("DELETE", table, record_id, if_match, None)

    async def resolve(self, rng: Random) -> str:
        """Resolve an open conflict, and once more, at once or afterwards: whoever comes second is told what the first decided."""
        listed = await self.person.get(f"/api/sync/conflicts?company_id={self.company_id}")
        must(listed.status == 200, f"conflicts: {listed.body}")
        if not listed.body["conflicts"]:
            return "there is no conflict to resolve"
        conflict = rng.choice(listed.body["conflicts"])
        choices = [rng.choice(("server", "client", "merged")) for _ in range(2)]
        decisions = [self._decide(conflict, choice, rng) for choice in choices]
        replies = await asyncio.gather(*decisions) if rng.random() < 0.3 else [await decision for decision in decisions]
        self._judge(conflict, choices, replies)
        said = [(choice, reply.status, reply.body.get("code")) for choice, reply in zip(choices, replies, strict=True)]
        return f"conflict {conflict['conflict_id']}: {said}"

    def _judge(self, conflict: dict[str, Any], choices: list[str], replies: list[Reply]) -> None:
        what = f"conflict {conflict['conflict_id']}: {[(c, r.status, r.body) for c, r in zip(choices, replies, strict=True)]}"
        must(all(reply.status in (200, *_REFUSED) for reply in replies), what)
        decided = [(choice, reply) for choice, reply in zip(choices, replies, strict=True) if reply.status == 200]
        first = [choice for choice, reply in decided if not reply.body["already_resolved"]]
        must(len(first) == bool(decided), f"not resolved once, {what}")
        must(all(reply.body["resolution"] == first[0] for _, reply in decided), f"the second was not told the first, {what}")
        if first:
            self.answers.counts["resolved"] += 1
            self.answers.resolved[self.company_id, conflict["conflict_id"]] = first[0]
            if first[0] != "server":
                self.answers.decided.add((self.company_id, conflict["table"], conflict["record_id"]))

    async def _decide(self, conflict: dict[str, Any], choice: str, rng: Random) -> Reply:
        body: dict[str, Any] = {"conflict_id": conflict["conflict_id"], "choice": choice, "company_id": self.company_id}
        if choice == "merged":
            body["data"] = _changes(conflict["table"], rng)
        if rng.random() < 0.5:
            body["device_id"] = f"{DESK} {self.company_id}"
        return await self.person.post("/api/sync/resolve", body, headers={"X-Request-Id": _request_id()})

    async def _version(self, table: str, record_id: int, rng: Random) -> int | None:
        """None, what a read shows now, or the first version that the record had."""
        roll = rng.random()
        if roll < 0.15:
            return None
        if roll < 0.5:
            reply = await self.person.get(f"/api/{table}/{record_id}?company_id={self.company_id}")
            return reply.body.get("version") if reply.status == 200 else None
        known = [row[0] for row in self.sql.rows(_VERSIONS, self.company_id, table, record_id)]
        return min(known, default=None)

    async def _send(self, method: str, table: str, record_id: int | None, if_match: int | None, body: Row | None) -> str:
        request_id = _request_id()
        headers = {"X-Request-Id": request_id, **({"If-Match": f'"{if_match}"'} if if_match is not None else {})}
        path = f"/api/{table}" + (f"/{record_id}" if record_id is not None else "")
        reply = await self.person.ask(method, f"{path}?company_id={self.company_id}", body, headers=headers)
        what = f"{method} {path} If-Match {if_match} {body}: {reply.status} {reply.body.get('code', '')}"
        must(reply.status in (200, 201, *_REFUSED), what)
        must(reply.status != 412 or if_match is not None, what)
        self.answers.counts[str(reply.status)] += 1
        is_done = reply.status < 300
        operation = {"POST": "INSERT", "PATCH": "UPDATE", "DELETE": "DELETE"}[method]
        written = Written(request_id, self.company_id, table, reply.body["data"]["id"] if is_done else 0, operation, if_match, body)
        (self.answers.written if is_done else self.answers.unwritten).append(written)
        return what


def _request_id() -> str:
    return f"{DESK}-{next(_requests)}"


def _new_row(table: str, rng: Random) -> Row:
    more = {"accounts": {"account_type": "asset"}, "payment_accounts": {"account_type": "cash"}}.get(table, {})
    if table == "settings":
        return {"name": word(rng), "value": {"at": word(rng)}}
    return {column: word(rng) for column in TEXTS[table]} | more


def _changes(table: str, rng: Random) -> Row:
    if table == "settings":
        return {"value": {"at": word(rng)}}
    columns = TEXTS.get(table) or ("description",)
    return {rng.choice(columns): word(rng)}
