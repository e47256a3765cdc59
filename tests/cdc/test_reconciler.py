"""The reconciler by itself, told by the test what the stream would tell it: which rows it may mend, and when it must not."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from pymysql.connections import Connection

from cdc.decode import RowChange
from cdc.items import Changes, Rows
from cdc.reconcile import RUNS, WATERMARKS, Reconciler
from cdc.runs import RunKind, RunState, end_run, read_open_run, read_run, request_run
from schema.changes import Operation, RecordChange
from schema.connect import open_connection
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

NAMES: Any = SimpleNamespace(index={"id": 0, "run": 0})


@pytest.fixture(scope="module")
def database(stack: Stack) -> Iterator[Database]:
    """One for the file; no tailer runs, so the change log knows no row."""
    with stack.database() as shared:
        yield shared


class Clock:
    """Stands still until it is told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Hand:
    """A reconciler with a run over two new parties, and the rows events that it is shown."""

    def __init__(self, database: Database, connection: Connection[Any], sql: SqlClient) -> None:
        self._database = database
        self._sql = sql
        self.clock = Clock()
        self.reconciler = Reconciler(connection, database.settings, self.clock)
        sql.run("DELETE FROM parties", "DELETE FROM sync_watermarks", "UPDATE sync_reconcile_runs SET is_open = NULL")
        company = sql.company()
        self.first, self.second = (sql.run(f"INSERT INTO parties (company_id, name) VALUES ({company}, '{n}')") for n in "ab")

    def begin(self) -> None:
        """Ask for a run, and read its first range."""
        with open_connection(self._database.settings.operator()) as operator:
            request_run(operator, RunKind.RECONCILE, ["parties"], "test")
        self.reconciler.start()

    def pass_by(self, table: str, *ids: Any) -> None:
        """One event that inserts rows of these ids."""
        if table in (WATERMARKS, RUNS):
            self.reconciler.note(Rows(table, NAMES, None, [RowChange("insert", None, (number,)) for number in ids]))
        else:
            changes = [RecordChange(1, table, number, Operation.INSERT, "{}", None, None, False) for number in ids]
            self.reconciler.note_changes(Changes(table, None, changes))

    @property
    def watermarks(self) -> tuple[int, int]:
        """Ids of the newest low and high one."""
        low, high = self._sql.rows("SELECT MAX(IF(kind = 'low', id, 0)), MAX(IF(kind = 'high', id, 0)) FROM sync_watermarks")[0]
        return low, high

    def mend(self) -> set[int]:
        """Which records the run would tell of."""
        assert self.reconciler.is_complete
        return {entry.change.record_id for entry in self.reconciler.mend(1).entries}


@pytest.fixture
def hand(database: Database, connection: Connection[Any], sql: SqlClient) -> Iterator[Hand]:
    made = Hand(database, connection, sql)
    yield made
    made.reconciler.close()


def test_a_row_that_is_written_between_the_watermarks_is_left_to_its_event(hand: Hand) -> None:
    hand.begin()
    low, high = hand.watermarks
    hand.pass_by("parties", hand.second)  # before the range was read: the SELECT has seen it
    hand.pass_by(WATERMARKS, low)
    hand.pass_by("parties", hand.first)
    hand.pass_by(WATERMARKS, high)
    assert hand.mend() == {hand.second}


def test_a_range_in_which_too_much_is_written_is_read_again(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cdc.reconcile.TOUCHED_MAX", 0)
    hand.begin()
    low, high = hand.watermarks
    hand.pass_by(WATERMARKS, low)
    hand.pass_by("parties", hand.first)
    hand.pass_by("parties", hand.second)
    hand.pass_by(WATERMARKS, high)
    assert hand.mend() == set(), "not all rows that were written are known"
    hand.reconciler.start()
    again = hand.watermarks
    assert again > (low, high)
    for number in again:
        hand.pass_by(WATERMARKS, number)
    assert hand.mend() == {hand.first, hand.second}


def test_watermarks_of_another_tailer_end_no_range(hand: Hand) -> None:
    """One that was killed left its own in the binlog, of the same run and range."""
    hand.begin()
    low, high = hand.watermarks
    hand.pass_by(WATERMARKS, low - 1)
    hand.pass_by(WATERMARKS, high + 1)
    assert not hand.reconciler.is_complete
    hand.pass_by(WATERMARKS, low)
    hand.pass_by(WATERMARKS, high + 2)
    assert not hand.reconciler.is_complete
    hand.pass_by("parties", hand.first)
    hand.pass_by(WATERMARKS, high)
    assert hand.mend() == {hand.second}


def test_a_run_that_is_announced_before_it_is_visible_is_not_forgotten(hand: Hand) -> None:
    """Its event comes by as soon as it is in the binlog; its COMMIT may take a moment longer."""
    hand.reconciler.start()
    assert not hand.reconciler.is_due, "nothing was asked for"
    hand.pass_by(RUNS, b"not visible yet!")
    assert hand.reconciler.is_due
    hand.reconciler.start()
    hand.clock.now += 1
    assert hand.reconciler.is_due


def test_a_run_that_has_ended_stays_as_it_ended(hand: Hand, connection: Connection[Any]) -> None:
    hand.begin()
    run = read_open_run(connection)
    assert run is not None
    assert end_run(connection, run, RunState.CANCELLED, "operator")
    assert not end_run(connection, run, RunState.DONE, "tailer"), "the tailer was in the middle of its last range"
    connection.commit()
    ended = read_run(connection, run.run)
    assert ended is not None and ended.state is RunState.CANCELLED
