"""When a lock's holder counts as gone: sights of a session, and what they add up to."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pymysql
import pytest
from pymysql.connections import Connection
from pymysql.constants.COMMAND import COM_QUERY

from cdc.holder import SILENT_SECONDS, Sight, Watch, kill, look_at, read_holder
from cdc.lease import KEEP_SECONDS, Candidate, Lease, take_lease
from schema.connect import open_connection
from tests.servers import Database
from tests.sql_client import SqlClient

LOOKS_PER_SECOND = 4


def first_silent(sights: list[Sight | None], every: float = 1 / LOOKS_PER_SECOND) -> int | None:
    """The number of the sight after which the holder counts as gone."""
    watch = Watch()
    verdicts = [watch.is_silent(sight, number * every) for number, sight in enumerate(sights)]
    return verdicts.index(True) if True in verdicts else None


def asleep(*seconds: int) -> list[Sight | None]:
    return [Sight(1, True, second) for second in seconds]


def test_a_session_whose_client_sends_nothing_for_three_seconds_is_silent() -> None:
    sights = asleep(*(number // LOOKS_PER_SECOND for number in range(40)))
    assert first_silent(sights) == SILENT_SECONDS * LOOKS_PER_SECOND


def test_a_living_one_never_is_however_its_commands_fall() -> None:
    assert first_silent(asleep(*[0, 0, 1, 1, 0, 1] * 100)) is None
    assert first_silent(asleep(*[9, 8] * 100)) is None, "one long command after the other, each just ended"


def test_one_that_mysql_keeps_waiting_is_not_silent() -> None:
    assert first_silent([Sight(1, False, number) for number in range(100)]) is None
    until_it_would_count = asleep(*[9] * 2 * LOOKS_PER_SECOND)
    assert first_silent([*until_it_would_count, *[Sight(1, False, 9)] * 100]) is None


def test_after_a_long_command_its_seconds_count_from_the_answer() -> None:
    busy: list[Sight | None] = [Sight(1, False, number // LOOKS_PER_SECOND) for number in range(40)]
    assert first_silent([*busy, *asleep(10, 0, 0, 1)]) is None
    assert first_silent([*busy, *asleep(*(10 + number // LOOKS_PER_SECOND for number in range(40)))]) == 40 + 2 * LOOKS_PER_SECOND


def test_a_pause_between_two_sights_says_nothing_of_the_holder() -> None:
    """The waiting process, or the whole server, stood still."""
    assert first_silent(asleep(0, 100, 101), every=100) is None


def test_another_session_begins_anew_and_one_that_is_not_seen_is_left_alone() -> None:
    changing: list[Sight | None] = [Sight(number // LOOKS_PER_SECOND, True, 9) for number in range(40)]
    assert first_silent(changing) is None
    assert first_silent([None] * 100) is None


@pytest.fixture
def second(database: Database) -> Iterator[Connection[Any]]:
    """Another session of the tailer's account."""
    with open_connection(database.settings.tailer()) as session:
        yield session


def test_mysql_shows_an_account_its_own_sessions_and_lets_it_end_them(
    connection: Connection[Any], second: Connection[Any], sql: SqlClient
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT GET_LOCK('a lock', 0), CONNECTION_ID()")
        row = cursor.fetchone()
        assert row is not None
    session = read_holder(second, "a lock")
    assert session == row[1]
    time.sleep(1.2)
    sight = look_at(second, session)
    assert sight is not None and sight.is_waiting_for_client and sight.seconds >= 1
    connection.ping(reconnect=False)
    sight = look_at(second, session)
    assert sight is not None and sight.seconds == 0
    asking = threading.Thread(target=connection.query, args=("DO SLEEP(0.7)",))
    asking.start()
    time.sleep(0.3)
    sight = look_at(second, session)
    assert sight is not None and not sight.is_waiting_for_client
    asking.join()
    assert session is not None and kill(second, session) and read_holder(second, "a lock") is None
    assert kill(second, session), "ending what is gone is no failure"
    administrator = sql.value("SELECT CONNECTION_ID()")
    assert look_at(second, administrator) is None and not kill(second, administrator)
    connection.close()
    connection.connect()


def test_one_that_owes_mysql_the_rows_of_a_load_waits_for_its_client(database: Database, sql: SqlClient) -> None:
    sql.run("SET GLOBAL local_infile = ON")
    with open_connection(database.settings.admin(), may_load=True) as loading:
        loading.query("CREATE TEMPORARY TABLE taken (id INT)")
        loading._execute_command(COM_QUERY, "LOAD DATA LOCAL INFILE '-' INTO TABLE taken")  # type: ignore[attr-defined]
        loading._read_packet()  # type: ignore[no-untyped-call]
        time.sleep(0.2)
        with open_connection(database.settings.admin()) as looking:
            sight = look_at(looking, loading.thread_id())  # type: ignore[no-untyped-call]
        assert sight is not None and sight.is_waiting_for_client
        loading._force_close()  # type: ignore[attr-defined]


def session_of(connection: Connection[Any]) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT CONNECTION_ID()")
        [(number,)] = cursor.fetchall()
    return int(number)


def test_a_holder_is_heard_of_twice_a_second(connection: Connection[Any], sql: SqlClient) -> None:
    now = [0.0]
    lease = Lease(connection, clock=lambda: now[0])
    sql.run(f"KILL {session_of(connection)}")
    now[0] = KEEP_SECONDS - 0.01
    lease.keep()  # asks nobody
    now[0] = KEEP_SECONDS
    with pytest.raises(pymysql.err.MySQLError):
        lease.keep()
    connection.connect()


def test_a_session_of_its_own_that_the_server_still_keeps_does_not_stand_in_the_way(
    connection: Connection[Any], second: Connection[Any], database: Database
) -> None:
    """After a cut that the server has not noticed, the tailer comes back with another connection."""
    take_lease(connection, database.name, wait_seconds=0)
    former = session_of(connection)
    again = Candidate(second, database.name, former=former)
    assert again.take(is_standby=False, wait=lambda seconds: True)
    assert look_at(second, former) is None
    connection.close()
    connection.connect()
