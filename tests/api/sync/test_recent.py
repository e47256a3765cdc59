"""What was read for one device of a company is not read again for the next, and all are given what the tables hold."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

import api.pages
import api.recent
from api import feed
from api.head_watch import HEADS
from api.pages import PAGES
from api.recent import SECONDS_MAX, Recent
from api.standing import STANDINGS, Standing
from tests.api.conftest import Api, Person
from tests.api.rows import hire
from tests.api.tills import drained, newest, open_api, shop, till
from tests.device import Line, update
from tests.servers import Database
from tests.sql_client import SqlClient

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Reads:
    """Counts what is read of the change log: pages, and what they are extended by."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.pages = self.extensions = 0
        read_page, read_changes = feed.read_page, feed.read_changes

        async def page(*args: Any) -> Any:
            self.pages += 1
            return await read_page(*args)

        async def extension(*args: Any) -> Any:
            self.extensions += 1
            return await read_changes(*args)

        patch.setattr(api.pages, "read_page", page)
        patch.setattr(api.recent, "read_changes", extension)

    def take(self) -> tuple[int, int]:
        """Pages and extensions since the last time."""
        taken = self.pages, self.extensions
        self.pages = self.extensions = 0
        return taken


@pytest.fixture
def reads() -> Iterator[Reads]:
    with pytest.MonkeyPatch.context() as patch:
        yield Reads(patch)


@pytest_asyncio.fixture(loop_scope="module")
async def fresh(shared: Database, tailer: object) -> AsyncIterator[Api]:
    """An application with nothing in its memory, and without hints, so that what it reads is when it is asked."""
    async with open_api(shared, redis_url="") as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def hinted(shared: Database, tailer: object) -> AsyncIterator[Api]:
    """An application with nothing in its memory, that is told by the tailer."""
    async with open_api(shared) as running:
        yield running


def recent_of(api: Api) -> Recent:
    return api.app[PAGES]._recent


def write(admin: SqlClient, owner: Person, *names: str) -> None:
    admin.run(*(f"INSERT INTO parties (company_id, name) VALUES ({owner.company_id}, '{name}')" for name in names))
    admin.wait_for_tailer()


def names(page: dict[str, Any]) -> list[str]:
    return [change["data"]["name"] for change in page["changes"] if change["table"] == "parties"]


async def begun(api: Api, count: int) -> tuple[Person, list[Line], int]:
    """Devices that have pulled everything, and stand alike."""
    owner, lines = await shop(api, count)
    return owner, lines, [await drained(line) for line in lines][-1]


async def test_a_change_is_read_once_for_all_devices_of_its_company(fresh: Api, admin: SqlClient, reads: Reads) -> None:
    owner, (first, *others), cursor = await begun(fresh, 5)
    write(admin, owner, "Ada", "Bob")
    assert names(await first.pull(cursor)) == ["Ada", "Bob"]
    reads.take()
    cursors = []
    for name, line in zip(("Cyd", "Dee", "Eve", "Fay"), others, strict=True):
        write(admin, owner, name)
        page = await line.pull(cursor)
        assert names(page)[:2] == ["Ada", "Bob"] and names(page)[-1] == name
        assert page["current_version"] == page["head_version"]
        cursors.append(page["current_version"])
    assert reads.take() == (0, 4)
    for line, there in zip(others, cursors, strict=True):
        await line.pull(there)
    assert reads.take() == (0, 0)


@pytest.mark.parametrize(
    ("asked", "count"),
    [({}, 5), ({"tables": ["parties"]}, 3), ({"limit": 1}, 5), ({"limit": 2, "tables": ["products"]}, 2)],
    ids=str,
)
async def test_a_page_from_memory_is_the_page_from_the_change_log(
    asked: dict[str, Any], count: int, fresh: Api, shared: Database, admin: SqlClient, reads: Reads
) -> None:
    owner, (first, line, other), cursor = await begun(fresh, 3)
    write(admin, owner, "Ada", "Bob", "Cyd")
    await first.pull(cursor)
    admin.run(
        *(f"UPDATE parties SET phone = '{phone}' WHERE company_id = {owner.company_id} AND name = 'Bob'" for phone in "12"),
        f"DELETE FROM parties WHERE company_id = {owner.company_id} AND name = 'Ada'",
        f"INSERT INTO products (company_id, name) VALUES ({owner.company_id}, 'Tea'), ({owner.company_id}, 'Rum')",
    )
    admin.wait_for_tailer()
    reads.take()
    told = newest((await line.pull_all(cursor, **asked))[0])
    assert reads.take() == (0, 1)
    async with open_api(shared, page_cache_bytes_max=0) as forgetful:
        there = till(replace(owner, http=forgetful.nobody.http, url=forgetful.nobody.url), other.device_id)
        assert told == newest((await there.pull_all(cursor, **asked))[0])
    assert len(told) == count


async def test_who_may_see_restricted_columns_sees_them_and_nobody_else(fresh: Api, admin: SqlClient) -> None:
    owner, (line, _), cursor = await begun(fresh, 2)
    clerk = till(await hire(fresh, admin, owner, "viewer"))
    there = await drained(clerk)
    for number in "12":
        admin.run(
            "INSERT INTO payment_accounts (company_id, account_name, account_type, account_number)"
            f" VALUES ({owner.company_id}, 'Bank {number}', 'bank', '{number}')"
        )
        admin.wait_for_tailer()
        for told, seen in ((await line.pull(cursor), True), (await clerk.pull(there), False), (await line.pull(cursor), True)):
            bank = [change["data"] for change in told["changes"] if change["table"] == "payment_accounts"][-1]
            assert bank["account_name"] == f"Bank {number}" and ("account_number" in bank) is seen


