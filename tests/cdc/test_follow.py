"""When the checkpoint moves past what changed nothing: soon for others' transactions, rarely for checkpoints themselves."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from pymysql.connections import Connection

from cdc.follow import PATIENCE_SECONDS_MAX, QUIET_SECONDS_MAX, Follower
from cdc.gtid import Gtid
from cdc.items import Heartbeat, TxBegin, TxEnd
from cdc.lease import take_lease
from cdc.state import read_state
from tests.cdc.conftest import Binlog
from tests.servers import Database

UUID = "22222222-2222-2222-2222-222222222222"
HEARTBEAT = Heartbeat("binlog.000001", 4)


class Clock:
    """Stands still until it is told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("is_checkpoint", "seconds"), [(False, 5), (True, QUIET_SECONDS_MAX)])
def test_a_quiet_transaction_joins_the_checkpoint_after_a_while(
    connection: Connection[Any], database: Database, is_checkpoint: bool, seconds: int
) -> None:
    take_lease(connection, database.name, wait_seconds=0)
    clock, commits = Clock(), itertools.count()

    def appended(*_: Any) -> None:
        next(commits)

    follower = Follower(connection, database.settings, read_state(connection), appended, clock)
    gtid = Gtid.parse(f"{UUID}:1")
    follower.take(TxBegin(gtid, 1, 1, "binlog.000001", 4))
    follower.take(TxEnd(gtid, "binlog.000001", 400, (gtid,), True, is_checkpoint))
    clock.now = seconds - 1
    follower.take(HEARTBEAT)
    assert gtid not in read_state(connection).gtid_set
    clock.now = seconds
    follower.take(HEARTBEAT)
    assert gtid in read_state(connection).gtid_set


@pytest.mark.parametrize(("took", "patience"), [(0.004, 0.008), (3.0, PATIENCE_SECONDS_MAX)])
def test_the_stream_gets_twice_as_long_to_send_more_as_the_batch_before_took_within_bounds(
    connection: Connection[Any], database: Database, took: float, patience: float
) -> None:
    take_lease(connection, database.name, wait_seconds=0)
    clock = Clock()

    def appended(*_: Any) -> None:
        clock.now += took

    follower = Follower(connection, database.settings, read_state(connection), appended, clock)
    assert follower.patient_until <= clock.now, "the first batch goes at once"
    gtid = Gtid.parse(f"{UUID}:1")
    follower.take(TxBegin(gtid, 1, 1, "binlog.000001", 4))
    clock.now = 100.0
    follower.take(TxEnd(gtid, "binlog.000001", 400, (gtid,), True, False))
    assert gtid in read_state(connection).gtid_set
    assert follower.patient_until == pytest.approx(100.0 + took + patience)


def test_a_transaction_that_moves_another_databases_checkpoint_alone_says_so(binlog: Binlog) -> None:
    name = f"{binlog.database}_other"
    binlog.run(
        f"CREATE DATABASE {name}",
        f"CREATE TABLE {name}.sync_state (id INT PRIMARY KEY, head INT)",
        f"CREATE TABLE {name}.sync_changes (id INT PRIMARY KEY)",
        f"INSERT INTO {name}.sync_state VALUES (1, 1)",
    )
    binlog.mark()
    binlog.run(
        f"UPDATE {name}.sync_state SET head = 2",
        "START TRANSACTION",
        f"UPDATE {name}.sync_state SET head = 3",
        f"INSERT INTO {name}.sync_changes VALUES (3)",
        "COMMIT",
        f"INSERT INTO {name}.sync_changes VALUES (4)",
        f"DROP DATABASE {name}",
    )
    ends = [item for item in binlog.items() if isinstance(item, TxEnd)]
    assert [end.is_checkpoint for end in ends] == [True, False, False, False]
