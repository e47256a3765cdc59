"""Whether a change log goes on from what was witnessed of it, and where it forks; the ring of points, by random histories."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymysql.connections import Connection

from cdc.announce import Announcer
from cdc.epochs import NewEpoch, begin_epoch
from cdc.gtid import GtidSet
from cdc.past import epoch_needed, find_fork
from cdc.state import State, read_state
from cdc.witness import WitnessKeeper
from schema.errors import LeaseLost
from schema.versions import EMPTY_HEAD, pack
from schema.witness import NEWEST_KEPT, Point, Witness, decode, encode, read_file, thinned, witness_file
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

SECOND_US = 1_000_000


def chain(version: int, past: str = "true") -> bytes:
    return hashlib.sha256(f"{past} {version}".encode()).digest()


def witness(*versions: int, epoch: int = 0, past: str = "true") -> Witness:
    """Seen at these versions, each a second after the one before it."""
    return Witness("log", "uuid", epoch, tuple(Point(v, chain(v, past), v * SECOND_US) for v in versions))


@pytest.fixture(scope="module")
def database(stack: Stack) -> Iterator[Database]:
    """One for the file; each test writes the log it needs."""
    with stack.database() as shared:
        yield shared


class Log:
    """A change log of nothing but versions, hashes and times."""

    def __init__(self, sql: SqlClient, connection: Connection[Any]) -> None:
        self._sql = sql
        self.connection = connection
        sql.run("DELETE FROM sync_changes", "DELETE FROM sync_tx", "DELETE FROM sync_epochs WHERE epoch > 0")

    def holds(self, *versions: int, past: str = "true", newest_us: int | None = None, epoch: int = 0) -> State:
        """Changes of these versions; `newest_us`: when the last was committed."""
        for version in versions:
            self._sql.rows(
                "INSERT INTO sync_changes "
                "(company_id, version, table_name, record_id, operation, data, timestamp, tx, origin, chain) "
                "VALUES (1, %s, 'parties', 1, 'UPDATE', '{}', '', 1, 'external', %s)",
                version,
                chain(version, past),
            )
        head = max(versions, default=EMPTY_HEAD)
        self._sql.rows(
            "INSERT INTO sync_tx (tx, epoch, gtid, server_id, commit_time_us, binlog_file, binlog_pos, origin, last_version) "
            "VALUES (1, 0, 'g', 1, %s, 'f', 4, 'external', %s)",
            newest_us if newest_us is not None else head * SECOND_US,
            head,
        )
        self._sql.rows(
            "UPDATE sync_state SET epoch = %s, head = %s, tx = 1, chain = %s",
            epoch,
            head,
            chain(head, past) if versions else bytes(32),
        )
        return read_state(self.connection)

    def forked(self, epoch: int, fork: int) -> None:
        self._sql.rows("INSERT INTO sync_epochs (epoch, fork, reason) VALUES (%s, %s, 'test')", epoch, fork)


@pytest.fixture
def log(sql: SqlClient, connection: Connection[Any]) -> Log:
    """An empty one."""
    return Log(sql, connection)


def test_a_log_that_goes_on_from_the_witness_is_the_true_one(log: Log) -> None:
    state = log.holds(*range(2, 20))
    for seen in (witness(5, 12), witness(19), witness(), witness(3, 19)):
        assert find_fork(log.connection, state, seen) is None


def test_a_log_behind_the_witness_forks_at_its_head_while_it_has_counted_nothing(log: Log) -> None:
    state = log.holds(*range(2, 11))
    assert find_fork(log.connection, state, witness(4, 8, 14, 20)) == 10


def test_where_it_has_counted_on_it_forks_at_the_newest_point_that_both_have(log: Log) -> None:
    state = log.holds(*range(2, 11), newest_us=99 * SECOND_US)
    assert find_fork(log.connection, state, witness(4, 8, 14, 20)) == 8


def test_another_past_under_the_same_numbers_forks_before_its_first_difference(log: Log) -> None:
    log.holds(*range(2, 8))
    log.connection.rollback()
    log._sql.run("DELETE FROM sync_tx")
    state = log.holds(*range(8, 30), past="other")
    assert find_fork(log.connection, state, witness(3, 6, 9, 20)) == 6
    assert find_fork(log.connection, state, witness(9, 20)) == EMPTY_HEAD


def test_a_change_that_is_not_there_says_nothing(log: Log) -> None:
    state = log.holds(2, 3, 9, 10)
    assert find_fork(log.connection, state, witness(3, 6)) is None
    assert find_fork(log.connection, state, witness(6)) is None


def test_what_is_known_to_be_gone_is_not_found_again(log: Log) -> None:
    state = log.holds(*range(2, 8), pack(1, 1), pack(1, 2), epoch=1)
    log.forked(1, 7)
    assert find_fork(log.connection, state, witness(6, 12, 30)) is None
    assert find_fork(log.connection, state, witness(6, 12, 30, pack(1, 1), epoch=1)) is None


def test_a_new_epoch_is_above_every_one_that_anybody_saw(log: Log) -> None:
    state = log.holds(*range(2, 8))
    new = epoch_needed(log.connection, state, [witness(4), witness(6, 12, pack(3, 5), epoch=3), witness(7)])
    assert new is not None and (new.epoch, new.fork) == (4, 7)
    assert epoch_needed(log.connection, state, [witness(4), witness(7)]) is None


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=400), st.data())
def test_of_any_history_a_few_points_are_kept_near_everywhere(steps: list[int], data: st.DataObject) -> None:
    points: tuple[Point, ...] = ()
    versions = []
    version = 1
    for step in steps:
        version += step
        versions.append(version)
        points = thinned((*points, Point(version, b"", version)))
    assert list(points) == sorted(set(points)) and len(points) <= NEWEST_KEPT + 64
    assert [p.version for p in points[-NEWEST_KEPT:]] == versions[-NEWEST_KEPT:]
    fork = data.draw(st.sampled_from(versions))
    found = max((p.version for p in points if p.version <= fork), default=versions[0])
    assert version - found <= 4 * (version - fork) + 4 * max(steps) or found == versions[0]


@given(st.binary(max_size=200))
def test_what_is_no_witness_is_none(text: bytes) -> None:
    assert decode(text) is None


def test_the_file_is_written_while_the_head_moves_and_left_alone_after(database: Database, tmp_path: Path) -> None:
    settings = replace(database.settings, state_dir=str(tmp_path / "new" / "state"), redis_url="")
    keeper = WitnessKeeper(settings, "db", Announcer(settings, database="db"))
    state = State(0, 7, 1, GtidSet(), None, None, "uuid", 1, chain(7))
    assert keeper.begin("log", state, 7, []) is True
    assert read_file(settings, "db") == Witness("log", "uuid", 0, (Point(7, chain(7), 7),))
    for version in range(8, 500):
        keeper.note(replace(state, head=version, chain=chain(version)), version)
    keeper.close()
    found = read_file(settings, "db")
    assert found is not None and found.head == 499 and found == decode(encode(found))
    assert [path.name for path in witness_file(settings, "db").parent.iterdir()] == ["db.witness"]


def test_a_directory_that_cannot_be_written_is_told_and_stops_nothing(database: Database, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = replace(database.settings, state_dir=str(tmp_path / "file" / "state"), redis_url="")
    keeper = WitnessKeeper(settings, "db", Announcer(settings, database="db"))
    state = State(0, 7, 1, GtidSet(), None, None, "uuid", 1, chain(7))
    assert keeper.begin("log", state, 7, []) is False
    keeper.note(replace(state, head=8, chain=chain(8)), 8)
    keeper.close()


def test_of_several_witnesses_the_oldest_fork_counts(log: Log) -> None:
    """Each tells of a loss: what one of them has seen differently is not true any more."""
    state = log.holds(*range(2, 11), newest_us=99 * SECOND_US)
    new = epoch_needed(log.connection, state, [witness(4, 8, 14), witness(4, 6, 20), witness(9, 30)])
    assert new is not None and new.fork == 6


def test_a_stale_holder_begins_no_epoch(log: Log) -> None:
    state = log.holds(2, 3)
    log._sql.run("UPDATE sync_state SET fencing_token = fencing_token + 1")
    with pytest.raises(LeaseLost):
        begin_epoch(log.connection, state, NewEpoch(1, 3, "test", is_past_lost=True), "tailer", {})
    log.connection.rollback()
    assert log._sql.rows("SELECT epoch, head FROM sync_state") == [(0, 3)]


def test_a_witness_in_redis_is_believed_by_its_own_log_alone(database: Database, tmp_path: Path) -> None:
    settings = replace(database.settings, state_dir=str(tmp_path))
    announcer = Announcer(settings, database="shared")
    assert announcer.store_witness(encode(witness(5, 9)))
    keeper = WitnessKeeper(settings, "shared", announcer)
    assert keeper.read("log") == [witness(5, 9)]
    assert keeper.read("another log") == []


def test_who_reads_the_file_while_it_is_written_finds_it_whole(database: Database, tmp_path: Path) -> None:
    settings = replace(database.settings, state_dir=str(tmp_path), redis_url="")
    keeper = WitnessKeeper(settings, "db", Announcer(settings, database="db"))
    state = State(0, 7, 1, GtidSet(), None, None, "uuid", 1, chain(7))
    keeper.begin("log", state, 7, [])
    with witness_file(settings, "db").open("rb") as reader:
        keeper.note(replace(state, head=8, chain=chain(8)), 8)
        keeper.close()
        found = decode(reader.read())
    assert found is not None and found.head == 7, "the old one, which is whole, until the new one is"
    newer = read_file(settings, "db")
    assert newer is not None and newer.head == 8
