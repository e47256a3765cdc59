"""Plays one way to lose the past many times and counts: `python -m tests.faults.continuity_figures restore --times 20`.

Each round has a device that saw what is lost and one that did not. *detected*: the tailer halted, or began a new epoch by itself.
*silent*: neither, though something was lost. *converged*: after the operator's word, where one is needed, and a reconcile, both
devices hold what MySQL has. Prints a line a round and the sums; exit code 1 where a round was silent or did not converge.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import secrets
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cli.embedded import MySQLServer
from cli.embedded.process import Child
from cli.main import COMMANDS
from tests.api.conftest import Api
from tests.api.tills import open_api, shop
from tests.cli.commands import run
from tests.cli.test_tail import ended
from tests.device import Device, Habit, Refused
from tests.faults.machines import ask, executed, moved, pair, promote, put_back, take_backup, wait_for_replica
from tests.faults.waiting import purge_binlogs
from tests.oracle import Oracle, comparable_rows
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

WAYS = ("purge", "reset", "restore", "failover")
CATCH_UP_SECONDS = 120
PARTY = "INSERT INTO parties (company_id, name) VALUES ({company}, '{name}')"


@dataclass
class Round:
    """One round: a database, its tailer, and what became of them."""

    stack: Stack
    chance: random.Random
    database: Database
    server: MySQLServer
    replica: MySQLServer | None
    tail: Child = field(init=False)
    is_detected: bool = False

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Start a tailer on the database as it is led now."""
        self.tail = self.stack.spawn("tail", "--standby", environ=self.database.environ)

    def write(self, sql: SqlClient, company: int, what: str) -> None:
        """Some rows by plain SQL."""
        sql.run(*(PARTY.format(company=company, name=f"{what} {n}") for n in range(self.chance.randint(1, 30))))

    def say(self, *words: str) -> None:
        """An operator's word after a halt; then the tailer runs again."""
        self.is_detected = ended(self.tail, CATCH_UP_SECONDS) == 3
        done = run(self.database, "checkpoint", *words, "--reason", "figures", "--yes")
        assert done.exit_code == 0, done.stderr
        self.start()


@contextmanager
def servers(stack: Stack, way: str) -> Iterator[tuple[MySQLServer, MySQLServer | None]]:
    """One server, or for failovers a primary and its replica."""
    if way == "failover":
        with pair(stack) as both:
            yield both
    else:
        with stack.private_mysql(way) as server:
            yield server, None


async def play(stack: Stack, way: str, seed: int, server: MySQLServer, replica: MySQLServer | None) -> tuple[bool, bool]:
    """One round; whether it was detected, and whether both devices converged."""
    with stack.database(server) as database:
        it = Round(stack, random.Random(seed), database, server, replica)
        try:
            async with open_api(database) as api:
                owner, lines = await shop(api)
                ahead, behind = (Device(line, Habit.FULL) for line in lines)
                ahead.insert("parties", name="kept")
                with SqlClient(database.settings) as sql:
                    it.write(sql, owner.company_id, "kept")
                    sql.wait_for_tailer(CATCH_UP_SECONDS)
                for device in (ahead, behind):
                    await device.sync()
                await lose(it, way, owner.company_id, ahead)
                if replica is None:
                    return it.is_detected, await converges(it, api, owner.company_id, [ahead, behind])
            async with open_api(it.database) as api:
                return it.is_detected, await converges(it, api, owner.company_id, [ahead, behind])
        finally:
            it.tail.stop()


async def lose(it: Round, way: str, company: int, ahead: Device) -> None:
    """Take the past away, and bring the tailer to run again."""
    if way in ("purge", "reset"):
        it.tail.stop()
        with SqlClient(it.database.settings) as sql:
            it.write(sql, company, "unread")
            if way == "purge":
                purge_binlogs(sql)
            else:
                count = it.chance.randint(1, 400)
                sql.run("RESET BINARY LOGS AND GTIDS", *(PARTY.format(company=company, name=f"regrown {n}") for n in range(count)))
        it.start()
        it.say(*(("skip", "--missing") if way == "purge" else ("restored",)))
        return
    if way == "restore":
        backup = take_backup(it.server)
    else:
        assert it.replica is not None
        wait_for_replica(it.replica, executed(it.server))
        ask(it.replica, "STOP REPLICA IO_THREAD")
    with SqlClient(it.database.settings) as sql:
        it.write(sql, company, "lost")
        sql.wait_for_tailer(CATCH_UP_SECONDS)
    await ahead.sync()
    if way == "restore":
        put_back(it.server, backup)
    elif it.replica is not None:
        it.server.kill()
        it.tail.stop()
        promote(it.replica)
        it.database = moved(it.database, it.replica)
        it.start()
    with SqlClient(it.database.settings) as sql:
        it.write(sql, company, "since")
        sql.wait_for_tailer(CATCH_UP_SECONDS)
        it.is_detected = sql.value("SELECT epoch FROM sync_state") == 1


async def converges(it: Round, api: Api, company: int, devices: list[Device]) -> bool:
    """Whether both devices come to hold what MySQL has."""
    with SqlClient(it.database.settings) as sql:
        sql.wait_for_tailer(CATCH_UP_SECONDS)
        if "reconcile" in COMMANDS:
            done = run(it.database, "reconcile")
            assert done.exit_code in (0, 3), done.stderr
        else:
            sql.run("UPDATE parties SET updated_at = CURRENT_TIMESTAMP(6)")
        sql.wait_for_tailer(CATCH_UP_SECONDS)
        wanted = comparable_rows(Oracle(sql).rows(company))
    for device in devices:
        device.line.http, device.line.url = api.nobody.http, api.nobody.url
        try:
            await device.sync()
        except Refused as refused:
            assert refused.code == "reset_required"
            device.reset()
            await device.sync()
    return all(comparable_rows(device.held()) == wanted for device in devices)


def main() -> int:
    """Play the rounds."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.continuity_figures", description=__doc__)
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32))
    wanted = parser.parse_args()
    sums = {"rounds": 0, "detected": 0, "silent": 0, "converged": 0}
    with tempfile.TemporaryDirectory() as directory, Stack(Path(directory)) as stack:
        for number in range(wanted.times):
            seed = wanted.seed + number
            with servers(stack, wanted.way) as (server, replica):
                is_detected, is_converged = asyncio.run(play(stack, wanted.way, seed, server, replica))
            print(json.dumps({"way": wanted.way, "seed": seed, "detected": is_detected, "converged": is_converged}), flush=True)
            sums["rounds"] += 1
            sums["detected"] += is_detected
            sums["silent"] += not is_detected
            sums["converged"] += is_converged
    print(json.dumps({"way": wanted.way, **sums}))
    return int(sums["silent"] > 0 or sums["converged"] < sums["rounds"])


if __name__ == "__main__":
    sys.exit(main())
