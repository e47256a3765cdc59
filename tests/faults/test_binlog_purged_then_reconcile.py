"""Purged: binlogs that no tailer had read, with an insert, an edit and a deletion in them.

What must hold: the tailer halts; after the operator gave them up and a run was made, devices have what SELECT shows.
"""

from __future__ import annotations

import json

from tests.cdc.hidden import assert_log_is_the_tables
from tests.cli.commands import run, run_json
from tests.faults.reconciling import differences, reconciled, wait_for_end
from tests.faults.waiting import purge_binlogs
from tests.servers import Stack
from tests.sql_client import SqlClient


def test_what_the_purged_binlogs_held_is_told_all_the_same(stack: Stack) -> None:
    with stack.private_mysql("purging") as server, stack.database(server) as database, SqlClient(database.settings) as sql:
        tailer = stack.spawn("tail", environ=database.environ)
        company = sql.company()
        first = sql.run(f"INSERT INTO parties (company_id, name) VALUES ({company}, 'edited'), ({company}, 'deleted')")
        sql.wait_for_tailer()
        tailer.stop()
        sql.run(
            f"UPDATE parties SET name = 'edited since' WHERE id = {first}",
            f"DELETE FROM parties WHERE id = {first + 1}",
            f"INSERT INTO parties (company_id, name) VALUES ({company}, 'new')",
        )
        purge_binlogs(sql)
        halted = stack.spawn("tail", environ=database.environ)
        wait_for_end(halted)
        halt = json.loads(sql.value("SELECT details FROM sync_audit WHERE action = 'halted'"))
        assert (halted.exit_code, halt["code"]) == (3, "binlog_purged")
        (summary,) = [line for line in run_json(database, "verify") if line["type"] == "summary"]
        assert summary["differences"] == 3 and "purged" in summary["unreadable"]
        assert run(database, "checkpoint", "skip", "--missing", "--reason", "purged unread", "--yes").exit_code == 0
        tailer = stack.spawn("tail", environ=database.environ)
        sql.wait_for_tailer()
        found = differences(database)
        assert [kind for kind, *_ in found] == ["differs", "missing_in_log", "missing_in_table"]
        counts = reconciled(database)
        assert (counts["inserted"], counts["updated"], counts["deleted"]) == (1, 1, 1)
        assert_log_is_the_tables(sql, company)
        tailer.stop()


def test_a_new_change_log_on_rows_whose_binlog_is_gone_begins_with_a_snapshot(stack: Stack) -> None:
    """The change log begins where the binlog does: what was written before comes by snapshot."""
    with stack.database() as database, SqlClient(database.settings) as sql:
        sql.run("SET SESSION sql_log_bin = 0")
        companies = [sql.company(f"c{number}") for number in range(3)]
        for company in companies:
            sql.run(
                f"INSERT INTO parties (company_id, name) VALUES {', '.join(f'({company}, {number})' for number in range(50))}",
                f"INSERT INTO products (company_id, name, deleted_at) VALUES ({company}, 'deleted long ago', NOW(6))",
            )
        sql.run("SET SESSION sql_log_bin = 1")
        tailer = stack.spawn("tail", environ=database.environ)
        sql.wait_for_tailer()
        assert sql.value("SELECT COUNT(*) FROM sync_changes") == 0
        counts = reconciled(database, "snapshot")
        assert (counts["inserted"], counts["updated"], counts["deleted"]) == (153, 0, 3)
        assert sql.rows("SELECT DISTINCT origin FROM sync_changes") == [("reconcile",)]
        assert_log_is_the_tables(sql, *companies)
        again = reconciled(database, "snapshot")
        assert again["inserted"] + again["deleted"] == 0
        tailer.stop()
