"""The feed as Server-Sent Events: the same pages and cursors as pull (contract §2.8)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from tests.api.conftest import Api
from tests.api.rows import hire
from tests.api.tills import drained, newest, shop, till
from tests.device import Line, insert, update
from tests.oracle import Oracle
from tests.sql_client import SqlClient

pytestmark = pytest.mark.asyncio(loop_scope="module")
SECONDS_MAX = 10


@dataclass(frozen=True)
class Event:
    """One event: its name, its id, its data."""

    name: str
    id: int | None
    data: dict[str, Any]


class Stream:
    """Reads events as a browser's EventSource does, over one response."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def next(self) -> Event | None:
        """The next event, comments left out; None at the end."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(SECONDS_MAX):
            while line := (await self.response.content.readline()).decode():
                if line == "\n" and "data" in fields:
                    number = int(fields["id"]) if "id" in fields else None
                    return Event(fields["event"], number, json.loads(fields["data"]))
                name, found, value = line.rstrip("\n").partition(": ")
                if found and name:
                    fields[name] = value
        return None

    async def page(self) -> tuple[list[Event], Event]:
        """The changes of the next page, and the event that ends it."""
        changes: list[Event] = []
        while (event := await self.next()) is not None and event.name == "change":
            changes.append(event)
        assert event is not None
        return changes, event


@asynccontextmanager
async def stream(line: Line, last_event_id: int | None = None, status: int = 200, **more: Any) -> AsyncIterator[Stream]:
    """An open stream of one device."""
    headers = {"Authorization": f"Bearer {line.token}"}
    if last_event_id is not None:
        headers["Last-Event-ID"] = str(last_event_id)
    params = {"device_id": line.device_id, **{name: str(value) for name, value in more.items()}}
    if line.company_id:
        params["company_id"] = str(line.company_id)
    async with line.http.get(f"{line.url}/api/sync/stream", params=params, headers=headers) as response:
        assert response.status == status
        yield Stream(response)


async def test_it_begins_with_what_there_is_and_goes_on_with_what_comes(api: Api, admin: SqlClient) -> None:
    owner, (one, other) = await shop(api)
    await other.push(insert("parties", "a", name="Ann"))
    async with stream(one) as feed:
        assert feed.response.content_type == "text/event-stream"
        first, end = await feed.page()
        assert [event.id for event in first] == [event.data["version"] for event in first]
        assert end.name == "page" and end.id == end.data["current_version"] and end.data["has_more"] is False
        made = (await other.push(insert("parties", "b", name="Bob")))["id_mappings"]["b"]
        admin.run(f"INSERT INTO parties (company_id, name) VALUES ({owner.company_id}, 'By SQL')")
        later: list[Event] = []
        while len(later) < 2:
            later += (await feed.page())[0]
    assert later[0].data["record_id"] == made and later[1].data["data"]["name"] == "By SQL"
    rows = {key: change["data"] for key, change in newest([event.data for event in [*first, *later]]).items()}
    held = Oracle(admin).table("parties", owner.company_id)
    assert {key[1]: row for key, row in rows.items() if key[0] == "parties"} == held


async def test_pages_say_the_same_as_a_pulls(api: Api) -> None:
    _, (one, other) = await shop(api)
    await one.push(*(insert("parties", n, name=str(n)) for n in range(5)))
    pulled, _ = await till_of(one).pull_all(0, limit=2)
    async with stream(other, limit=2) as feed:
        streamed: list[dict[str, Any]] = []
        while True:
            changes, end = await feed.page()
            streamed += [event.data for event in changes]
            if not end.data["has_more"]:
                break
    assert streamed == pulled


def till_of(line: Line) -> Line:
    """Another device of the same user."""
    return Line(line.http, line.url, line.token, f"{line.device_id}-again", line.company_id)


async def test_the_last_id_resumes_it_and_nothing_is_missed_whichever_event_it_was_of(api: Api) -> None:
    _, (one, other) = await shop(api)
    await other.push(*(insert("parties", n, name=str(n)) for n in range(6)))
    async with stream(one) as feed:
        changes, end = await feed.page()
    await other.push(insert("parties", "late", name="late"))
    for last in (changes[2].id, changes[-1].id, end.id):
        assert last is not None
        async with stream(one, last) as feed:
            again, _ = await feed.page()
        wanted = {event.data["record_id"] for event in changes if event.id and event.id > last}
        found = {event.data["record_id"] for event in again}
        assert wanted <= found and "late" in {event.data["data"]["name"] for event in again if event.data["table"] == "parties"}


async def test_a_push_never_passes_what_only_the_stream_was_told(api: Api) -> None:
    """What was written into a stream may not have arrived."""
    _, (one, other) = await shop(api)
    start = await drained(one)
    async with stream(one, start) as feed:
        await feed.page()
        theirs = (await other.push(insert("parties", "a", name="Theirs")))["id_mappings"]["a"]
        await feed.page()
        await other.push(insert("parties", "c", name="The next page proves nothing of the one before it"))
        await feed.page()
    cursor = (await one.push(insert("parties", "b", name="Mine")))["current_version"]
    assert theirs in {change["record_id"] for change in (await one.pull(cursor))["changes"]}


async def test_a_cursor_that_is_good_no_more_is_refused_before_it_begins(api: Api) -> None:
    _, (one, _) = await shop(api)
    async with stream(one, 2**40, status=410) as feed:
        body = await feed.response.json()
    assert (body["code"], body["reason"]) == ("reset_required", "epoch")
    async with stream(one, status=400, last_version="x") as feed:
        assert (await feed.response.json())["code"] == "malformed"


async def test_it_ends_when_its_reader_may_read_less(api: Api, admin: SqlClient) -> None:
    owner, _ = await shop(api)
    seller = await hire(api, admin, owner, "accountant")
    line = till(seller, company_id=owner.company_id)
    async with stream(line) as feed:
        await feed.page()
        admin.run(
            f"UPDATE users SET role = 'sales' WHERE company_id = {owner.company_id} AND login_id = {seller.login_id}",
        )
        while (event := await feed.next()) is not None:
            assert event.data.get("table") != "account_transactions"
    async with stream(line) as feed:
        _, end = await feed.page()
    assert "account_transactions" in end.data["revoked"]


async def test_a_revoked_device_hears_why_it_ends(api: Api, admin: SqlClient) -> None:
    _, (one, _) = await shop(api)
    async with stream(one) as feed:
        await feed.page()
        admin.run(f"UPDATE devices SET revoked_at = NOW() WHERE device_id = '{one.device_id}'")
        event = await feed.next()
    assert event is not None and (event.name, event.data["code"]) == ("end", "device_revoked")


async def test_a_redelivered_row_comes_through_the_stream(api: Api) -> None:
    _, (one, other) = await shop(api)
    made = (await other.push(insert("payment_accounts", "a", account_type="bank", account_name="Main")))["id_mappings"]["a"]
    cursor = await drained(one)
    async with stream(one, cursor) as feed:
        await feed.page()
        await other.push_one(update("payment_accounts", made, bank_name="theirs"))
        _, end = await feed.page()
        refused = await one.push_one(update("payment_accounts", made, bank_name="mine", more={"base_version": cursor}))
        assert refused["status"] == "conflict"
        again, _ = await feed.page()
    assert [event.data["data"]["bank_name"] for event in again] == ["theirs"] and again[0].id and again[0].id > (end.id or 0)


async def test_an_edit_of_what_the_stream_brought_is_no_conflict(api: Api, admin: SqlClient) -> None:
    """What a stream brought is proved by the id that the next one begins with, as a pull's page is by the next cursor."""
    owner, (one, other) = await shop(api)
    made = (await other.push_one(insert("payment_accounts", "x", account_type="bank", account_name="A")))["record_id"]
    async with stream(one, await drained(one)) as feed:
        _, begin = await feed.page()
        await other.push(update("payment_accounts", made, bank_name="B"))
        _, end = await feed.page()
    assert begin.id and end.id and end.id > begin.id
    async with stream(one, end.id) as feed:
        await feed.page()
    result = await one.push_one(update("payment_accounts", made, bank_name="C"))
    assert result["status"] == "applied"
    assert Oracle(admin).row("payment_accounts", owner.company_id, made)["bank_name"] == "C"  # type: ignore[index]
