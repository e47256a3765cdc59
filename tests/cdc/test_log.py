"""Appending to the change log: exactly once, in one commit, under the fencing token (design: "One commit")."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from pymysql.connections import Connection

from cdc.checkpoint import read_start
from cdc.entries import Entry, PendingTx, Redelivery
from cdc.gtid import Gtid, GtidSet
from cdc.lease import take_lease
from cdc.log import LargeTx, append, trim_above_head
from cdc.state import State, read_state
from schema.changes import EXTERNAL, Operation, Origin, OriginKind, RecordChange
from schema.connect import open_connection
from schema.errors import LeaseLost, Standby
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

UUID = "11111111-1111-1111-1111-111111111111"
_numbers = itertools.count(1)


def change(record_id: int, operation: Operation = Operation.UPDATE, *, company: int = 1, data: str = "{}") -> Entry:
    return Entry(RecordChange(company, "parties", record_id, operation, data, None, None, operation is Operation.DELETE))


def tx(*entries: Entry | Redelivery, origin: Origin = EXTERNAL, is_recorded: bool = True) -> PendingTx:
    """A tx with a GTID of its own."""
    number = next(_numbers)
    [gtid] = [Gtid.parse(f"{UUID}:{number}")]
    return PendingTx(
        gtid=gtid, gtids_done=(gtid,), server_id=1, commit_time_us=1_770_000_000_000_000 + number, file="binlog.000001",
        start_pos=number, end_pos=number + 1, origin=origin, statement=None, entries=entries, is_recorded=is_recorded,
    )  # fmt: skip


@pytest.fixture(scope="module")
def database(stack: Stack) -> Iterator[Database]:
    """One for the file; each test begins with an empty log."""
    with stack.database() as shared:
        yield shared


@pytest.fixture(autouse=True)
def an_empty_log(sql: SqlClient) -> None:
    sql.run(
        "DELETE FROM sync_changes",
        "DELETE FROM sync_live",
        "DELETE FROM sync_tx",
        "UPDATE sync_state SET head = 1, tx = 0, gtid_set = '', chain = REPEAT(x'00', 32)",
    )


@pytest.fixture
def state(connection: Connection[Any], database: Database) -> State:
    """The lease taken, nothing appended yet."""
    take_lease(connection, database.name, wait_seconds=0)
    return read_state(connection)


def versions(sql: SqlClient) -> list[int]:
    return [row[0] for row in sql.rows("SELECT version FROM sync_changes ORDER BY version")]


def test_versions_follow_the_head_without_gaps_over_txs_and_batches(
    connection: Connection[Any], state: State, sql: SqlClient
) -> None:
    state = append(connection, state, [tx(change(1), change(2)), tx(), tx(change(3, company=2))])
    state = append(connection, state, [tx(change(1), change(1))])
    assert versions(sql) == [2, 3, 4, 5, 6] and state.head == 6
    assert sql.rows("SELECT first_version, last_version FROM sync_tx ORDER BY tx") == [(2, 3), (None, 3), (4, 4), (5, 6)]
    assert sql.rows("SELECT prev_version FROM sync_changes ORDER BY version") == [(None,), (None,), (None,), (2,), (5,)]
    assert sql.rows("SELECT record_id, version FROM sync_live WHERE company_id = 1 ORDER BY record_id") == [(1, 6), (2, 3)]
    assert read_state(connection) == state
    assert len({row[0] for row in sql.rows("SELECT chain FROM sync_changes")}) == 5


def test_a_tx_without_changes_moves_the_checkpoint_and_nothing_else(
    connection: Connection[Any], state: State, sql: SqlClient
) -> None:
    quiet = tx(is_recorded=False)
    after = append(connection, state, [quiet])
    assert (after.head, after.tx, after.chain) == (state.head, state.tx, state.chain)
    assert after.gtid_set == state.gtid_set.add(quiet.gtid) and read_state(connection).gtid_set == after.gtid_set
    assert versions(sql) == [] and sql.value("SELECT COUNT(*) FROM sync_tx") == 0


def test_a_stale_fencing_token_writes_nothing(connection: Connection[Any], state: State, sql: SqlClient) -> None:
    sql.run("UPDATE sync_state SET fencing_token = fencing_token + 1")
    with pytest.raises(LeaseLost):
        append(connection, state, [tx(change(1))])
    connection.rollback()
    assert versions(sql) == [] and sql.value("SELECT head FROM sync_state") == 1
    assert sql.value("SELECT COUNT(*) FROM sync_live") == 0 == sql.value("SELECT COUNT(*) FROM sync_tx")


def test_a_stale_holder_adds_no_part_of_a_large_tx_and_shows_none(
    connection: Connection[Any], state: State, sql: SqlClient
) -> None:
    large = LargeTx(connection, state)
    large.append_part(tx(change(1)))
    sql.run("UPDATE sync_state SET fencing_token = fencing_token + 1")
    with pytest.raises(LeaseLost):
        large.append_part(tx(change(2)))
    connection.rollback()
    assert versions(sql) == [2]
    with pytest.raises(LeaseLost):
        large.finish(tx(change(3))).commit()
    connection.rollback()
    assert sql.value("SELECT head FROM sync_state") == 1 and sql.value("SELECT COUNT(*) FROM sync_live") == 0


def test_a_stale_holder_trims_nothing_since_what_is_above_its_head_may_be_good(
    connection: Connection[Any], state: State, sql: SqlClient
) -> None:
    append(connection, state, [tx(change(1), change(2))])
    sql.run("UPDATE sync_state SET fencing_token = fencing_token + 1")
    with pytest.raises(LeaseLost):
        trim_above_head(connection, state)
    connection.rollback()
    assert versions(sql) == [2, 3]


def test_only_one_holds_the_lease_and_its_end_frees_it(connection: Connection[Any], state: State, database: Database) -> None:
    with open_connection(database.settings.tailer()) as second:
        with pytest.raises(Standby, match="pid"):
            take_lease(second, database.name, wait_seconds=0)
        connection.close()
        take_lease(second, database.name, wait_seconds=5)
        assert read_state(second).fencing_token == state.fencing_token + 1
    connection.connect()


def test_a_large_tx_is_invisible_until_its_end_and_then_there_at_once(
    connection: Connection[Any], state: State, sql: SqlClient
) -> None:
    state = append(connection, state, [tx(change(1, Operation.INSERT))])
    large = LargeTx(connection, state)
    large.append_part(tx(change(2, Operation.INSERT), change(1)))
    large.append_part(tx(change(1, Operation.DELETE)))
    assert versions(sql) == [2, 3, 4, 5], "rows above the head, where no pull looks"
    assert sql.value("SELECT head FROM sync_state") == 2
    assert sql.rows("SELECT record_id, version FROM sync_live") == [(1, 2)]
    last = tx(change(3, Operation.INSERT))
    state = large.finish(last).commit()
    assert (state.head, sql.value("SELECT head FROM sync_state")) == (6, 6)
    assert sql.rows("SELECT first_version, last_version FROM sync_tx ORDER BY tx DESC LIMIT 1") == [(3, 6)]
    assert sql.rows("SELECT record_id, version, is_deleted FROM sync_live ORDER BY record_id") == [(1, 5, 1), (2, 3, 0), (3, 6, 0)]
    assert sql.rows("SELECT DISTINCT tx FROM sync_changes WHERE version > 2") == [(state.tx,)]
    assert read_state(connection).gtid_set == state.gtid_set == state.gtid_set.add(last.gtid)
    state = append(connection, state, [tx(change(2))])
    assert sql.rows("SELECT prev_version FROM sync_changes WHERE version = 7") == [(3,)]


def test_what_a_crash_left_above_the_head_is_trimmed_and_the_versions_are_given_anew(
    connection: Connection[Any], state: State, sql: SqlClient, database: Database
) -> None:
    state = append(connection, state, [tx(change(1))])
    large = LargeTx(connection, state)
    large.append_part(tx(*(change(number) for number in range(2, 500))))
    connection.close()
    with open_connection(database.settings.tailer()) as successor:
        take_lease(successor, database.name, wait_seconds=5)
        sql.run("UPDATE sync_state SET gtid_set = @@GLOBAL.gtid_executed")
        fresh = read_start(successor, database.settings.tailer())
        assert versions(sql) == [2] and fresh.head == 2
        fresh = append(successor, fresh, [tx(change(9))])
        assert versions(sql) == [2, 3]
        assert trim_above_head(successor, fresh) == 0
    connection.connect()


def test_a_batch_that_mysql_refuses_writes_nothing_of_it(connection: Connection[Any], state: State, sql: SqlClient) -> None:
    bad = change(2)
    bad = bad._replace(change=bad.change._replace(table="x" * 100))
    with pytest.raises(Exception, match=r"(?i)data too long"):
        append(connection, state, [tx(change(1)), tx(bad)])
    connection.rollback()
    assert versions(sql) == [] and read_state(connection) == state


def test_a_tx_that_was_appended_is_refused_a_second_time(connection: Connection[Any], state: State, sql: SqlClient) -> None:
    once = tx(change(1))
    state = append(connection, state, [once])
    with pytest.raises(Exception, match=r"(?i)duplicate"):
        append(connection, state, [once])
    connection.rollback()
    assert versions(sql) == [2]


def test_a_maker_stays_with_the_record_and_an_origin_with_its_tx(connection: Connection[Any], state: State, sql: SqlClient) -> None:
    device = Origin(OriginKind.DEVICE, 7, "till-1")
    made = change(1, Operation.INSERT)._replace(maker=("till-1", "temp_1"), exact_after=0)
    state = append(connection, state, [tx(made, origin=device)])
    append(connection, state, [tx(change(1))])
    rows = sql.rows("SELECT origin, origin_id, origin_device_id, is_exact, device_id, local_id FROM sync_changes ORDER BY version")
    assert rows == [("device", 7, "till-1", 1, "till-1", "temp_1"), ("external", None, None, 0, "till-1", "temp_1")]


@pytest.mark.parametrize(("between", "is_exact"), [(False, 1), (True, 0)])
def test_a_change_is_its_devices_exact_own_only_after_what_that_device_held(
    connection: Connection[Any], state: State, sql: SqlClient, between: bool, is_exact: int
) -> None:
    """Else it would be left out for a device that is yet given what came in between, and stay there."""
    state = append(connection, state, [tx(change(1, Operation.INSERT))])
    held = state.head
    others = [tx(change(1))] if between else []
    own = tx(change(1)._replace(exact_after=held), origin=Origin(OriginKind.DEVICE, 7, "till-1"))
    append(connection, state, [*others, own])
    assert sql.rows("SELECT is_exact FROM sync_changes ORDER BY version DESC LIMIT 1") == [(is_exact,)]


def test_a_redelivery_repeats_the_newest_image_for_one_device_and_supersedes_nothing(
    connection: Connection[Any], state: State, sql: SqlClient
) -> None:
    ask = Redelivery(1, "till-1", "parties", 1)
    nothing = append(connection, state, [tx(ask)])
    assert nothing.head == state.head, "nothing is known of the record yet"
    state = append(connection, nothing, [tx(change(1, data='{"a":1}')), tx(ask), tx(change(1, data='{"a":2}'), ask), tx(ask)])
    rows = sql.rows("SELECT version, for_device, prev_version, data FROM sync_changes ORDER BY version")
    assert rows == [
        (2, None, None, '{"a":1}'), (3, "till-1", 2, '{"a":1}'), (4, None, 2, '{"a":2}'), (5, "till-1", 4, '{"a":2}'),
        (6, "till-1", 4, '{"a":2}'),
    ]  # fmt: skip
    assert sql.rows("SELECT version FROM sync_live") == [(4,)]


@pytest.fixture(params=["", "'", "\\", "\0", '\n\r\x1a"`;-- ', "日本語🍵", "%s %d {}"])
def odd_text(request: pytest.FixtureRequest) -> Iterator[str]:
    yield request.param


def test_any_text_is_stored_as_it_is(connection: Connection[Any], state: State, sql: SqlClient, odd_text: str) -> None:
    append(connection, state, [tx(change(1, data=odd_text))])
    assert sql.value("SELECT data FROM sync_changes") == odd_text


def test_a_checkpoint_holds_gtids_with_gaps(connection: Connection[Any], state: State) -> None:
    first, second, third = tx(), tx(), tx()
    after = append(connection, state, [first, third])
    stored = read_state(connection).gtid_set
    assert stored == after.gtid_set == GtidSet.parse(str(stored))
    assert first.gtid in stored and third.gtid in stored and second.gtid not in stored
