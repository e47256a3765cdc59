"""Acknowledged: rows of plain SQL, pushes. Refused by MySQL for a while: writes, connections, room, or the tailer's account.

What must hold: a push is refused with 503 and Retry-After, or stored, never both; a pull works as far as MySQL reads; the tailer
waits and goes on by itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pymysql
import pytest

from cli.embedded import MySQLServer
from tests.api.tills import open_api, shop
from tests.device import Line, Refused, insert
from tests.faults.conftest import StartTail
from tests.faults.kit import with_settings, write_settings
from tests.faults.waiting import wait_until
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

SMALL_SYSTEM_TABLESPACE = {"innodb-file-per-table": "OFF", "innodb-data-file-path": "ibdata1:12M:autoextend:max:40M"}
"""All tables in one file that cannot grow: a full disk without one."""
BACK_SECONDS_MAX = 45


@pytest.fixture(scope="module")
def server(stack: Stack) -> Iterator[MySQLServer]:
    """A MySQL of this file's own."""
    with stack.private_mysql("refusing", SMALL_SYSTEM_TABLESPACE) as mysql:
        yield mysql


@pytest.fixture
def database(stack: Stack, server: MySQLServer) -> Iterator[Database]:
    """On that server."""
    with stack.database(server) as fresh:
        yield fresh


async def refused(line: Line, name: str) -> Refused:
    """A push that is refused."""
    with pytest.raises(Refused) as answer:
        await line.push(insert("parties", name, name=name))
    return answer.value


async def test_a_server_that_is_read_only(database: Database, sql: SqlClient, start_tail: StartTail) -> None:
    tailer = start_tail(database)
    async with open_api(database) as api:
        _, (line, other) = await shop(api)
        await line.push(insert("parties", "a", name="a"))
        await other.pull(tables=["settings"])  # a device's first request notes the device
        sql.run("SET GLOBAL super_read_only = ON")
        try:
            answer = await refused(line, "b")
            assert answer.status == 503 and answer.code == "database_unavailable"
            page = await other.pull()
            assert [change["data"]["name"] for change in page["changes"] if change["table"] == "parties"] == ["a"]
        finally:
            sql.run("SET GLOBAL super_read_only = OFF", "SET GLOBAL read_only = OFF")
        answer_again = await line.push(insert("parties", "b", name="b"))
        assert answer_again["results"][0]["status"] == "applied" and answer_again["pending"] is False
    assert tailer.is_running


def test_a_tailer_meets_a_read_only_server_with_work_in_its_hands(
    database: Database, sql: SqlClient, start_tail: StartTail
) -> None:
    tailer = start_tail(database)
    company = sql.company()
    sql.wait_for_tailer()
    with SqlClient(database.settings) as other:
        other.run("START TRANSACTION")
        other.rows("SELECT * FROM sync_state FOR UPDATE")
        sql.run(f"INSERT INTO parties (company_id, name) VALUES ({company}, 'while it waits')")
        time.sleep(0.5)
        other.run("ROLLBACK", "SET GLOBAL super_read_only = ON")
        try:
            with suppress(pymysql.err.OperationalError):  # refused its commit, the tailer may have closed that session already
                sql.run(f"KILL {sql.value('SELECT connection_id FROM sync_lease')}")
            wait_until(lambda: "super_read_only" in tailer.output() or "1290" in tailer.output())
        finally:
            other.run("SET GLOBAL super_read_only = OFF", "SET GLOBAL read_only = OFF")
    sql.wait_for_tailer(BACK_SECONDS_MAX)
    assert sql.value("SELECT COUNT(*) FROM sync_changes WHERE table_name = 'parties'") == 1
    assert tailer.is_running


def test_a_server_without_a_free_connection(database: Database, sql: SqlClient, start_tail: StartTail) -> None:
    tailer = start_tail(database)
    company = sql.company()
    sql.wait_for_tailer()
    before = sql.value("SELECT @@GLOBAL.max_connections")
    sql.run("SET GLOBAL max_connections = 1")
    try:
        sql.run(f"KILL {sql.value('SELECT connection_id FROM sync_lease')}")
        wait_until(lambda: "1040" in tailer.output())
        sql.run(f"INSERT INTO parties (company_id, name) VALUES ({company}, 'nobody looks')")
    finally:
        sql.run(f"SET GLOBAL max_connections = {before}")
    sql.wait_for_tailer(BACK_SECONDS_MAX)
    assert len(sql.changes(company)) == 2 and tailer.is_running


