"""A pull that waits until there is something new (contract §2.8)."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.api.conftest import Api
from tests.api.rows import hire
from tests.api.tills import drained, open_api, shop, till
from tests.device import Line, Refused, insert
from tests.servers import Database
from tests.sql_client import SqlClient

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def timed(line: Line, cursor: int, **more: Any) -> tuple[dict[str, Any], float]:
    """A page and the seconds it took."""
    began = time.monotonic()
    return await line.pull(cursor, **more), time.monotonic() - began


async def test_an_empty_pull_is_held_until_another_device_pushes(api: Api) -> None:
    _, (one, other) = await shop(api)
    cursor = await drained(one)
    held = asyncio.create_task(one.pull(cursor, wait=20))
    await asyncio.sleep(0.3)
    assert not held.done()
    made = (await other.push(insert("parties", "a", name="Ann")))["id_mappings"]["a"]
    async with asyncio.timeout(5):
        page = await held
    assert [change["record_id"] for change in page["changes"]] == [made]
    assert page["current_version"] > cursor and page["has_more"] is False


async def test_what_plain_sql_writes_ends_the_wait(api: Api, admin: SqlClient) -> None:
    owner, (one, _) = await shop(api)
    held = asyncio.create_task(one.pull(await drained(one), wait=20))
    await asyncio.sleep(0.2)
    admin.run(f"INSERT INTO parties (company_id, name) VALUES ({owner.company_id}, 'By SQL')")
    async with asyncio.timeout(5):
        assert [change["data"]["name"] for change in (await held)["changes"]] == ["By SQL"]


async def test_what_is_new_already_is_answered_at_once(api: Api) -> None:
    _, (one, other) = await shop(api)
    cursor = await drained(one)
    await other.push(insert("parties", "a", name="Ann"))
    page, seconds = await timed(one, cursor, wait=20)
    assert len(page["changes"]) == 1 and seconds < 5


async def test_with_nothing_new_the_answer_comes_empty_when_the_time_is_over(api: Api) -> None:
    _, (one, _) = await shop(api)
    cursor = await drained(one)
    page, seconds = await timed(one, cursor, wait=1)
    assert page["changes"] == [] and page["current_version"] >= cursor and 0.9 < seconds < 6


async def test_other_companies_and_tables_do_not_end_the_wait(api: Api) -> None:
    _, (one, other) = await shop(api)
    _, (stranger, _) = await shop(api)
    cursor = await drained(one)
    held = asyncio.create_task(one.pull(cursor, wait=3, tables=["parties"]))
    await asyncio.sleep(0.2)
    await stranger.push(insert("parties", "a", name="Elsewhere"))
    await other.push(insert("products", "p", name="Tea"))
    await asyncio.sleep(0.5)
    assert not held.done()
    await other.push(insert("parties", "b", name="Here"))
    assert [change["data"]["name"] for change in (await held)["changes"]] == ["Here"]


async def test_a_push_after_a_held_pull_that_gave_nothing_passes_nothing_unseen(api: Api) -> None:
    _, (one, other) = await shop(api)
    await one.pull(await drained(one), wait=0.5)
    theirs = (await other.push(insert("parties", "a", name="Theirs")))["id_mappings"]["a"]
    cursor = (await one.push(insert("parties", "b", name="Mine")))["current_version"]
    assert theirs in {change["record_id"] for change in (await one.pull(cursor))["changes"]}


async def test_a_device_holds_only_so_many_and_the_next_is_answered_at_once(api: Api) -> None:
    _, (one, _) = await shop(api)
    cursor = await drained(one)
    held = [asyncio.create_task(one.pull(cursor, wait=8)) for _ in range(2)]
    await asyncio.sleep(2)
    _, seconds = await timed(one, cursor, wait=8)
    assert seconds < 2 and not any(task.done() for task in held)
    await asyncio.gather(*held)


async def test_who_loses_the_right_to_read_while_waiting_is_told_within_seconds(api: Api, admin: SqlClient) -> None:
    owner, _ = await shop(api)
    seller = await hire(api, admin, owner, "sales")
    line = till(seller, company_id=owner.company_id)
    held = asyncio.create_task(line.pull(await drained(line), wait=20))
    await asyncio.sleep(0.2)
    admin.run(f"UPDATE users SET is_active = 0 WHERE company_id = {owner.company_id} AND login_id = {seller.login_id}")
    with pytest.raises(Refused) as refused:
        async with asyncio.timeout(8):
            await held
    assert refused.value.status == 403


async def test_without_redis_it_is_only_slower(shared: Database, tailer: Any) -> None:
    async with open_api(shared, redis_url="") as api:
        _, (one, other) = await shop(api)
        held = asyncio.create_task(one.pull(await drained(one), wait=20))
        await asyncio.sleep(0.2)
        await other.push(insert("parties", "a", name="Ann"))
        async with asyncio.timeout(5):
            assert len((await held)["changes"]) == 1


@pytest.mark.parametrize("wait", ["5", -1, True, [1]])
async def test_a_malformed_wait_is_400(api: Api, wait: Any) -> None:
    _, (one, _) = await shop(api)
    with pytest.raises(Refused) as refused:
        await one.pull(0, wait=wait)
    assert (refused.value.status, refused.value.code) == (400, "malformed")
