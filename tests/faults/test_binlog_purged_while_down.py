"""Acknowledged: rows committed while no tailer runs. Done: their binlog is purged before it is read.

What must hold: the tailer halts and names them; nothing advances by itself. After the operator's word the decision stays as an
audit row, the epoch rises, and every device goes on: what it saw is true.
"""

from __future__ import annotations

import json

from cdc.gtid import GtidSet
from cli.embedded import MySQLServer
from schema.versions import pack
from tests.api.tills import drained, open_api, shop
from tests.cli.commands import run, run_json
from tests.cli.test_tail import ended
from tests.device import Device
from tests.faults.waiting import purge_binlogs
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

CATCH_UP_SECONDS = 60


def purge_unread(sql: SqlClient, company: int) -> None:
    """Commit rows that nobody reads, and purge the binlogs that hold them."""
    for number in range(3):
        sql.run(f"INSERT INTO parties (company_id, name) VALUES ({company}, 'unread {number}')")
    purge_binlogs(sql)


async def test_the_operator_passes_over_the_gap_and_every_device_goes_on(stack: Stack, machine: MySQLServer) -> None:
    with stack.database(machine) as database:
        tail = stack.spawn("tail", environ=database.environ)
        async with open_api(database) as api:
            owner, (line, naive) = await shop(api)
            cursor = await drained(line)
            device = Device(naive)
            device.insert("parties", name="mine")
            await device.sync()
            with SqlClient(database.settings) as sql:
                fork = sql.wait_for_tailer(CATCH_UP_SECONDS)
                tail.stop()
                purge_unread(sql, owner.company_id)
                halted = stack.spawn("tail", environ=database.environ)
                assert ended(halted, CATCH_UP_SECONDS) == 3 and "binlog_purged" in halted.output()
                assert sql.value("SELECT head FROM sync_state") == fork
                refused = run(database, "checkpoint", "skip", "--missing", "--reason", " ", "--yes")
                assert refused.exit_code == 1 and "reason" in refused.stderr
                (told,) = run_json(database, "checkpoint", "skip", "--missing", "--reason", "the disk was full", "--yes")
                assert (told["epoch"], told["fork"]) == (1, fork)
                noted = json.loads(sql.value("SELECT details FROM sync_audit WHERE action = 'checkpoint_skipped'"))
                assert (
                    noted["gtids"] == told["gtids"] and noted["before"] == told["before"] and noted["reason"] == "the disk was full"
                )
                tail = stack.spawn("tail", environ=database.environ)
                sql.run(f"INSERT INTO parties (company_id, name) VALUES ({owner.company_id}, 'after')")
                sql.wait_for_tailer(CATCH_UP_SECONDS)
            changes, last = await line.pull_all(cursor)
            assert [c["data"]["name"] for c in changes if c["version"] > fork] == ["after"] and last >= pack(1, 1)
            device.update("parties", next(iter(device.store.ids.values())), phone="7")
            await device.sync()  # its push names no cursor, and it need not start again all the same
            assert {row["name"] for row in device.held()["parties"].values()} == {"mine", "after"}
        tail.stop()


def test_a_checkpoint_is_set_only_where_nothing_is_read_twice_or_never_was(
    database: Database, stack: Stack, sql: SqlClient
) -> None:
    tail = stack.spawn("tail", environ=database.environ)
    company = sql.company()
    head = sql.wait_for_tailer(CATCH_UP_SECONDS)
    tail.stop()
    read = sql.value("SELECT gtid_set FROM sync_state")
    uuid = read.partition(":")[0]
    for refused, code in ((f"{uuid}:1-999999999", "not_executed"), (f"{uuid}:1", "already_read")):
        answer = run(database, "checkpoint", "set", refused, "--reason", "test", "--yes", "--json")
        assert answer.exit_code == 1 and json.loads(answer.stderr)["code"] in (code, "binlog_purged")
    sql.run(f"INSERT INTO parties (company_id, name) VALUES ({company}, 'passed over')")
    now = sql.value("SELECT @@GLOBAL.gtid_executed").replace("\n", "")
    (told,) = run_json(database, "checkpoint", "set", now, "--reason", "reconciled by hand", "--yes")
    assert (told["skipped"], told["epoch"], told["fork"]) == (True, 1, head)
    tail = stack.spawn("tail", environ=database.environ)
    assert sql.wait_for_tailer(CATCH_UP_SECONDS) == pack(1, 0)
    tail.stop()


def test_a_checkpoint_names_what_was_purged_unread_too(stack: Stack, machine: MySQLServer) -> None:
    """Else no tailer could start from it, and the gap would stand in no decision."""
    with stack.database(machine) as database, SqlClient(database.settings) as sql:
        tail = stack.spawn("tail", environ=database.environ)
        company = sql.company()
        sql.wait_for_tailer(CATCH_UP_SECONDS)
        tail.stop()
        read = sql.value("SELECT gtid_set FROM sync_state")
        purge_unread(sql, company)
        sql.run(f"INSERT INTO parties (company_id, name) VALUES ({company}, 'after')")
        executed, purged = (GtidSet.parse(sql.value(f"SELECT @@GLOBAL.gtid_{which}")) for which in ("executed", "purged"))
        wanted = executed.subtract(purged).union(GtidSet.parse(read))
        refused = run(database, "checkpoint", "set", str(wanted), "--reason", "test", "--yes", "--json")
        assert refused.exit_code == 1 and json.loads(refused.stderr)["code"] == "binlog_purged"
        assert sql.value("SELECT gtid_set FROM sync_state") == read
