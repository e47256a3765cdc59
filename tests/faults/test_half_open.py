"""Acknowledged: rows of plain SQL, and a push. Gone, without a word on any connection: the network between tailer and MySQL.

What must hold: the tailer finds out within 30 s and goes on when the network is back; a standby elsewhere takes over at once;
meanwhile the delay that devices are told grows.
"""

from __future__ import annotations

import asyncio
import time

from tests.api.tills import open_api, shop
from tests.device import insert
from tests.faults.conftest import StartTail
from tests.faults.kit import is_held_by, with_settings
from tests.faults.waiting import wait_until
from tests.proxy import Proxy
from tests.servers import Database
from tests.sql_client import SqlClient

FOUND_SECONDS_MAX = 30


async def test_a_silent_network_is_found_and_the_delay_grows_meanwhile(
    database: Database, sql: SqlClient, start_tail: StartTail
) -> None:
    with Proxy(database.settings.tailer()) as proxy:
        tailer = start_tail(with_settings(database, mysql_tailer_url=proxy.connect.url(), mysql_socket=""))
        async with open_api(database, push_wait_ms_max=100) as api:
            _, (line, _) = await shop(api)
            await asyncio.to_thread(sql.wait_for_tailer)
            proxy.is_silent = True
            began = time.monotonic()
            assert (await line.push(insert("parties", "a", name="Ann")))["pending"] is True
            delays = []
            for _ in range(3):
                await asyncio.sleep(1.1)  # what was appended within the last second has a delay of its own
                delays.append((await line.status())["lag_ms"])
            assert delays == sorted(set(delays)) and delays[-1] >= 1000, delays
            await asyncio.to_thread(wait_until, lambda: '"retrying"' in tailer.output(), FOUND_SECONDS_MAX + 10)
            assert time.monotonic() - began < FOUND_SECONDS_MAX
            proxy.is_silent = False
            await asyncio.to_thread(sql.wait_for_tailer, 60)
            assert (await line.pull())["changes"][-1]["data"]["name"] == "Ann"
    assert tailer.is_running


def test_a_standby_with_a_network_takes_over_from_a_leader_without(
    database: Database, sql: SqlClient, start_tail: StartTail
) -> None:
    with Proxy(database.settings.tailer()) as proxy:
        leader = start_tail(with_settings(database, mysql_tailer_url=proxy.connect.url(), mysql_socket=""), "--standby")
        wait_until(lambda: is_held_by(sql, leader))
        standby = start_tail(database, "--standby")
        wait_until(lambda: '"standby"' in standby.output())
        proxy.is_silent = True
        sql.company()
        wait_until(lambda: is_held_by(sql, standby), 20)
        sql.wait_for_tailer()
        proxy.is_silent = False
        proxy.cut()
        wait_until(lambda: '"standby"' in leader.output())
    assert is_held_by(sql, standby)
