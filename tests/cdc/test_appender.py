"""What is made while the batch before it is being stored is stored just as if each had waited for the other."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from typing import Any

import pymysql
import pytest
from pymysql.connections import Connection

from cdc import appender as appender_module
from cdc import live as live_module
from cdc.appender import Appender
from cdc.lease import take_lease
from cdc.log import Prepared, prepare
from cdc.repair import Repair
from cdc.state import State, read_state
from cdc.stored import LiveRow
from schema.connect import open_connection
from schema.errors import LeaseLost, Retry
from tests.cdc.test_live import expected, some_entries, somebody_else_writes, stored
from tests.cdc.test_log import change, tx
from tests.faults.waiting import wait_until
from tests.servers import Database
from tests.sql_client import SqlClient

ROUNDS = 40


@pytest.fixture
def session(database: Database) -> Iterator[Connection[Any]]:
    """As the tailer opens it, and with its lease."""
    with open_connection(database.settings.tailer(), may_load=True) as session:
        take_lease(session, database.name, wait_seconds=0)
        yield session


def nothing(before: State, after: State, batch: object) -> None:
    """Whoever is told of appends."""


@pytest.fixture
def appender(session: Connection[Any]) -> Iterator[Appender]:
    made = Appender(session, read_state(session), nothing)
    yield made
    made.close()


@pytest.mark.parametrize("waiting_max", [1, live_module.ROWS_WAITING_MAX])
def test_batches_behind_each_other_inherit_what_batches_in_turn_do(
    session: Connection[Any], database: Database, sql: SqlClient, monkeypatch: pytest.MonkeyPatch, waiting_max: int
) -> None:
    monkeypatch.setattr(live_module, "ROWS_WAITING_MAX", waiting_max)
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    appender = Appender(session, read_state(session), nothing)
    begun_anew = 0
    with open_connection(database.settings.operator()) as other:
        for _ in range(ROUNDS):
            head = appender.drain().head
            somebody_else_writes(other, sql, chance, appender.drain())
            before = stored(sql)
            batches = [some_entries(chance) for _ in range(chance.randrange(1, 5))]
            while True:
                try:
                    for batch in batches:
                        appender.append_behind([tx(*batch)])
                    appender.drain()
                    break
                except Retry as problem:
                    assert problem.code == "live_mended"
                    begun_anew += 1
                    session.rollback()
                    appender.close()
                    appender = Appender(session, read_state(session), nothing)
            rows = sql.rows("SELECT prev_version, local_id FROM sync_changes WHERE version > %s ORDER BY version", head)
            assert rows == expected([entry for batch in batches for entry in batch], before, head)
    appender.close()
    assert sql.rows("SELECT MIN(version), MAX(version), COUNT(*) FROM sync_changes") == [
        (2, appender.drain().head, appender.drain().head - 1)
    ]


def test_the_next_batch_is_made_while_the_one_before_is_being_stored(
    appender: Appender, database: Database, sql: SqlClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Prepared] = []

    def noting(*arguments: Any) -> Prepared:
        made.append(prepare(*arguments))
        return made[-1]

    appender.append([tx(change(1), change(2))])
    monkeypatch.setattr(appender_module, "prepare", noting)
    with SqlClient(database.settings) as other:
        other.run("BEGIN", "UPDATE sync_state SET tx = tx + 1")
        appender.append_behind([tx(change(1))])
        handing = threading.Thread(target=appender.append_behind, args=([tx(change(2), change(3))],))
        handing.start()
        wait_until(lambda: len(made) == 2)
        assert sql.value("SELECT head FROM sync_state") == 3
        assert handing.is_alive(), "no more than one waits for its turn"
        other.run("ROLLBACK")
    handing.join()
    assert appender.drain().head == sql.value("SELECT head FROM sync_state") == 6
    assert [prepared.state.head for prepared in made] == [4, 6]
    assert sql.rows("SELECT version, prev_version FROM sync_changes WHERE version > 3 ORDER BY version") == [
        (4, 2),
        (5, 3),
        (6, None),
    ]


def test_after_a_batch_that_was_refused_none_that_was_made_is_stored(appender: Appender, sql: SqlClient) -> None:
    appender.append([tx(change(1))])
    appender.append_behind([tx(change(1)._replace(maker=("x" * 129, "a")))])
    with pytest.raises(pymysql.err.DataError):
        appender.append_behind([tx(change(1))])
    assert sql.value("SELECT head FROM sync_state") == 2


def test_what_a_replay_puts_back_undoes_what_was_made_without_asking(
    appender: Appender, database: Database, sql: SqlClient
) -> None:
    appender.append([tx(change(1))])
    appender.append([tx(change(1))])
    with open_connection(database.settings.operator()) as other:
        Repair(other, "tester", {}).restore_live({(1, "parties", 1): LiveRow(3, False, None)})
    appender.append_behind([tx(change(1))])
    with pytest.raises(Retry, match="replay"):
        appender.drain()
    assert sql.value("SELECT head FROM sync_state") == 3
    with pytest.raises(Retry, match="replay"):
        appender.append([tx(change(1))])
    large = appender.begin_large()
    large.append_part(tx(change(1)))
    with pytest.raises(Retry, match="replay"):
        appender.drain()
    assert sql.value("SELECT MAX(version) FROM sync_changes") == 3


def test_a_tailer_that_remembers_nothing_yet_heeds_no_replay_of_before(
    session: Connection[Any], appender: Appender, database: Database, sql: SqlClient
) -> None:
    appender.append([tx(change(1))])
    with open_connection(database.settings.operator()) as other:
        Repair(other, "tester", {}).restore_live({(1, "parties", 1): LiveRow(2, False, None)})
    successor = Appender(session, read_state(session), nothing)
    successor.append([tx()])
    successor.append_behind([tx(change(1))])
    assert successor.drain().head == sql.value("SELECT head FROM sync_state") == 3
    successor.close()


def test_a_lease_that_is_lost_meanwhile_is_told_from_a_replay(appender: Appender, sql: SqlClient) -> None:
    appender.append([tx(change(1))])
    sql.run("UPDATE sync_state SET fencing_token = fencing_token + 1")
    with pytest.raises(LeaseLost):
        appender.append([tx(change(1))])
    assert sql.value("SELECT MAX(version) FROM sync_changes") == 2


def test_the_parts_of_a_large_tx_are_made_ahead_and_held_to_the_lease(appender: Appender, sql: SqlClient) -> None:
    appender.append([tx(change(1))])
    large = appender.begin_large()
    for record_id in (2, 3):
        large.append_part(tx(change(record_id)))
    appender.finish_large(large, tx(change(1)))
    assert appender.drain().head == sql.value("SELECT head FROM sync_state") == 5
    assert sql.rows("SELECT version, prev_version FROM sync_changes ORDER BY version") == [(2, None), (3, None), (4, None), (5, 2)]
    large = appender.begin_large()
    sql.run("UPDATE sync_state SET fencing_token = fencing_token + 1")
    large.append_part(tx(change(4)))
    with pytest.raises(LeaseLost):
        large.append_part(tx(change(5)))
    assert sql.value("SELECT MAX(version) FROM sync_changes") == 5
