"""Putting rows of the change log back: never above the head, never backwards, never for another transaction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from pymysql.connections import Connection

from cdc.missing_tx import recorded_tx
from cdc.repair import Repair
from cdc.state import read_state
from cdc.stored import LiveRow, TxRow, read_live, read_txs_between
from schema.errors import StartError
from tests.cdc.history import EMPTY, History, change, inserted, tx
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

PARTY = (1, "parties", 1)


@pytest.fixture(scope="module")
def database(stack: Stack) -> Iterator[Database]:
    """One for the file; each test begins with an empty log."""
    with stack.database() as shared:
        yield shared


@pytest.fixture
def log(connection: Connection[Any], sql: SqlClient) -> History:
    """A record that was changed once: versions 2 and 3."""
    sql.run(*EMPTY)
    history = History(connection, read_state(connection), sql)
    history.write(inserted(1))
    history.write(change(1))
    return history


def only_tx(log: History) -> TxRow:
    return read_txs_between(log.connection, 2, 2)[0]


def test_nothing_is_put_back_above_the_head(log: History) -> None:
    """A tailer that goes on appending gives those versions to others."""
    repair = Repair(log.connection, "test", {})
    row = replace(only_tx(log), tx=3, gtid="g", first_version=4, last_version=4)
    with pytest.raises(StartError) as refused:
        repair.restore_tx(row)
    assert refused.value.code == "above_head"
    assert log.sql.value("SELECT COUNT(*) FROM sync_tx") == 2 and log.sql.value("SELECT COUNT(*) FROM sync_audit") == 0


def test_a_record_that_the_tailer_moved_on_stays_where_it_is(log: History) -> None:
    repair = Repair(log.connection, "test", {})
    repair.restore_live({PARTY: LiveRow(2, True, ("till-1", "p"))})
    assert read_live(log.connection, [PARTY]) == {PARTY: LiveRow(3, False, None)}
    log.sql.run("DELETE FROM sync_live")
    repair.restore_live({PARTY: LiveRow(2, False, None)})
    repair.restore_live({PARTY: LiveRow(3, True, ("till-1", "p"))})
    assert read_live(log.connection, [PARTY]) == {PARTY: LiveRow(3, True, ("till-1", "p"))}


def test_a_number_that_was_given_again_is_another_transaction(log: History) -> None:
    recorded = only_tx(log)
    found = tx()._replace(gtid=recorded.gtid, commit_time_us=recorded.commit_time_us)  # type: ignore[arg-type]
    assert recorded_tx([recorded], found) == recorded
    assert recorded_tx([recorded], found._replace(commit_time_us=recorded.commit_time_us + 1)) is None
