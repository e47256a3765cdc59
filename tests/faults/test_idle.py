"""Acknowledged: nothing. Idle: two databases on one MySQL, each with its tailer, each one's checkpoint in the other's binlog.

What must hold: neither answers the other's checkpoint with one of its own; when nobody writes, the binlog does not grow.
"""

from __future__ import annotations

import time

from tests.faults.conftest import StartTail
from tests.faults.waiting import wait_until
from tests.servers import Database, Stack
from tests.sql_client import SqlClient


def test_two_idle_tailers_do_not_answer_each_other(stack: Stack, database: Database, sql: SqlClient, start_tail: StartTail) -> None:
    often = {"SYNC_TAILER_IDLE_CHECKPOINT_SECONDS": "1", "SYNC_TAILER_HEARTBEAT_SECONDS": "1"}
    with stack.database() as other, SqlClient(other.settings) as other_sql:
        children = [start_tail(one, **often) for one in (database, other)]
        marks = [client.run("INSERT INTO sync_origins (kind, request_id) VALUES ('system', 'mark')") for client in (sql, other_sql)]
        sql.wait_for_tailer()
        other_sql.wait_for_tailer()
        seen = {sql.value("SELECT @@GLOBAL.gtid_executed")}
        wait_until(lambda: _settles(sql, seen))
        time.sleep(4)
        assert sql.value("SELECT @@GLOBAL.gtid_executed") in seen
        assert marks and all(child.is_running for child in children)
        children[1].stop()


def _settles(sql: SqlClient, seen: set[str]) -> bool:
    """Whether nothing was written within two checkpoints' time."""
    before = sql.value("SELECT @@GLOBAL.gtid_executed")
    time.sleep(2.5)
    seen.add(sql.value("SELECT @@GLOBAL.gtid_executed"))
    return before in seen and sql.value("SELECT @@GLOBAL.gtid_executed") == before
