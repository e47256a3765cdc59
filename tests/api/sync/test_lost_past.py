"""A past that is gone, as requests meet it (contract §1.2, §3 Base): the epoch is begun here as the tailer would begin it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import redis

from schema.tables import TABLES
from schema.versions import ID_STEP, pack
from schema.witness import Point, Witness, encode, witness_key
from tests.api.conftest import Api, Person
from tests.api.tills import drained, open_api, shop, till
from tests.device import Line, Refused, insert, update
from tests.servers import Database, Stack
from tests.sql_client import SqlClient


@dataclass
class World:
    """An API on a database of its own, with a tailer that is stopped while the past is replaced."""

    stack: Stack
    environ: Any
    api: Api
    sql: SqlClient
    tail: Any
    owner: Person
    lines: list[Line]

    def begin_epoch(self, fork: int, *, is_past_lost: bool = True) -> None:
        """What a tailer commits that has found the past replaced; another one goes on from there."""
        self.tail.stop()
        epoch = int(self.sql.value("SELECT epoch FROM sync_state")) + 1
        self.sql.run(
            "START TRANSACTION",
            f"INSERT INTO sync_epochs (epoch, fork, reason, is_past_lost) VALUES ({epoch}, {fork}, 'test', {int(is_past_lost)})",
            f"UPDATE sync_state SET epoch = {epoch}, head = {pack(epoch, 0)}",
            "COMMIT",
        )
        self.tail = self.stack.spawn("tail", environ=self.environ)
        self.sql.wait_for_tailer()


@pytest.fixture
async def world(stack: Stack) -> AsyncIterator[World]:
    """A shop with three devices."""
    with stack.database() as database, SqlClient(database.settings) as sql:
        tail = stack.spawn("tail", environ=database.environ)
        async with open_api(database) as api:
            owner, lines = await shop(api, 3)
            made = World(stack, database.environ, api, sql, tail, owner, lines)
            yield made
        made.tail.stop()


async def test_a_base_of_a_lost_past_is_no_base(world: World) -> None:
    line, other, _ = world.lines
    made = (await line.push(insert("products", "a", name="Tea", sale_price="1.00")))["id_mappings"]["a"]
    fork = await drained(other)
    seen = (await other.push_one(update("products", made, sale_price="2.00")))["version"]
    await drained(line)
    world.begin_epoch(fork)
    lost = await line.push_one(update("products", made, name="Green tea", more={"base_version": seen}))
    assert lost["status"] in ("conflict", "merged") and lost["server_data"]["name"] == "Tea", "all may be changed by both"
    other.device_id = till(world.owner).device_id
    cursor = await drained(other)
    good = await other.push_one(update("products", made, name="Green tea", more={"base_version": cursor}))
    assert good["status"] == "applied"


async def test_a_push_never_makes_a_lost_cursor_good(world: World) -> None:
    full, naive, fresh = world.lines
    fork = await drained(full)
    await full.push(insert("parties", "a", name="gone"))
    lost = await drained(full)
    await drained(naive)
    world.begin_epoch(fork)
    for line, more in ((full, {"last_version": lost}), (naive, {})):
        answer = await line.push(insert("parties", "b", name="unsent"), **more)
        assert [result["status"] for result in answer["results"]] == ["applied"]
        for cursor in (answer["current_version"], lost):
            with pytest.raises(Refused) as refused:
                await line.pull(cursor)
            assert (refused.value.status, refused.value.body["reason"]) == (410, "epoch")
        status = await naive.status()
        assert status["is_synced"] is False
        start = await drained(line)
        again = await line.push(insert("parties", "c", name="after"))
        await line.pull(again["current_version"])
        assert again["current_version"] >= start and (await line.status())["is_synced"] is True
    good = await drained(fresh)
    assert good > pack(1, 0)


async def test_an_epoch_that_lost_nothing_asks_nobody_to_start_again(world: World) -> None:
    naive = world.lines[0]
    cursor = await drained(naive)
    world.begin_epoch(cursor, is_past_lost=False)
    answer = await naive.push(insert("parties", "a", name="Ann"))
    assert (await naive.pull(answer["current_version"]))["success"] is True


async def test_lost_ids_are_passed_over_once_in_each_epoch_and_table(world: World) -> None:
    line, other, _ = world.lines
    before = (await line.push(insert("parties", "a", name="before")))["id_mappings"]["a"]
    world.begin_epoch(await drained(line))
    after = (await line.push(insert("parties", "b", name="after")))["id_mappings"]["b"]
    later = (await other.push(insert("parties", "c", name="later")))["id_mappings"]["c"]
    assert ID_STEP <= after - before <= ID_STEP + 2 and later == after + 1
    assert world.sql.value("SELECT COUNT(*) FROM sync_id_floors") == 1
    counters = "SELECT TABLE_NAME, AUTO_INCREMENT FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE()"
    world.sql.run("SET SESSION information_schema_stats_expiry = 0")
    raised = {table for table, counter in world.sql.rows(counters) if counter is not None and counter > ID_STEP}
    assert raised == set(TABLES)
    assert world.sql.value("SELECT COUNT(*) FROM companies") == 1, "what raised them is undone"
    world.begin_epoch(await drained(line))
    await drained(line)
    deadline = time.monotonic() + 20
    while world.sql.value("SELECT COUNT(*) FROM sync_id_floors") < 2:
        assert time.monotonic() < deadline, "seeing the epoch is enough: plain SQL does not ask"
        await asyncio.sleep(0.02)
    assert world.sql.run(f"INSERT INTO parties (company_id, name) VALUES ({world.owner.company_id}, 'SQL')") > 2 * ID_STEP


async def test_a_head_below_one_that_was_shown_is_503_until_the_epoch_is_begun(world: World) -> None:
    line, other, _ = world.lines
    fork = await drained(other)
    await line.push(insert("parties", "a", name="gone"))
    head = await drained(line)
    world.tail.stop()
    chain = world.sql.value("SELECT chain FROM sync_changes WHERE version = %s", fork)
    world.sql.rows("UPDATE sync_state SET head = %s, chain = %s", fork, chain)  # as a restore leaves it
    for ask in (line.pull(head), other.pull(fork), other.push(insert("parties", "b", name="too early"))):
        with pytest.raises(Refused) as refused:
            await ask
        assert (refused.value.status, refused.value.code) == (503, "past_replaced")
    assert world.sql.value("SELECT COUNT(*) FROM parties WHERE name = 'too early'") == 0
    world.begin_epoch(fork)
    assert (await other.push_one(insert("parties", "b", name="in time")))["status"] == "applied"


async def test_a_worker_that_starts_after_a_restore_knows_the_head_that_others_showed(world: World) -> None:
    line, other, _ = world.lines
    fork = await drained(other)
    await line.push(insert("parties", "a", name="gone"))
    world.tail.stop()
    chain = world.sql.value("SELECT chain FROM sync_changes WHERE version = %s", fork)
    world.sql.rows("UPDATE sync_state SET head = %s, chain = %s", fork, chain)  # as a restore leaves it
    async with open_api(Database(world.api.settings, world.environ)) as fresh:
        started = Line(fresh.nobody.http, fresh.nobody.url, other.token, other.device_id)
        with pytest.raises(Refused) as refused:
            await started.push(insert("parties", "b", name="too early"))
        assert refused.value.code == "past_replaced"
        world.begin_epoch(fork)
        assert (await started.push_one(insert("parties", "b", name="in time")))["status"] == "applied"


async def test_a_worker_believes_no_witness_of_another_log(world: World) -> None:
    """A database that was made anew under a name whose witness Redis still keeps: nothing of it was lost."""
    world.tail.stop()
    stranger = Witness("another log", "uuid", 3, (Point(pack(3, 7), bytes(32), 1),))
    with redis.Redis.from_url(world.api.settings.redis_url) as client:
        client.set(witness_key(world.api.settings.api().database), encode(stranger))
    async with open_api(Database(world.api.settings, world.environ), push_wait_ms_max=0) as fresh:
        _, other, _ = world.lines
        started = Line(fresh.nobody.http, fresh.nobody.url, other.token, other.device_id)
        assert (await started.push_one(insert("parties", "b", name="taken")))["status"] == "applied"
