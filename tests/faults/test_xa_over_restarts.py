"""Prepared: XA transactions, whose rows are in the binlog before anyone knows their outcome. Restarted: tailer and mysqld.

What must hold: rows come with XA COMMIT, whoever sends it and however much later; none come with XA ROLLBACK.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from cli.embedded import MySQLServer
from tests.cdc.test_tailer import HALTED, operations
from tests.faults.waiting import purge_binlogs
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

CATCH_UP_SECONDS = 60
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""PyMySQL leaves the unix socket open for the garbage collector where nobody listens at it."""


@pytest.fixture(scope="module")
def server(stack: Stack) -> Iterator[MySQLServer]:
    """A MySQL of this file's own."""
    with stack.private_mysql("xa") as mysql:
        yield mysql
    gc.collect()


def prepare(database: Database, xid: str, company: int) -> None:
    """In a session that ends then: the transaction waits without one."""
    with SqlClient(database.settings) as sql:
        insert = f"INSERT INTO parties (company_id, name) VALUES ({company}, '{xid}')"
        sql.run(f"XA START '{xid}'", insert, f"XA END '{xid}'", f"XA PREPARE '{xid}'")


def is_all_done(sql: SqlClient) -> bool:
    """Whether the checkpoint has every transaction up to the last but the tailer's own ones."""
    executed = sql.value("SELECT @@GLOBAL.gtid_executed")
    sql.wait_for_tailer(CATCH_UP_SECONDS)
    return bool(sql.value("SELECT GTID_SUBSET(%s, gtid_set) FROM sync_state", executed))


def test_the_outcome_comes_after_restarts_of_tailer_and_server(stack: Stack, server: MySQLServer) -> None:
    with stack.database(server) as database:
        child = stack.spawn("tail", environ=database.environ)
        with SqlClient(database.settings) as sql:
            company = sql.company()
            prepare(database, "kept", company)
            prepare(database, "undone", company)
            assert not is_all_done(sql), "a PREPARE joins the checkpoint with its outcome only"
        child.kill()
        child = stack.spawn("tail", "--standby", environ=database.environ)
        with SqlClient(database.settings) as sql:
            sql.run(f"INSERT INTO parties (company_id, name) VALUES ({company}, 'between')")
            assert not is_all_done(sql)
            assert operations(sql, company) == [("INSERT", "between")]
        server.stop()
        server.start()
        with SqlClient(database.settings) as sql:
            assert {row[3] for row in sql.rows("XA RECOVER")} == {"kept", "undone"}
            sql.run("XA ROLLBACK 'undone'", "XA COMMIT 'kept'")
            assert is_all_done(sql)
            assert operations(sql, company) == [("INSERT", "between"), ("INSERT", "kept")]
            child.stop()
            child = stack.spawn("tail", environ=database.environ)
            assert is_all_done(sql)
            assert operations(sql, company) == [("INSERT", "between"), ("INSERT", "kept")], "and nothing comes again"
        child.stop()
        assert child.exit_code == 0, child.last_lines()


def test_a_purged_prepare_halts_while_its_outcome_is_open(stack: Stack, server: MySQLServer) -> None:
    with stack.database(server) as database, SqlClient(database.settings) as sql:
        child = stack.spawn("tail", environ=database.environ)
        company = sql.company()
        prepare(database, "waiting", company)
        sql.wait_for_tailer(CATCH_UP_SECONDS)
        child.stop()
        purge_binlogs(sql)
        child = stack.spawn("tail", environ=database.environ)
        assert child.wait(CATCH_UP_SECONDS) == HALTED and "binlog_purged" in child.output()
        sql.run("XA COMMIT 'waiting'")
        assert operations(sql, company) == []
