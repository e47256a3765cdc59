"""Acknowledged: pushes and pulls after a backup was taken. Done: the backup is put back, and more is written than was lost.

What must hold: the past that is gone is noticed, also after the numbers passed it. Devices that saw it start again and keep what
they have not sent; the others go on; a lost id never names another record; at rest every device holds what MySQL has.
"""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from cli.embedded import MySQLServer
from schema.versions import ID_STEP, pack
from tests.api.tills import drained, open_api, shop, till
from tests.cli.commands import run, run_json
from tests.cli.test_tail import ended
from tests.device import Device, Habit, Line, Refused
from tests.faults.machines import put_back, take_backup
from tests.oracle import Oracle, comparable_rows
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

CATCH_UP_SECONDS = 60
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("collected"),
]
PARTY = "INSERT INTO parties (company_id, name) VALUES ({company}, '{name}')"
NO_REDIS = {"REDIS_URL": "redis://127.0.0.1:1/0"}


async def reset(device: Device) -> str:
    """Pull until told to start again, and do so; returns why."""
    with pytest.raises(Refused) as refused:
        await device.pull()
    assert (refused.value.status, refused.value.code) == (410, "reset_required")
    device.reset()
    await settled(device)
    return str(refused.value.body["reason"])


async def served(device: Device) -> None:
    """Push as soon as it is accepted: not before the tailer has begun the new epoch."""
    deadline = time.monotonic() + CATCH_UP_SECONDS
    while True:
        try:
            await device.push()
        except Refused as refused:
            assert refused.status == 503 and time.monotonic() < deadline
            await asyncio.sleep(0.02)
        else:
            return


async def settled(device: Device) -> None:
    """Push and pull until nothing is left."""
    await device.push()
    while (await device.pull())["has_more"]:
        pass


def assert_holds_all(device: Device, sql: SqlClient, company: int) -> None:
    assert comparable_rows(device.held()) == comparable_rows(Oracle(sql).rows(company))


@pytest.mark.parametrize("habit", list(Habit))
async def test_devices_that_saw_what_is_gone_start_again_and_the_others_go_on(
    stack: Stack, machine: MySQLServer, habit: Habit
) -> None:
    with stack.database(machine) as database:
        tail = stack.spawn("tail", environ=database.environ)
        async with open_api(database) as api:
            owner, (line, other, third) = await shop(api, 3)
            ahead, behind, first = Device(line, habit), Device(other, habit), Device(third)
            kept = ahead.insert("parties", name="kept")
            await ahead.sync()
            await settled(behind)
            with SqlClient(database.settings) as sql:
                fork = sql.wait_for_tailer(CATCH_UP_SECONDS)
            backup = take_backup(machine)
            with SqlClient(database.settings) as sql:
                for name in ("gone 1", "gone 2"):
                    sql.run(PARTY.format(company=owner.company_id, name=name))
                gone = ahead.insert("parties", name="gone 3")
                sql.wait_for_tailer(CATCH_UP_SECONDS)
                await ahead.sync()
                lost_id, seen = ahead.store.ids["parties", gone], ahead.cursor
            assert seen > fork
            ahead.update("parties", gone, phone="of a lost record")
            ahead.update("parties", kept, phone="unsent")
            new = ahead.insert("parties", name="unsent")
            put_back(machine, backup)
            first.insert("parties", name="the first push")
            await served(first)
            with SqlClient(database.settings) as sql:
                for number in range(10):  # the numbers would pass the cursor of the device that is ahead
                    sql.run(PARTY.format(company=owner.company_id, name=f"since {number}"))
                sql.wait_for_tailer(CATCH_UP_SECONDS)
                assert sql.rows("SELECT epoch, fork, is_past_lost FROM sync_epochs WHERE epoch > 0") == [(1, fork, 1)]
                noted = json.loads(sql.value("SELECT details FROM sync_audit WHERE action = 'epoch_begun'"))
                assert noted["witnessed_head"] >= seen and noted["reason"] == "past_replaced"
                await settled(behind)
                answer = await ahead.push()
                assert answer["head_version"] > pack(1, 0)
                assert ahead.store.ids["parties", new] > lost_id + ID_STEP // 2, "a lost id is not given again"
                assert await reset(ahead) == "epoch"
                await settled(behind)
                rows = Oracle(sql).table("parties", owner.company_id)
                names = {row["name"] for row in rows.values()}
                assert {"kept", "unsent", "since 0"} <= names and not names & {"gone 1", "gone 2", "gone 3"}
                assert [row["phone"] for row in rows.values() if row["phone"]] == ["unsent"]
                for device in (ahead, behind):
                    assert_holds_all(device, sql, owner.company_id)
        tail.stop()


