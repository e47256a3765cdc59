"""Statements of one transaction in one packet: in order, none after one that failed, and only a COMMIT may take long."""

from __future__ import annotations

import threading
import time
from typing import Any

import pymysql
import pytest
from pymysql.connections import Connection

from cdc.sql import quoted
from cdc.together import PACKET_CHARACTERS_MAX, Together, begin
from schema.connect import open_connection
from tests.servers import Database
from tests.sql_client import SqlClient

NOTE = "INSERT INTO sync_audit (actor, action, details) VALUES ('test', {}, '{{}}')"


def noted(sql: SqlClient) -> list[str]:
    return [row[0] for row in sql.rows("SELECT action FROM sync_audit WHERE actor = 'test' ORDER BY id")]


def test_what_was_put_runs_in_order_and_is_committed_at_once(connection: Connection[Any], sql: SqlClient) -> None:
    assert begin(connection, "SELECT COUNT(*) FROM sync_audit WHERE actor = 'test'") == (0,)
    writes = Together(connection)
    for name in ("a", "b", "c"):
        writes.put(NOTE.format(quoted(name)))
    assert noted(sql) == []
    writes.run()
    assert noted(sql) == []
    writes.put(NOTE.format(quoted("d;e'\\")))
    writes.commit()
    assert noted(sql) == ["a", "b", "c", "d;e'\\"]


def test_a_commit_alone_commits_what_ran_before(connection: Connection[Any], sql: SqlClient) -> None:
    begin(connection, "SELECT 1")
    writes = Together(connection)
    writes.put(NOTE.format(quoted("a")))
    writes.run()
    writes.commit()
    assert noted(sql) == ["a"]


@pytest.mark.parametrize("bad", range(3))
def test_after_a_statement_that_failed_nothing_is_committed(connection: Connection[Any], sql: SqlClient, bad: int) -> None:
    begin(connection, "SELECT 1")
    writes = Together(connection)
    for number in range(3):
        writes.put(NOTE.format("NULL" if number == bad else quoted(str(number))))
    with pytest.raises(pymysql.err.IntegrityError):
        writes.commit()
    connection.rollback()
    assert noted(sql) == []
    begin(connection, "SELECT 1")
    writes.put(NOTE.format(quoted("after")))
    writes.commit()
    assert noted(sql) == ["after"], "nothing of what failed waits for the next packet"


def test_more_than_a_packet_goes_in_several(connection: Connection[Any], sql: SqlClient) -> None:
    begin(connection, "SELECT 1")
    writes = Together(connection)
    padding = f"/*{'x' * (PACKET_CHARACTERS_MAX // 2)}*/"
    for number in range(5):
        writes.put(NOTE.format(quoted(str(number))) + padding)
    writes.commit()
    assert noted(sql) == ["0", "1", "2", "3", "4"]


def test_a_commit_may_take_longer_than_the_statements_before_it(database: Database, sql: SqlClient) -> None:
    with open_connection(database.settings.tailer(), read_timeout=1) as session, SqlClient(database.settings) as other:
        begin(session, "SELECT 1")
        writes = Together(session)
        writes.put(NOTE.format(quoted("a")))
        writes.run()
        other.run("FLUSH TABLES WITH READ LOCK")  # it holds up COMMITs
        unlocking = threading.Thread(target=_unlock_later, args=(other,))
        unlocking.start()
        began = time.monotonic()
        writes.put("DO 1")
        writes.commit()
        unlocking.join()
        assert time.monotonic() - began > 1.5
    assert noted(sql) == ["a"]


def test_a_statement_before_a_commit_may_not_take_as_long(database: Database, sql: SqlClient) -> None:
    with open_connection(database.settings.tailer(), read_timeout=1) as session:
        begin(session, "SELECT 1")
        writes = Together(session)
        writes.put("DO 1")
        writes.put("DO SLEEP(3)")
        began = time.monotonic()
        with pytest.raises(pymysql.err.OperationalError, match=r"(?i)timed out|lost connection"):
            writes.commit()
        assert time.monotonic() - began < 2.5


def _unlock_later(other: SqlClient) -> None:
    time.sleep(2)
    other.run("UNLOCK TABLES")
