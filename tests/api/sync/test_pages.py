"""A page that was read for one device and is served to others: once read, and never to somebody it is not right for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import pytest_asyncio
from msgspec.structs import replace

from api.deliveries import Deliveries
from api.feed import FeedRow, Page
from api.heads import Head
from api.pages import PAGES, SharedPage
from api.scope import SCOPES
from api.standing import STANDINGS, Standings
from tests.api.conftest import Api
from tests.api.sync.test_never import refused_edit
from tests.api.sync.test_pruned import prune
from tests.api.tills import drained, newest, open_api, shop, till
from tests.device import Refused, insert
from tests.oracle import Oracle
from tests.servers import Database
from tests.sql_client import SqlClient

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def parties(api: Api, admin: SqlClient, count: int) -> Any:
    """A company's owner and devices, and parties it has."""
    owner, lines = await shop(api, 3)
    admin.run(*(f"INSERT INTO parties (company_id, name) VALUES ({owner.company_id}, 'Party {i}')" for i in range(count)))
    admin.wait_for_tailer()
    return owner, lines


def reads(api: Api) -> list[Any]:
    """Collects what is read from the change log from now on."""
    pages, found = api.app[PAGES], []
    read = pages._read

    async def counted(key: Any, *rest: Any) -> SharedPage:
        found.append(key)
        return await read(key, *rest)

    pages._read = counted  # type: ignore[method-assign,assignment]
    return found


@pytest_asyncio.fixture(loop_scope="module")
async def fresh(shared: Database, tailer: object) -> Any:
    """An application with no page in its memory."""
    async with open_api(shared) as running:
        yield running


async def test_devices_that_begin_at_once_read_each_page_once_and_all_have_everything(fresh: Api, admin: SqlClient) -> None:
    owner, _ = await parties(fresh, admin, 40)
    found = reads(fresh)
    all_pulled = await asyncio.gather(*(till(owner).pull_all(0, limit=10) for _ in range(8)))
    feeds = [[(c["table"], c["record_id"], c["version"]) for c in changes] for changes, _ in all_pulled]
    assert all(feed == feeds[0] for feed in feeds) and len(feeds[0]) == 42
    assert len(found) == len(set(found)) <= 7


async def test_in_a_first_sync_the_next_page_is_read_while_one_goes_over_the_line(fresh: Api, admin: SqlClient) -> None:
    _, (line, *_) = await parties(fresh, admin, 30)
    found = reads(fresh)
    page = await line.pull(0, limit=10)
    await asyncio.gather(*fresh.app[PAGES]._reading.values())
    assert [key.after for key in found] == [0, page["current_version"]]
    await line.pull(page["current_version"], limit=10)
    assert found[1].after == page["current_version"] and len(set(found)) == len(found), "it was there already"


async def test_an_empty_pull_reads_no_page_and_hears_of_the_next_change(fresh: Api, admin: SqlClient) -> None:
    owner, (line, *_) = await parties(fresh, admin, 3)
    cursor = await drained(line)
    found = reads(fresh)
    for _ in range(3):
        page = await line.pull(cursor)
        assert (page["changes"], page["has_more"]) == ([], False)
        cursor = page["current_version"]
    assert found == []
    admin.run(f"INSERT INTO parties (company_id, name) VALUES ({owner.company_id}, 'Another')")
    admin.wait_for_tailer()
    assert [c["data"]["name"] for c in (await line.pull(cursor))["changes"]] == ["Another"]


async def test_another_companys_changes_move_the_cursor_of_an_empty_pull(fresh: Api, admin: SqlClient) -> None:
    _, (line, *_) = await parties(fresh, admin, 1)
    cursor = await drained(line)
    await parties(fresh, admin, 2)
    page = await line.pull(cursor)
    assert page["changes"] == [] and page["current_version"] == page["head_version"] > cursor


