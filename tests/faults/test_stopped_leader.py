"""Acknowledged: rows of plain SQL. Stopped, cut off or killed: the tailer that holds the lease, with another one waiting.

What must hold: the standby takes over within 5 s; the old one, when it goes on, commits nothing and waits in its turn; a leader
that is only slow keeps its lease; every row is in the change log once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from cdc.load import ROWS_MIN
from cli.embedded.process import Child
from tests.faults.conftest import StartTail
from tests.faults.kit import assert_nothing_is_wrong, is_held_by, new_seed, tail_that_stops, writing
from tests.faults.waiting import wait_until
from tests.ledger import Ledger
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

TAKEOVER_SECONDS_MAX = 5
SLACK_SECONDS = 5
"""For a machine that has other work."""


@pytest.fixture
def pair(database: Database, sql: SqlClient, start_tail: StartTail) -> Iterator[tuple[Child, Child]]:
    """The active tailer and its standby."""
    leader = start_tail(database, "--standby")
    wait_until(lambda: is_held_by(sql, leader))
    standby = start_tail(database, "--standby")
    wait_until(lambda: '"standby"' in standby.output())
    yield leader, standby
    leader.resume()


def test_a_stopped_leader_is_taken_over_and_commits_nothing_when_it_goes_on(
    stack: Stack, database: Database, sql: SqlClient, pair: tuple[Child, Child], ledger: Ledger
) -> None:
    company, chance = sql.company(), new_seed()
    with writing(database, company, ledger, chance):
        for leader, standby in (pair, pair[::-1]):
            time.sleep(0.2 + chance.random() / 2)
            leader.pause()
            began = time.monotonic()
            wait_until(lambda standby=standby: is_held_by(sql, standby))  # type: ignore[misc]
            assert time.monotonic() - began < TAKEOVER_SECONDS_MAX + SLACK_SECONDS
            leader.resume()
            wait_until(lambda leader=leader: leader.output().count('"standby"') == leader.output().count('"retrying"'))  # type: ignore[misc]
            assert is_held_by(sql, standby)
    found = assert_nothing_is_wrong(database, ledger, company, stack.mysql)
    assert found.unknown == 0
    assert all(child.is_running for child in pair)


def test_a_leader_stopped_inside_a_large_transaction_adds_no_part_when_it_goes_on(
    database: Database, sql: SqlClient, start_tail: StartTail
) -> None:
    company = sql.company()
    small_parts = {"SYNC_TAILER_PART_CHANGES_MAX": "500"}
    leader = start_tail(database, "--standby", **small_parts)
    wait_until(lambda: is_held_by(sql, leader))
    standby = start_tail(database, "--standby", **small_parts)
    wait_until(lambda: '"standby"' in standby.output())
    digits = "(SELECT 0 d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 UNION SELECT 7)"
    sql.run(
        f"INSERT INTO units_of_measure (company_id, name) SELECT {company}, CONCAT(a.d, b.d, c.d, d.d, e.d) "
        f"FROM {digits} a, {digits} b, {digits} c, {digits} d, {digits} e WHERE e.d < 6"
    )
    wait_until(lambda: sql.value("SELECT COUNT(*) FROM sync_changes") > 500)
    leader.pause()
    wait_until(lambda: is_held_by(sql, standby))
    leader.resume()
    sql.wait_for_tailer(60)
    head = sql.value("SELECT head FROM sync_state")
    assert sql.rows("SELECT MIN(version), MAX(version), COUNT(*) FROM sync_changes") == [(2, head, head - 1)]
    assert sql.value("SELECT COUNT(*) FROM sync_changes WHERE table_name = 'units_of_measure'") == 8**4 * 6
    assert is_held_by(sql, standby)


def test_a_leader_stopped_while_mysql_waits_for_its_rows_is_taken_over(
    stack: Stack, database: Database, sql: SqlClient, start_tail: StartTail
) -> None:
    """Its command is under way and looks busy: LOAD DATA LOCAL has been asked for, and the rows never come."""
    sql.run("SET GLOBAL local_infile = ON")
    company = sql.company()
    leader = tail_that_stops(stack, database, "before the rows of a load")
    try:
        wait_until(lambda: is_held_by(sql, leader))
        standby = start_tail(database, "--standby")
        wait_until(lambda: '"standby"' in standby.output())
        sql.run(
            "INSERT INTO units_of_measure (company_id, name) VALUES " + ", ".join(f"({company}, '{n}')" for n in range(ROWS_MIN))
        )
        wait_until(lambda: is_held_by(sql, standby), TAKEOVER_SECONDS_MAX + SLACK_SECONDS)
        leader.resume()
        sql.wait_for_tailer()
        wait_until(lambda: '"retrying"' in leader.output())
        assert sql.value("SELECT COUNT(*) FROM sync_changes WHERE table_name = 'units_of_measure'") == ROWS_MIN
        assert is_held_by(sql, standby)
    finally:
        leader.kill()


def test_a_killed_lock_connection_costs_nothing(
    stack: Stack, database: Database, sql: SqlClient, pair: tuple[Child, Child], ledger: Ledger
) -> None:
    company = sql.company()
    with writing(database, company, ledger, new_seed()):
        for _ in range(4):
            time.sleep(0.3)
            session = sql.value("SELECT connection_id FROM sync_lease")
            sql.run(f"KILL {session}")
            wait_until(lambda: any(is_held_by(sql, child) for child in pair))
    assert_nothing_is_wrong(database, ledger, company, stack.mysql)
    assert all(child.is_running for child in pair)


def test_a_leader_that_waits_for_mysql_is_not_taken_for_a_stopped_one(
    database: Database, sql: SqlClient, pair: tuple[Child, Child]
) -> None:
    leader, standby = pair
    company = sql.company()
    with SqlClient(database.settings) as other:
        other.run("LOCK TABLES sync_changes WRITE")
        sql.run(f"INSERT INTO parties (company_id, name) VALUES ({company}, 'held up')")
        time.sleep(TAKEOVER_SECONDS_MAX + 1)
        assert is_held_by(sql, leader)
        other.run("UNLOCK TABLES")
    sql.wait_for_tailer()
    assert is_held_by(sql, leader)
    assert "retrying" not in leader.output() and "holder_silent" not in standby.output()


def test_a_second_tailer_that_is_no_standby_replaces_a_stopped_one(
    database: Database, sql: SqlClient, start_tail: StartTail
) -> None:
    first = start_tail(database)
    wait_until(lambda: is_held_by(sql, first))
    first.pause()
    time.sleep(1.5)
    second = start_tail(database)
    wait_until(lambda: is_held_by(sql, second))
    first.resume()
    assert first.wait(60) == 1 and "another tailer holds the lease" in first.output()
    assert second.is_running
