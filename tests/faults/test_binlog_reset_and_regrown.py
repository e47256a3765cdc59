"""Acknowledged: rows committed before and after. Done: RESET BINARY LOGS AND GTIDS while no tailer runs, then as many writes.

What must hold: the GTID set looks whole again and is not believed. The operator says what happened; what the new binlog holds
arrives exactly once, and no device that saw the older past has to start again: the tables stand.
"""

from __future__ import annotations

import pytest

from cdc.gtid import GtidSet
from cli.embedded import MySQLServer
from schema.versions import pack
from tests.cli.commands import run_json
from tests.cli.test_tail import ended
from tests.faults.machines import ask
from tests.servers import Stack
from tests.sql_client import SqlClient

CATCH_UP_SECONDS = 60


@pytest.mark.parametrize("is_regrown", [True, False], ids=["grown past the checkpoint", "shorter than before"])
def test_other_transactions_under_the_same_numbers_are_not_taken_for_read(
    stack: Stack, machine: MySQLServer, is_regrown: bool
) -> None:
    ask(machine, "RESET BINARY LOGS AND GTIDS")  # few numbers, so that few writes grow past them
    with stack.database(machine) as database, SqlClient(database.settings) as sql:
        tail = stack.spawn("tail", environ=database.environ)
        company = sql.company()
        for number in range(20):
            sql.run(f"INSERT INTO parties (company_id, name) VALUES ({company}, 'before {number}')")
        head = sql.wait_for_tailer(CATCH_UP_SECONDS)
        tail.stop()
        read = sql.value("SELECT gtid_set FROM sync_state")
        sql.run(f"INSERT INTO parties (company_id, name) VALUES ({company}, 'never read')")
        sql.run("RESET BINARY LOGS AND GTIDS")
        rows = GtidSet.parse(read).count() + 5 if is_regrown else 10
        for number in range(rows):
            sql.run(f"INSERT INTO parties (company_id, name) VALUES ({company}, 'after {number}')")
        assert bool(sql.value("SELECT GTID_SUBSET(%s, @@GLOBAL.gtid_executed)", read)) is is_regrown

        halted = stack.spawn("tail", environ=database.environ)
        assert ended(halted, CATCH_UP_SECONDS) == 3
        assert ("binlog_reset" if is_regrown else "transactions_lost") in halted.output()
        assert sql.value("SELECT head FROM sync_state") == head

        (told,) = run_json(database, "checkpoint", "restored", "--reason", "somebody reset the binlog", "--yes")
        assert (told["epoch"], told["fork"], told["after"]) == (1, head, "")
        tail = stack.spawn("tail", environ=database.environ)
        last = sql.wait_for_tailer(CATCH_UP_SECONDS)
        tail.stop()
        names = [row[0] for row in sql.rows("SELECT data->>'$.name' FROM sync_changes WHERE version > %s ORDER BY version", head)]
        assert names == [f"after {number}" for number in range(rows)] and last == pack(1, rows)
        assert sql.value("SELECT COUNT(*) FROM sync_audit WHERE action IN ('halted', 'epoch_begun')") == 2


def test_what_the_server_does_not_know_any_more_ends_the_common_past(stack: Stack, machine: MySQLServer) -> None:
    """A dump loaded with an older gtid_purged: the tables stand, and the last transactions that were read are unknown to it."""
    ask(machine, "RESET BINARY LOGS AND GTIDS")
    with stack.database(machine) as database, SqlClient(database.settings) as sql:
        tail = stack.spawn("tail", environ=database.environ)
        company = sql.company()
        for number in range(8):
            sql.run(f"INSERT INTO parties (company_id, name) VALUES ({company}, '{number}')")
        head = sql.wait_for_tailer(CATCH_UP_SECONDS)
        tail.stop()
        gtid, first = sql.rows(
            "SELECT gtid, first_version FROM sync_tx WHERE first_version IS NOT NULL ORDER BY tx DESC LIMIT 2, 1"
        )[0]
        server, _, transaction = gtid.partition(":")
        known = f"{server}:1-{int(transaction) - 1}"
        sql.run("RESET BINARY LOGS AND GTIDS", f"SET GLOBAL gtid_purged = '{known}'")

        (told,) = run_json(database, "checkpoint", "restored", "--reason", "a dump was loaded", "--yes")
        assert (told["epoch"], told["fork"], told["after"]) == (1, first - 1, known)
        assert first - 1 == head - 3
