"""Acknowledged: writes by plain SQL and pushes of devices. Meanwhile history and tombstones are pruned as soon as they exist, over
and over, while devices page slowly through the feed, in every manner.

What must hold: each device is told to start again or misses nothing. At rest each has what MySQL has; live rows are never pruned.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from cdc.chain_check import ChainCheck
from cdc.retention import Retention, read_cutoffs
from schema.connect import open_connection
from tests.api.tills import open_api, till
from tests.device import Line, Refused, insert
from tests.oracle import Oracle
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

SECONDS = 10
TABLES = ("parties", "item_categories")


@dataclass
class Pager:
    """A device that pages, drops everything where it is told to start again, and remembers how often."""

    line: Line
    chance: random.Random
    how: dict[str, Any] = field(default_factory=dict)
    pause: float = 0.0
    pushes: bool = False
    rows: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    cursor: int = 0
    resets: int = 0
    pages: int = 0

    async def step(self) -> bool:
        """One page; whether there is more."""
        try:
            page = await self.line.pull(self.cursor, tables=list(TABLES), **self.how)
        except Refused as refused:
            assert (refused.status, refused.body["reason"]) == (410, "retention")
            self.rows, self.cursor = {}, 0
            self.resets += 1
            return True
        self.pages += 1
        for change in page["changes"]:
            key = (change["table"], change["record_id"])
            if change["operation"] == "DELETE":
                self.rows.pop(key, None)
            else:
                self.rows[key] = change["data"]
        self.cursor = page["current_version"]
        return bool(page["has_more"])

    async def live(self, stopped: threading.Event) -> None:
        while not stopped.is_set():
            await self.step()
            if self.pushes and self.chance.random() < 0.2:
                name = f"{self.line.device_id}-{self.pages}-{self.resets}"
                self.cursor = (await self.line.push(insert("parties", name, name=name)))["current_version"]
            await asyncio.sleep(self.pause * self.chance.random())

    async def settle(self) -> None:
        while await self.step():
            pass


@contextmanager
def busy(database: Database, company: int, seed: int, stopped: threading.Event) -> Iterator[None]:
    """A writer and a pruner, each in a thread of its own."""
    problems: list[BaseException] = []

    def guarded(work: Any) -> None:
        try:
            work()
        except BaseException as problem:
            problems.append(problem)
            raise

    threads = [
        threading.Thread(target=guarded, args=(lambda: _write(database, company, random.Random(seed), stopped),)),
        threading.Thread(target=guarded, args=(lambda: _prune(database, stopped),)),
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        for thread in threads:
            thread.join()
    assert not problems, problems


def _write(database: Database, company: int, chance: random.Random, stopped: threading.Event) -> None:
    with SqlClient(database.settings) as sql:
        number = 0
        while not stopped.is_set():
            number += 1
            table = chance.choice(TABLES)
            pick = f"FROM {table} WHERE company_id = {company} AND deleted_at IS NULL ORDER BY RAND() LIMIT 1"
            sql.run(
                f"INSERT INTO {table} (company_id, name) VALUES ({company}, 'n{number}')",
                f"DELETE {pick.removesuffix('LIMIT 1')} LIMIT 1" if chance.random() < 0.5 else "DO 0",
                f"UPDATE {table} SET name = 'u{number}' WHERE company_id = {company} ORDER BY RAND() LIMIT 2",
                f"UPDATE {table} SET deleted_at = CURRENT_TIMESTAMP(6) WHERE company_id = {company} AND id = "
                f"(SELECT id FROM (SELECT id {pick}) picked)" if chance.random() < 0.3 else "DO 0",
            )  # fmt: skip
            time.sleep(0.02)


def _prune(database: Database, stopped: threading.Event) -> None:
    with open_connection(database.settings.operator()) as connection:
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        while not stopped.is_set():
            now_us = time.time_ns() // 1000
            done = Retention(connection, read_cutoffs(connection, history_before_us=now_us, tombstones_before_us=now_us))
            while done.step():
                pass
            time.sleep(0.15)


async def test_a_device_is_reset_or_misses_nothing(stack: Stack, database: Database, tailer: Any) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    with SqlClient(database.settings) as sql:
        async with open_api(database, device_requests_per_second=100_000, user_requests_per_second=100_000) as api:
            owner = await api.register()
            company = owner.company_id
            for table in TABLES:
                names = ", ".join(f"({company}, 'old {number}')" for number in range(60))
                sql.run(f"INSERT INTO {table} (company_id, name) VALUES {names}")
            sql.wait_for_tailer()

            def pager(number: int, **more: Any) -> Pager:
                return Pager(till(owner, f"pager-{number}"), random.Random(seed + number), **more)

            pagers = [
                pager(1, how={"limit": 7}),
                pager(2, how={"limit": 3}, pause=0.3),
                pager(3, how={"limit": 5, "history": True}, pause=0.1),
                pager(4, how={"limit": 20}, pause=2.0),
                pager(5, how={"limit": 10}, pause=0.2, pushes=True),
                pager(6, how={"limit": 500}, pause=4.0, pushes=True),
            ]
            stopped = threading.Event()
            with busy(database, company, seed, stopped):
                tasks = [asyncio.create_task(one.live(stopped)) for one in pagers]
                await asyncio.sleep(SECONDS)
                stopped.set()
                await asyncio.gather(*tasks)
            sql.wait_for_tailer()
            for one in pagers:
                await one.settle()
            wanted = {(table, key): row for table in TABLES for key, row in Oracle(sql).table(table, company).items()}
            for one in pagers:
                assert one.rows == wanted, f"seed {seed}, {one.line.device_id}, {one.resets} resets, {one.pages} pages"
            assert sum(one.resets for one in pagers) > 0 and sum(one.pages for one in pagers) > 50, "the race was run"
            assert sql.value("SELECT min_version FROM sync_state") > 1
    with open_connection(database.settings.operator()) as connection:
        assert list(ChainCheck(connection).run()) == []
