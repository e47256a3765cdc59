"""Acknowledged: rows on a server. Done: its auto.cnf is lost, so that it comes back under another uuid.

What must hold: the checkpoint is a set of GTIDs and holds all the same: nothing is lost, nothing comes twice; it is noted.
"""

from __future__ import annotations

import pytest

from cli.embedded import MySQLServer
from tests.servers import Stack
from tests.sql_client import SqlClient

CATCH_UP_SECONDS = 60
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("collected"),
]


def test_reading_goes_on_by_gtid_under_a_new_uuid(stack: Stack, machine: MySQLServer) -> None:
    with stack.database(machine) as database:
        tail = stack.spawn("tail", environ=database.environ)
        with SqlClient(database.settings) as sql:
            company = sql.company()
            sql.wait_for_tailer(CATCH_UP_SECONDS)
            tail.stop()
            sql.run(f"INSERT INTO parties (company_id, name) VALUES ({company}, 'unread under the old uuid')")
            before = sql.value("SELECT @@server_uuid")
        machine.kill()
        machine.stop()
        (machine.data / "auto.cnf").unlink()
        machine.start()
        tail = stack.spawn("tail", environ=database.environ)
        with SqlClient(database.settings) as sql:
            sql.run(f"INSERT INTO parties (company_id, name) VALUES ({company}, 'under the new one')")
            sql.wait_for_tailer(CATCH_UP_SECONDS)
            tail.stop()
            assert sql.value("SELECT @@server_uuid") != before
            assert [row["operation"] for row in sql.changes(company)] == ["INSERT"] * 3
            assert sql.value("SELECT server_uuid = @@server_uuid FROM sync_state") == 1
            assert sql.value("SELECT details->>'$.before' FROM sync_audit WHERE action = 'server_changed'") == before
            assert sql.rows("SELECT epoch FROM sync_epochs") == [(0,)]
