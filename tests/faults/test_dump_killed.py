"""Acknowledged: rows of plain SQL. Killed: the tailer's binlog dump in MySQL, several times a second.

What must hold: an end of the stream is never taken for the end of the binlog; it is read again from the checkpoint, and each row is
there once.
"""

from __future__ import annotations

import time

import pymysql

from tests.faults.conftest import StartTail
from tests.faults.kit import assert_nothing_is_wrong, new_seed, writing
from tests.ledger import Ledger
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

_DUMPS = "SELECT ID FROM information_schema.PROCESSLIST WHERE USER = %s AND COMMAND LIKE 'Binlog Dump%%'"


def test_a_dump_that_is_killed_again_and_again_loses_nothing(
    stack: Stack, database: Database, sql: SqlClient, start_tail: StartTail, ledger: Ledger
) -> None:
    company = sql.company()
    tailer = start_tail(database, SYNC_TAILER_BACKOFF_SECONDS_MAX="1")
    sql.wait_for_tailer()
    killed = 0
    with writing(database, company, ledger, new_seed()):
        while killed < 10:
            for (session,) in sql.rows(_DUMPS, database.settings.tailer().user):
                try:
                    sql.run(f"KILL {session}")
                    killed += 1
                except pymysql.err.MySQLError as gone:
                    assert gone.args[0] == 1094
            time.sleep(0.2)
    assert_nothing_is_wrong(database, ledger, company, stack.mysql)
    assert tailer.is_running and '"retrying"' in tailer.output()