async def test_a_database_without_room(database: Database, sql: SqlClient, start_tail: StartTail) -> None:
    tailer = start_tail(database)
    async with open_api(database, push_wait_ms_max=0) as api:
        owner, (line, _) = await shop(api)
        sql.wait_for_tailer()
        sql.run("CREATE TABLE filler (id INT PRIMARY KEY AUTO_INCREMENT, b LONGBLOB)")
        for size in (1_000_000, 50_000, 7_000):
            with pytest.raises(pymysql.err.MySQLError, match="full"):
                while True:
                    sql.run(f"INSERT INTO filler (b) VALUES (REPEAT('x', {size}))")
        stored = 0
        with pytest.raises(Refused) as refusal:
            for number in range(1000):
                await line.push(*two(number))
                stored += 1
        assert refusal.value.status == 503 and refusal.value.code == "database_unavailable"
        wait_until(lambda: "1114" in tailer.output())
        sql.run("DROP TABLE filler")
        again = await line.push(*two(stored))
        assert [result["status"] for result in again["results"]] == ["applied", "applied"], "nothing of it was stored before"
        sql.wait_for_tailer(BACK_SECONDS_MAX)
        query = "SELECT COUNT(*), COUNT(DISTINCT record_id) FROM sync_changes WHERE company_id = %s AND table_name = 'parties'"
        assert sql.rows(query, owner.company_id) == [(2 * (stored + 1), 2 * (stored + 1))]
    head = sql.value("SELECT head FROM sync_state")
    assert sql.rows("SELECT MIN(version), MAX(version), COUNT(*) FROM sync_changes") == [(2, head, head - 1)]
    assert tailer.is_running


def two(number: int) -> list[dict[str, Any]]:
    """A push of two records, of which both or none may be stored."""
    return [insert("parties", f"{word}{number}", name=word * 200) for word in "yz"]


def test_a_password_that_is_changed_while_the_tailer_runs(database: Database, sql: SqlClient, start_tail: StartTail) -> None:
    mine = with_settings(database)
    tailer = start_tail(mine)
    company = sql.company()
    sql.wait_for_tailer()
    account = mine.settings.tailer()
    sql.run(f"ALTER USER {account.user} IDENTIFIED BY 'rotated'")
    sql.run(f"KILL {sql.value('SELECT connection_id FROM sync_lease')}")
    wait_until(lambda: '"auth_failed"' in tailer.output())
    sql.run(f"INSERT INTO parties (company_id, name) VALUES ({company}, 'meanwhile')")
    rotated = replace(mine.settings, mysql_tailer_url=replace(account, password="rotated").url())
    write_settings(Path(mine.environ["SYNC_CONFIG"]), rotated)
    sql.wait_for_tailer(BACK_SECONDS_MAX)
    assert len(sql.changes(company)) == 2 and tailer.is_running
    assert "rotated" not in tailer.output() and account.password not in tailer.output()


def test_a_privilege_that_is_revoked_while_the_tailer_runs(database: Database, sql: SqlClient, start_tail: StartTail) -> None:
    tailer = start_tail(database)
    company = sql.company()
    sql.wait_for_tailer()
    user = database.settings.tailer().user
    sql.run(f"REVOKE REPLICATION SLAVE ON *.* FROM {user}")
    sql.run(f"KILL {sql.value('SELECT connection_id FROM sync_lease')}")
    wait_until(lambda: "REPLICATION SLAVE" in tailer.output())
    sql.run(f"INSERT INTO parties (company_id, name) VALUES ({company}, 'meanwhile')")
    sql.run(f"GRANT REPLICATION SLAVE ON *.* TO {user}")
    sql.wait_for_tailer(BACK_SECONDS_MAX)
    assert len(sql.changes(company)) == 2 and tailer.is_running