async def test_a_record_that_was_deleted_since_a_first_page_was_read_is_deleted_for_whoever_gets_that_page(
    fresh: Api, admin: SqlClient
) -> None:
    owner, (first, second, _) = await parties(fresh, admin, 30)
    found = reads(fresh)
    page = await first.pull(0, limit=10)
    doomed = next(c["record_id"] for c in page["changes"] if c["table"] == "parties")
    admin.run(f"DELETE FROM parties WHERE id = {doomed}")
    admin.wait_for_tailer()
    again = await second.pull(0, limit=10)
    assert again["changes"] == page["changes"] and len(found) == len(set(found)) == 2, (
        "served as it was; the next one is read ahead"
    )
    rest, _ = await second.pull_all(again["current_version"], limit=10)
    held = newest(again["changes"] + rest)
    assert held["parties", doomed]["operation"] == "DELETE"
    live = {key for key, change in held.items() if change["operation"] != "DELETE"}
    rows = Oracle(admin).rows(owner.company_id)
    assert live == {(table, record_id) for table in rows for record_id in rows[table]}


async def test_after_deletions_were_pruned_a_first_page_is_read_again(fresh: Api, shared: Database, admin: SqlClient) -> None:
    _, (first, second, _) = await parties(fresh, admin, 30)
    page = await first.pull(0, limit=10)
    doomed = next(c["record_id"] for c in page["changes"] if c["table"] == "parties")
    admin.run(f"DELETE FROM parties WHERE id = {doomed}")
    prune(shared, admin)
    changes, _ = await second.pull_all(0, limit=10)
    assert ("parties", doomed) not in newest(changes)


async def test_a_cursor_below_what_was_pruned_is_told_so_though_its_page_is_in_memory(
    fresh: Api, shared: Database, admin: SqlClient
) -> None:
    owner, (late, other, _) = await parties(fresh, admin, 2)
    gone = admin.run(f"INSERT INTO parties (company_id, name) VALUES ({owner.company_id}, 'Gone')")
    admin.wait_for_tailer()
    old = await drained(late)
    assert await drained(other) == old
    admin.run(f"DELETE FROM parties WHERE id = {gone}")
    admin.wait_for_tailer()
    assert (await other.pull(old))["changes"]
    prune(shared, admin)
    with pytest.raises(Refused) as refused:
        await late.pull(old)
    assert refused.value.body["reason"] == "retention"


async def test_a_page_is_not_shared_by_roles_that_see_different_columns_or_tables(fresh: Api, admin: SqlClient) -> None:
    owner, (line, *_) = await parties(fresh, admin, 1)
    bank = "(company_id, account_type, account_name, account_number)"
    admin.run(f"INSERT INTO payment_accounts {bank} VALUES ({owner.company_id}, 'bank', 'Main', '123')")
    admin.wait_for_tailer()
    seen = [await line.pull_all(0)]
    for role in ("viewer", "sales"):
        admin.run(f"UPDATE users SET role = '{role}' WHERE login_id = {owner.login_id}")
        admin.wait_for_tailer()
        fresh.app[SCOPES].forget()
        seen.append(await till(owner).pull_all(0))
    accounts = [[c["data"] for c in changes if c["table"] == "payment_accounts"] for changes, _ in seen]
    assert ["account_number" in rows[0] for rows in accounts] == [True, False, False]
    assert ["users" in {c["table"] for c in changes} for changes, _ in seen] == [True, True, False]
    some = await till(owner).pull(0, tables=["companies"])
    assert {c["table"] for c in some["changes"]} == {"companies"}


async def test_what_is_for_one_device_alone_is_in_no_page_of_others(fresh: Api) -> None:
    _, (mine, other, third) = await shop(fresh, 3)
    theirs = await drained(other)
    assert await drained(third) == theirs
    made, cursor = await refused_edit(mine, other)
    before = [await line.pull(theirs, history=True) for line in (other, third)]
    shared_page = [await line.pull(theirs) for line in (other, third)]
    [change] = (await mine.pull(cursor))["changes"]
    assert change["record_id"] == made
    for page in before + shared_page:
        assert change["version"] not in {told["version"] for told in page["changes"]}


async def test_history_is_whole_though_the_same_page_was_given_without_it(fresh: Api, admin: SqlClient) -> None:
    owner, (one, two, _) = await parties(fresh, admin, 1)
    cursors = await drained(one), await drained(two)
    record = admin.run(f"INSERT INTO parties (company_id, name) VALUES ({owner.company_id}, 'First')")
    admin.run(f"UPDATE parties SET name = 'Second' WHERE id = {record}")
    admin.wait_for_tailer()
    assert len((await one.pull(cursors[0]))["changes"]) == 1
    assert len((await two.pull(cursors[1], history=True))["changes"]) == 2