@pytest.mark.parametrize("is_hinted", [False, True])
async def test_more_than_is_worth_to_keep_is_read_in_pages(
    fresh: Api, admin: SqlClient, reads: Reads, monkeypatch: pytest.MonkeyPatch, is_hinted: bool
) -> None:
    owner, (line, *_), cursor = await begun(fresh, 2)
    write(admin, owner, "Ada")
    await line.pull(cursor)
    monkeypatch.setattr(api.recent, "EXTENSION_CHANGES_MAX", 3)
    write(admin, owner, "Bob", "Cyd", "Dee", "Eve")
    reads.take()
    if is_hinted:
        recent_of(fresh).read_ahead(owner.company_id, admin.value("SELECT head FROM sync_state"))
    assert names(await line.pull(cursor)) == ["Ada", "Bob", "Cyd", "Dee", "Eve"]
    assert reads.take() == (1, 1)


async def test_what_replay_has_put_back_is_given_again_after_a_while(fresh: Api, admin: SqlClient) -> None:
    owner, (line, *_), cursor = await begun(fresh, 2)
    write(admin, owner, "Ada")
    admin.run(f"UPDATE sync_changes SET company_id = 0 WHERE company_id = {owner.company_id} AND table_name = 'parties'")
    write(admin, owner, "Bob")
    assert names(await line.pull(cursor)) == ["Bob"]
    admin.run(f"UPDATE sync_changes SET company_id = {owner.company_id} WHERE company_id = 0")
    for memory in (fresh.app[PAGES], recent_of(fresh)):
        memory._clock = lambda: time.monotonic() + SECONDS_MAX
    assert names(await line.pull(cursor)) == ["Ada", "Bob"]


async def test_memory_is_bounded_and_the_companies_asked_for_last_stay(fresh: Api, admin: SqlClient) -> None:
    recent, owners = recent_of(fresh), []
    recent._bytes_max = 40_000
    for _ in range(6):
        owner, (line, *_), cursor = await begun(fresh, 2)
        owners.append(owner.company_id)
        write(admin, owner, *(f"Party {number}" for number in range(7)))
        assert len(names(await line.pull(cursor))) == 7
        assert 0 < recent._bytes == sum(company.bytes for company in recent._companies.values()) <= 40_000
        assert all(company.changes.bytes <= 10_000 for company in recent._companies.values())
    assert owners[-1] in recent._companies and owners[0] not in recent._companies


async def test_a_page_of_a_later_moment_than_was_asked_for_says_of_which(
    fresh: Api, admin: SqlClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another request has brought what is in memory further, since this one read where its device stands."""
    owner, (line, other, late), cursor = await begun(fresh, 3)
    write(admin, owner, "Ada")
    await line.pull(cursor)
    standings = fresh.app[STANDINGS]
    before = await standings.read(owner.company_id, late.device_id)
    write(admin, owner, "Bob")
    now = (await other.pull(cursor))["head_version"]

    async def as_before(*_: object) -> Standing:
        return before

    with monkeypatch.context() as patch:
        patch.setattr(standings, "read", as_before)
        page = await late.pull(cursor, limit=50)
    assert names(page) == ["Ada", "Bob"]
    assert before.head.version < page["current_version"] == page["head_version"] == now
    assert names(await late.pull(page["current_version"])) == []


async def test_what_a_hint_tells_of_is_read_while_it_is_asked_how_the_device_stands(
    hinted: Api, admin: SqlClient, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, (line, *_), cursor = await begun(hinted, 2)
    write(admin, owner, "Ada")
    await line.pull(cursor)
    write(admin, owner, "Bob")
    head = admin.value("SELECT head FROM sync_state")
    for _ in range(2000):
        if hinted.app[HEADS].hinted_head(owner.company_id) >= head:
            break
        await asyncio.sleep(0.01)
    reads.take()
    standings, is_ahead = hinted.app[STANDINGS], list[bool]()
    read_standing = standings.read

    async def late(company_id: int, device_id: str) -> Standing:
        for _ in range(500):
            if recent_of(hinted)._companies[owner.company_id].changes.head.version == head:
                is_ahead.append(True)
                break
            await asyncio.sleep(0.01)
        return await read_standing(company_id, device_id)

    with monkeypatch.context() as patch:
        patch.setattr(standings, "read", late)
        assert names(await line.pull(cursor)) == ["Ada", "Bob"]
    assert is_ahead == [True] and reads.take() == (0, 1)


async def test_a_hint_of_what_is_not_there_brings_nothing_and_loses_nothing(fresh: Api, admin: SqlClient, reads: Reads) -> None:
    owner, (line, *_), cursor = await begun(fresh, 2)
    write(admin, owner, "Ada")
    head = (await line.pull(cursor))["head_version"]
    recent = recent_of(fresh)
    reads.take()
    recent.read_ahead(owner.company_id, head + 1000)
    recent.read_ahead(owner.company_id + 1000, head + 1000)
    await recent.close()
    assert reads.take() == (0, 1)
    assert recent._companies[owner.company_id].changes.head.version == head
    write(admin, owner, "Bob")
    assert names(await line.pull(cursor)) == ["Ada", "Bob"]


async def test_history_is_not_in_memory_and_comes_all_the_same(fresh: Api, admin: SqlClient) -> None:
    owner, (line, other), cursor = await begun(fresh, 2)
    write(admin, owner, "Ada")
    [ada] = (await line.pull(cursor))["changes"]
    await line.push(update("parties", ada["record_id"], phone="1"))
    assert len((await line.pull(cursor))["changes"]) == 1
    told = (await other.pull(cursor, history=True))["changes"]
    assert [change["operation"] for change in told] == ["INSERT", "UPDATE"]
