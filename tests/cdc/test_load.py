"""Many rows at once go by LOAD DATA LOCAL, and are stored or refused just as by INSERT."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pymysql
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymysql.connections import Connection

from cdc.entries import Entry
from cdc.lease import take_lease
from cdc.live import LiveRecords
from cdc.load import ROWS_MIN, may_load
from cdc.log import append
from cdc.state import State, read_state
from cdc.stored import read_next_changes
from schema.connect import open_connection
from tests.cdc.test_log import an_empty_log, change, tx
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

__all__ = ["an_empty_log"]

ROWS = ROWS_MIN + 20
_MEANING_SOMETHING = "\0\b\t\n\r\x1a\"'\\%N,ué日🍵\u2028\ufeff"
_TEXTS = st.text(st.sampled_from(_MEANING_SOMETHING)) | st.text()


@pytest.fixture(scope="module")
def database(stack: Stack) -> Iterator[Database]:
    """One for the file; each test begins with an empty log."""
    with stack.database() as shared:
        yield shared


@pytest.fixture
def session(database: Database) -> Iterator[Connection[Any]]:
    """As the tailer opens it."""
    with open_connection(database.settings.tailer(), may_load=True) as session:
        yield session


@pytest.fixture
def state(session: Connection[Any], database: Database) -> State:
    take_lease(session, database.name, wait_seconds=0)
    return read_state(session)


def loads(session: Connection[Any]) -> int:
    """How many LOAD DATA statements the session has run."""
    with session.cursor() as cursor:
        cursor.execute("SHOW SESSION STATUS LIKE 'Com_load'")
        ((_, count),) = cursor.fetchall()
    return int(count)


def entries(count: int = ROWS, first: int = 1) -> list[Entry]:
    return [change(first + n, data=f'{{"n":{n}}}') for n in range(count)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(texts=st.lists(st.tuples(_TEXTS, _TEXTS.map(lambda text: text[:100]), _TEXTS.map(lambda text: text[:100])), max_size=30))
def test_every_text_is_stored_as_it_is(session: Connection[Any], database: Database, texts: list[tuple[str, str, str]]) -> None:
    take_lease(session, database.name, wait_seconds=0)
    state, before = read_state(session), loads(session)
    given_ = entries()
    for place, (data, device_id, local_id) in enumerate(texts):
        given_[place] = change(place + 1, data=data)._replace(maker=(device_id, local_id))
    after = append(session, state, [tx(*given_)])
    session.commit()
    assert loads(session) > before
    stored = read_next_changes(session, state.head, after.head, ROWS)
    assert [row.row.data for row in stored] == [entry.change.data for entry in given_]
    assert [(row.row.device_id, row.row.local_id) for row in stored[: len(texts)]] == [text[1:] for text in texts]
    chain = state.chain
    for row in stored:
        assert row.follows(chain)
        chain = row.chain
    assert chain == after.chain


def test_a_version_that_is_there_already_is_refused(session: Connection[Any], state: State, sql: SqlClient) -> None:
    after = append(session, state, [tx(*entries(3))])
    with pytest.raises(pymysql.err.IntegrityError):
        append(session, replace(after, head=state.head), [tx(*entries())])
    session.rollback()
    assert sql.value("SELECT COUNT(*) FROM sync_changes") == 3


def test_a_value_that_a_column_cannot_hold_is_refused(session: Connection[Any], state: State, sql: SqlClient) -> None:
    too_long = change(ROWS + 1)._replace(maker=("x" * 129, "a"))
    with pytest.raises(pymysql.err.DataError):
        append(session, state, [tx(*entries(), too_long)])
    session.rollback()
    assert not sql.value("SELECT COUNT(*) FROM sync_changes")


def test_a_newest_version_that_somebody_put_there_is_superseded(session: Connection[Any], state: State, sql: SqlClient) -> None:
    live = LiveRecords(session)
    state = append(session, state, [tx(change(1))], live=live)
    sql.run(
        "INSERT INTO sync_live (company_id, table_name, record_id, version, is_deleted) "
        f"VALUES (1, 'parties', {ROWS}, {state.head - 1}, 0)"
    )
    state = append(session, state, [tx(*entries(first=2))], live=live)
    assert sql.value(f"SELECT version FROM sync_live WHERE record_id = {ROWS}") == state.head - 1
    assert sql.value("SELECT COUNT(*) FROM sync_live") == ROWS + 1


def test_a_server_that_refuses_it_is_given_inserts(session: Connection[Any], state: State, sql: SqlClient) -> None:
    sql.run("SET GLOBAL local_infile = OFF")
    try:
        append(session, state, [tx(*entries())])
    finally:
        sql.run("SET GLOBAL local_infile = ON")
    assert not may_load(session)
    assert sql.value("SELECT COUNT(*) FROM sync_changes") == ROWS