async def test_it_is_noticed_after_the_numbers_passed_those_of_the_devices(
    stack: Stack, machine: MySQLServer, tmp_path: Path
) -> None:
    """A restored server is taken for the true one on another machine, by mistake. The first machine's witness tells."""
    with stack.database(machine) as database:
        company, ahead, behind, fork, there = await _mistaken(stack, machine, database, tmp_path)
        tail = stack.spawn("tail", environ={**database.environ, **NO_REDIS})
        with SqlClient(database.settings) as sql:
            sql.run(PARTY.format(company=company, name="after"))
            head = sql.wait_for_tailer(CATCH_UP_SECONDS)
            (found,) = sql.rows("SELECT epoch, fork FROM sync_epochs WHERE epoch > 0")
        assert found[0] == 1 and 1 < found[1] <= fork < ahead[1] < there, "the fork is where both pasts still agree"
        assert head == pack(1, 1)
        async with open_api(database) as api:
            line, cursor = ahead
            with pytest.raises(Refused) as refused:
                await Line(api.nobody.http, api.nobody.url, line.token, line.device_id).pull(cursor)
            assert refused.value.body["reason"] == "epoch"
            good = Line(api.nobody.http, api.nobody.url, behind[0].token, behind[0].device_id)
            changes, _ = await good.pull_all(min(behind[1], found[1]))
            assert {"new 0", "new 29", "after"} <= {change["data"]["name"] for change in changes}
        tail.stop()


async def _mistaken(
    stack: Stack, machine: MySQLServer, database: Database, tmp_path: Path
) -> tuple[int, tuple[Line, int], tuple[Line, int], int, int]:
    """Company, a device that saw the lost past and its cursor, one that did not, the fork, and the head of the new past."""
    here = {**database.environ, **NO_REDIS}
    elsewhere = {**here, "SYNC_STATE_DIR": str(tmp_path / "elsewhere")}
    tail = stack.spawn("tail", environ=here)
    async with open_api(database) as api:
        owner, (line,) = await shop(api, 1)
        company = owner.company_id
        with SqlClient(database.settings) as sql:
            for name in ("a", "b", "c"):
                sql.run(PARTY.format(company=company, name=name))
            fork = sql.wait_for_tailer(CATCH_UP_SECONDS)
        behind = till(owner)
        good = await drained(behind)
        backup = take_backup(machine)
        with SqlClient(database.settings) as sql:
            for number in range(20):
                sql.run(PARTY.format(company=company, name=f"gone {number}"))
            sql.wait_for_tailer(CATCH_UP_SECONDS)
        cursor = await drained(line)
    tail.stop()
    put_back(machine, backup)
    halted = stack.spawn("tail", environ=elsewhere)
    assert ended(halted, CATCH_UP_SECONDS) == 3 and "witness_missing" in halted.output(), "a log without a witness is not believed"
    assert run(elsewhere, "checkpoint", "adopt", "--reason", "by mistake", "--yes").exit_code == 0
    tail = stack.spawn("tail", environ=elsewhere)
    with SqlClient(database.settings) as sql:
        for number in range(30):
            sql.run(PARTY.format(company=company, name=f"new {number}"))
        there = sql.wait_for_tailer(CATCH_UP_SECONDS)
    tail.stop()
    return company, (line, cursor), (behind, good), fork, there


def test_a_missing_witness_halts_until_the_operator_says_what_happened(stack: Stack, tmp_path: Path) -> None:
    with stack.database() as database, SqlClient(database.settings) as sql:
        here = {**database.environ, **NO_REDIS}
        tail = stack.spawn("tail", environ=here)
        sql.company()
        head = sql.wait_for_tailer()
        tail.stop()
        witness = Path(database.settings.state_dir, f"{database.name}.witness")
        assert json.loads(witness.read_bytes())["points"][-1][0] == head
        witness.unlink()
        halted = stack.spawn("tail", environ=here)
        assert ended(halted) == 3 and "witness_missing" in halted.output()
        nowhere = Database(database.settings, here)
        (told,) = run_json(nowhere, "checkpoint", "restored", "--reason", "restored last night", "--yes")
        assert (told["epoch"], told["fork"], told["head"]) == (1, head, pack(1, 0))
        tail = stack.spawn("tail", environ=here)
        sql.company("next")
        assert sql.wait_for_tailer() == pack(1, 1)
        tail.stop()
        assert json.loads(witness.read_bytes())["epoch"] == 1


def test_a_log_that_was_never_witnessed_is_taken_as_it_is_once(stack: Stack, database: Database, sql: SqlClient) -> None:
    here = {**database.environ, **NO_REDIS}
    tail = stack.spawn("tail", environ=here)
    sql.company()
    sql.wait_for_tailer()
    tail.stop()
    Path(database.settings.state_dir, f"{database.name}.witness").unlink()
    sql.run("UPDATE sync_state SET is_witnessed = 0")  # as a database is that an older version ran
    tail = stack.spawn("tail", environ=here)
    sql.company("next")
    sql.wait_for_tailer()
    tail.stop()
    assert sql.value("SELECT is_witnessed FROM sync_state") == 1
    assert sql.value("SELECT COUNT(*) FROM sync_epochs") == 1
