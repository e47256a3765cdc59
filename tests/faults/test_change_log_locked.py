"""Acknowledged: rows of plain SQL. Locked by somebody else for seconds: the change log, or the row that holds the head.

What must hold: the tailer reads no further than its memory allows and stores nothing by halves. MySQL may drop a stream that nobody
reads (net_write_timeout): then it is read again. A lock timeout (1205) undoes a statement only, so the whole commit is done again.
"""

from __future__ import annotations

import time

from tests.faults.conftest import StartTail
from tests.faults.waiting import wait_until
from tests.servers import Database
from tests.sql_client import SqlClient


def assert_once(sql: SqlClient, company: int, rows: int) -> None:
    head = sql.value("SELECT head FROM sync_state")
    assert sql.rows("SELECT MIN(version), MAX(version), COUNT(*) FROM sync_changes") == [(2, head, head - 1)]
    count = "SELECT COUNT(*), COUNT(DISTINCT record_id) FROM sync_changes WHERE company_id = %s AND table_name = 'settings'"
    assert sql.rows(count, company) == [(rows, rows)]


def test_a_change_log_that_is_locked_longer_than_mysql_keeps_the_stream(
    database: Database, sql: SqlClient, start_tail: StartTail
) -> None:
    company = sql.company()
    patience = sql.value("SELECT @@GLOBAL.net_write_timeout")
    sql.run("SET GLOBAL net_write_timeout = 1")
    try:
        tailer = start_tail(database)
        sql.wait_for_tailer()
        with SqlClient(database.settings) as other:
            other.run("LOCK TABLES sync_changes WRITE")
            for number in range(60):
                value = "JSON_OBJECT('a', REPEAT('x', 500000))"
                sql.run(f"INSERT INTO settings (company_id, name, value) VALUES ({company}, 'n{number}', {value})")
            time.sleep(2)
            other.run("UNLOCK TABLES")
        sql.wait_for_tailer(60)
    finally:
        sql.run(f"SET GLOBAL net_write_timeout = {patience}")
    assert_once(sql, company, 60)
    assert tailer.is_running


def test_a_head_that_is_locked_longer_than_innodb_waits(database: Database, sql: SqlClient, start_tail: StartTail) -> None:
    company = sql.company()
    patience = sql.value("SELECT @@GLOBAL.innodb_lock_wait_timeout")
    sql.run("SET GLOBAL innodb_lock_wait_timeout = 1")
    try:
        tailer = start_tail(database)
        sql.wait_for_tailer()
        with SqlClient(database.settings) as other:
            other.run("START TRANSACTION")
            other.rows("SELECT * FROM sync_state FOR UPDATE")
            for number in range(20):
                sql.run(f"INSERT INTO settings (company_id, name, value) VALUES ({company}, 'n{number}', '1')")
            wait_until(lambda: "1205" in tailer.output())
            other.run("ROLLBACK")
        sql.wait_for_tailer(60)
    finally:
        sql.run(f"SET GLOBAL innodb_lock_wait_timeout = {patience}")
    assert_once(sql, company, 20)
    assert tailer.is_running