async def test_no_echo_leaves_out_of_a_shared_page_what_this_device_made(fresh: Api) -> None:
    _, (mine, other, _) = await shop(fresh, 3)
    cursors = await drained(mine), await drained(other)
    await mine.push_one(insert("units_of_measure", "e", name="Exact", abbrev="x"))
    assert len((await other.pull(cursors[1]))["changes"]) == 1
    assert (await mine.pull(cursors[0], no_echo=True))["changes"] == []
    assert len((await other.pull(cursors[1], no_echo=True))["changes"]) == 1


HEAD = Head(0, 100, 10)
PAGE = SharedPage(Page([], 90, True), b"", HEAD, until=50.0)


@pytest.mark.parametrize(
    ("page", "newest_change", "head", "now", "holds"),
    [
        (PAGE, 200, replace(HEAD, version=200), 0.0, True),
        (PAGE, 200, replace(HEAD, version=200), 51.0, False),
        (PAGE, 99, replace(HEAD, version=99), 0.0, False),
        (PAGE, 200, Head(0, 200, 11), 0.0, True),
        (PAGE, 200, Head(0, 200, 101), 0.0, False),
        (PAGE, 200, Head(0, 200, 9), 0.0, False),
        (replace(PAGE, page=Page([], 100, False)), 100, replace(HEAD, version=200), 0.0, True),
        (replace(PAGE, page=Page([], 100, False)), 101, replace(HEAD, version=200), 0.0, False),
    ],
    ids=[
        "newer states follow",
        "old",
        "read after this head",
        "pruned below",
        "pruned beyond",
        "pruned since",
        "quiet",
        "not quiet",
    ],
)
async def test_when_a_page_may_be_served_again(page: SharedPage, newest_change: int, head: Head, now: float, holds: bool) -> None:
    assert page.holds(newest_change, head, now) is holds


async def test_a_page_that_was_read_before_says_when_the_device_began_and_what_it_may_hold() -> None:
    at = {"min_version": 1, "head": 90}
    begun = Deliveries().pulled(["parties"], 0, 10, **at, read_at=70)
    assert (begun.fresh_head, begun.tables["parties"].recent_head) == (70, 70)
    doubled = Deliveries().pulled(["parties"], 0, 10, **at).pulled(["parties"], 0, 10, **at, read_at=70)
    assert (doubled.fresh_head, doubled.tables["parties"].recent_head) == (70, 70)
    assert doubled.tables["parties"].again == 90, "what it made itself up to now is news to it"
    later = begun.pulled(["parties"], 10, 20, **at, read_at=60)
    assert (later.fresh_head, later.held_since("parties")) == (70, 60)


async def test_memory_is_bounded_and_what_was_used_last_stays(fresh: Api, admin: SqlClient) -> None:
    owner, _ = await parties(fresh, admin, 30)
    pages = fresh.app[PAGES]
    pages._bytes_max = 12_000
    await till(owner).pull_all(0, limit=5)
    assert 0 < pages._bytes == sum(page.bytes for page in pages._kept.values()) <= 12_000
    assert all(isinstance(row, FeedRow) for page in pages._kept.values() for row in page.page.rows)


async def test_the_newest_change_of_each_company_is_asked_for_once_a_head(fresh: Api, admin: SqlClient) -> None:
    owner, (line, *_) = await parties(fresh, admin, 1)
    standings: Standings = fresh.app[STANDINGS]
    before = await standings.read(owner.company_id, line.device_id)
    assert before.newest == before.head.version
    assert (await standings.read(owner.company_id, line.device_id)).newest == before.newest
    other, (others, *_) = await parties(fresh, admin, 1)
    after = await standings.read(owner.company_id, line.device_id)
    assert after.newest == before.newest < after.head.version
    assert (await standings.read(other.company_id, others.device_id)).newest == after.head.version
    assert set(standings._newest) == {owner.company_id, other.company_id}
