"""Retention: old history goes, what anybody may still ask for stays; the floors say which is which (contract §2.7, faults G2)."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pymysql
import pytest
from pymysql.connections import Connection

from cdc.as_of import begin_past, read_past
from cdc.chain_check import ChainCheck
from cdc.idle import IdleWork
from cdc.lease import take_lease
from cdc.retention import Cutoffs, Retention, read_cutoffs
from cdc.state import read_state
from schema.changes import Origin, OriginKind
from schema.connect import open_connection
from schema.errors import LeaseLost, StartError
from tests.cdc.history import EMPTY, FIRST_US, History, again, change, deleted, inserted
from tests.cli.commands import run, run_json
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

EVER = 1 << 52


@pytest.fixture(scope="module")
def database(stack: Stack) -> Iterator[Database]:
    """One for the file; each test begins with an empty log."""
    with stack.database() as shared:
        yield shared


@pytest.fixture
def log(connection: Connection[Any], database: Database, sql: SqlClient) -> History:
    sql.run(*EMPTY)
    take_lease(connection, database.name, wait_seconds=0)
    return History(connection, read_state(connection), sql)


def prune(log: History, images: int, tombstones: int = 0, **more: Any) -> Retention:
    """Prune up to these versions, until nothing is left to do."""
    done = Retention(log.connection, Cutoffs(images, tombstones), **more)
    while done.step():
        pass
    return done


def floors(sql: SqlClient) -> tuple[int, int]:
    """images_from and min_version."""
    return sql.rows("SELECT images_from, min_version FROM sync_retention JOIN sync_state ON sync_state.id = 1")[0]


def findings(log: History) -> list[Any]:
    return list(ChainCheck(log.connection).run())


def rows_at(log: History, version: int) -> dict[int, str]:
    begin_past(log.connection, str(version))
    found = {
        image.record_id: image.data for image in read_past(log.connection, 1, "parties", version) if image.operation != "DELETE"
    }
    log.connection.rollback()
    return found


def test_an_image_goes_when_what_superseded_it_is_old_and_the_newest_stays(log: History, sql: SqlClient) -> None:
    log.write(inserted(1), inserted(2))  # 2, 3
    log.write(change(1))  # 4
    log.write(change(1))  # 5
    log.write(change(2))  # 6
    done = prune(log, 5)
    assert log.versions == [3, 5, 6], "3 is older than the cutoff, but was the row of 2 until 6"
    assert (done.counts.images, done.counts.tombstones, floors(sql)) == (2, 0, (5, 1))
    assert prune(log, 6).counts.images == 1
    assert (log.versions, floors(sql)) == ([5, 6], (6, 1))
    assert findings(log) == []


def test_a_tombstone_takes_along_what_was_known_of_the_record_and_raises_the_floor(log: History, sql: SqlClient) -> None:
    log.write(inserted(1), inserted(2), inserted(3))  # 2, 3, 4
    log.write(deleted(1))  # 5
    log.write(change(3))  # 6
    log.write(deleted(2))  # 7
    done = prune(log, 7, 6)
    assert (log.versions, done.counts.tombstones, done.counts.min_version) == ([6, 7], 1, 5)
    assert sql.rows("SELECT record_id FROM sync_live ORDER BY record_id") == [(2,), (3,)]
    assert floors(sql) == (7, 5), "a cursor of 5 has been given the deletion; one of 4 has not"
    assert findings(log) == []


def test_tombstones_never_go_before_the_history_before_them(log: History, sql: SqlClient) -> None:
    log.write(inserted(1))
    log.write(deleted(1))
    assert prune(log, 0, 3).counts.is_empty
    assert prune(log, 2, 3).counts.is_empty
    assert prune(log, 3, 3).counts.tombstones == 1
    assert (log.versions, sql.value("SELECT COUNT(*) FROM sync_live"), floors(sql)) == ([], 0, (3, 3))
    assert findings(log) == [], "even where nothing is left at all"
    log.write(inserted(2))
    assert findings(log) == []


def test_a_record_that_came_back_is_not_taken_for_deleted(log: History) -> None:
    log.write(inserted(1))
    log.write(deleted(1))
    log.write(inserted(1))
    prune(log, EVER, EVER)
    assert log.versions == [4]


def test_a_void_redelivery_goes_by_itself_and_one_that_counts_raises_the_floor(log: History, sql: SqlClient) -> None:
    sql.run(
        *(
            f"INSERT INTO sync_redeliveries (company_id, device_id, table_name, record_id) VALUES (1, 'a', 'parties', {n})"
            for n in (1, 2)
        )
    )
    log.write(inserted(1), inserted(2))  # 2, 3
    log.write(again(1, "a"), again(2, "a"))  # 4, 5
    log.write(change(1))  # 6
    done = prune(log, 6, 0)
    assert (log.versions, done.counts.redeliveries, floors(sql)) == ([3, 5, 6], 1, (6, 1))
    assert sql.rows("SELECT record_id FROM sync_redeliveries") == [(2,)]
    done = prune(log, 6, 6)
    assert (log.versions, done.counts.redeliveries, floors(sql)) == ([3, 6], 1, (6, 5))
    assert findings(log) == []


def test_a_deletion_that_a_device_asked_for_again_stays(log: History, sql: SqlClient) -> None:
    sql.run("INSERT INTO sync_redeliveries (company_id, device_id, table_name, record_id) VALUES (1, 'a', 'parties', 1)")
    log.write(inserted(1))
    log.write(deleted(1))
    log.write(again(1, "a"))
    prune(log, 4, 3)
    assert log.versions == [3, 4], "its redelivery repeats it, for a device that may be anywhere before"


def test_a_stale_holder_prunes_nothing(log: History, sql: SqlClient) -> None:
    log.write(inserted(1))
    log.write(change(1))
    with pytest.raises(LeaseLost):
        prune(log, 3, fencing_token=log.state.fencing_token - 1)
    assert (log.versions, floors(sql)) == ([2, 3], (1, 1))
    prune(log, 3, fencing_token=log.state.fencing_token)
    assert log.versions == [3]


def test_two_that_prune_at_once_take_turns(log: History, database: Database) -> None:
    log.write(inserted(1))
    log.write(change(1))
    with open_connection(database.settings.operator()) as other, other.cursor() as cursor:
        cursor.execute("SELECT * FROM sync_retention FOR UPDATE")
        with pytest.raises(pymysql.err.OperationalError, match="NOWAIT"):
            prune(log, 3)
        other.rollback()
    prune(log, 3)
    assert log.versions == [3]


def test_a_change_that_somebody_altered_is_kept_as_evidence_until_it_is_forced(log: History, sql: SqlClient) -> None:
    for _ in range(4):
        log.write(change(1))
    sql.run("UPDATE sync_changes SET data = '{}' WHERE version = 3")
    with pytest.raises(StartError, match="version 3 is not pruned") as refused:
        prune(log, 5)
    assert refused.value.code == "chain_broken" and log.versions == [2, 3, 4, 5]
    assert prune(log, 5, is_forced=True).counts.images == 3
    assert (log.versions, findings(log)) == ([5], [])


def test_a_dry_run_counts_and_writes_nothing(log: History, sql: SqlClient) -> None:
    log.write(inserted(1), inserted(2))
    log.write(change(1), deleted(2))
    done = prune(log, EVER, EVER, is_dry=True)
    assert (done.counts.images, done.counts.tombstones, done.counts.min_version) == (2, 1, 5)
    assert (log.versions, floors(sql)) == ([2, 3, 4, 5], (1, 1))


def test_ages_mean_the_last_version_committed_by_then(log: History) -> None:
    log.write(inserted(1))
    head = log.write(inserted(2))
    (at,) = log.sql.rows("SELECT MAX(commit_time_us) FROM sync_tx")[0]
    assert read_cutoffs(log.connection, history_before_us=at, tombstones_before_us=at - 1) == Cutoffs(head, head - 1)
    assert read_cutoffs(log.connection, history_before_us=None, tombstones_before_us=at) == Cutoffs(0, 0)
    assert read_cutoffs(log.connection, history_before_us=FIRST_US - 1, tombstones_before_us=None) == Cutoffs(0, 0)


@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_pruned_every_state_since_the_floor_can_be_told(seed: int, log: History, sql: SqlClient) -> None:
    chance = random.Random(seed)
    for number in range(60):
        live = set(log.rows_at(log.state.head))
        entries = []
        for record_id in chance.sample(range(1, number + 4), chance.randint(1, 3)):
            if record_id in live:
                entries.append(deleted(record_id) if chance.random() < 0.4 else change(record_id))
            else:
                entries.append(inserted(record_id))
        log.write(*entries)
        if chance.random() < 0.2:
            images = chance.randint(1, log.state.head)
            prune(log, images, chance.randint(0, images))
    images_from, min_version = floors(sql)
    assert 1 < min_version <= images_from, "the seeds do prune"
    for version in range(images_from, log.state.head + 1):
        assert rows_at(log, version) == log.rows_at(version)
    for cursor in range(min_version, log.state.head + 1):
        newest = {record: (at, data) for at, record, data in log.images if at > cursor}
        rows = sql.rows("SELECT record_id, version, operation, data FROM sync_changes WHERE version > %s ORDER BY version", cursor)
        given = {record: (version, None if operation == "DELETE" else data) for record, version, operation, data in rows}
        assert given == newest, "a cursor at or above the floor misses nothing"
    assert findings(log) == []


def origin(sql: SqlClient, status: str, record_id: int | None, *, is_maker: bool = False, fingerprint: str = "") -> Origin:
    """A push of device `a`, as the API writes it before its rows."""
    number = sql.run("INSERT INTO sync_origins (kind, company_id, device_id, request_id) VALUES ('device', 1, 'a', 'r')")
    sql.rows(
        "INSERT INTO sync_pushed (origin_id, seq, company_id, device_id, table_name, record_id, operation, payload, status, "
        "fingerprint, is_change, is_exact, is_maker) VALUES (%s, 0, 1, 'a', 'parties', %s, 'UPDATE', '{}', %s, %s, 1, 1, %s)",
        number, record_id, status, fingerprint, is_maker,
    )  # fmt: skip
    return Origin(OriginKind.DEVICE, number, "a")


def test_pushes_and_transactions_go_when_nothing_can_ask_for_them(log: History, sql: SqlClient) -> None:
    log.write(inserted(1), origin=origin(sql, "applied", 1, is_maker=True))  # 2: its INSERT may come again
    log.write(change(1), origin=origin(sql, "applied", 1))  # 3
    log.write(change(1), origin=origin(sql, "merged", 1))  # 4: a person may ask what became of it
    log.write(origin=origin(sql, "conflict", 1))
    log.write(origin=origin(sql, "noop", 1))
    log.write(origin=origin(sql, "rejected", 1, fingerprint="mended"))
    log.write(origin=origin(sql, "noop", 1, fingerprint="mended"))  # says that the one before does not wait any more
    log.write(change(1), origin=origin(sql, "applied", 1))  # 5: newer than the cutoff
    log.write(change(1))  # 6
    done = prune(log, 4, 4)
    assert (done.counts.images, done.counts.pushes, done.counts.txs) == (2, 2, 2)
    assert sql.rows("SELECT status, is_maker FROM sync_pushed ORDER BY id") == [
        ("applied", 1), ("merged", 0), ("conflict", 0), ("rejected", 0), ("noop", 0), ("applied", 0)
    ]  # fmt: skip
    assert sql.value("SELECT COUNT(*) FROM sync_origins") == 6
    assert [row[0] for row in sql.rows("SELECT COALESCE(first_version, 0) FROM sync_tx ORDER BY tx")] == [2, 4, 0, 0, 0, 5, 6]
    log.write(deleted(1))  # 7
    log.write(inserted(2))  # 8
    prune(log, 8, 8)
    assert sql.rows("SELECT status FROM sync_pushed ORDER BY id") == [("merged",), ("conflict",), ("rejected",), ("noop",)], (
        "the record is gone for ever"
    )
    assert [row[0] for row in sql.rows("SELECT COALESCE(first_version, 0) FROM sync_tx ORDER BY tx")] == [4, 0, 0, 0, 8]


def test_the_idle_tailer_prunes_a_little_at_a_time_and_then_rests(
    log: History, sql: SqlClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdc.retention.CHANGES_PER_COMMIT", 2)
    for _ in range(5):
        log.write(change(1))
    now = [0.0]
    settings = replace(database.settings, retention_history_days=1, retention_interval_seconds=100)
    later_us = FIRST_US + 400 * 24 * 3600 * 1_000_000
    work = IdleWork(log.connection, settings, log.state.fencing_token, clock=lambda: now[0], now_us=lambda: later_us)
    work.take_turn()
    assert log.versions == [3, 4, 5, 6], "one commit a turn"
    for _ in range(5):
        now[0] += 1
        work.take_turn()
    assert log.versions == [6]
    before = sql.value("SELECT @@GLOBAL.gtid_executed")
    for seconds in (50, 100, 100):
        now[0] += seconds
        work.take_turn()
    assert sql.value("SELECT @@GLOBAL.gtid_executed") == before, "an idle system does not write for ever"


def test_the_tailer_prunes_by_itself_and_replay_takes_nothing_pruned_for_missing(stack: Stack) -> None:
    with stack.database() as database, SqlClient(database.settings) as sql:
        sql.run("FLUSH BINARY LOGS")
        start = f"{sql.rows('SHOW BINARY LOGS')[-1][0]}:4"
        environ = {**database.environ, "SYNC_RETENTION_INTERVAL_SECONDS": "1", "SYNC_TAILER_HEARTBEAT_SECONDS": "1"}
        tailer = stack.spawn("tail", environ=environ)
        company = sql.company()
        party, other = (sql.run(f"INSERT INTO parties (company_id, name) VALUES ({company}, '{name}')") for name in "ab")
        for number in range(5):
            sql.run(f"UPDATE parties SET name = 'n{number}' WHERE id = {party}")
        sql.run(f"DELETE FROM parties WHERE id = {other}")
        sql.wait_for_tailer()
        sql.run("UPDATE sync_tx SET commit_time_us = commit_time_us - 200 * 86400 * 1000000")
        sql.run(f"UPDATE parties SET name = 'last' WHERE id = {party}")
        head = sql.wait_for_tailer()
        for _ in range(400):
            if '"event":"pruned"' in tailer.output():
                break
            sql.value("SELECT SLEEP(0.05)")
        tailer.stop()
        kept = versions(sql)
        assert len(kept) == 4 and kept[-1] == head, tailer.output()
        long_ago = "commit_time_us < UNIX_TIMESTAMP() * 1000000 - 86400000000"
        sql.run(f"UPDATE sync_tx SET commit_time_us = commit_time_us + 200 * 86400 * 1000000 WHERE {long_ago}")
        result = run(database, "replay", "--from", start, "--dry-run")
        assert result.exit_code == 0, result.output
        told = run_json(database, "verify", "--chain")[-1]
        assert (told["findings"], told["changes"], told["pruned"]) == (0, 4, head - 1 - 4)
        assert "was pruned by retention" in run(database, "explain", "parties", str(party)).stdout
        sql.rows("DELETE FROM sync_changes WHERE version = %s", kept[1])
        result = run(database, "replay", "--from", start)
        assert result.exit_code == 0, result.output
        assert versions(sql) == kept, "what was not pruned is put back between what was"
        assert run(database, "retention", "--older-than", "0s", "--tombstones-older-than", "0s").exit_code == 0
        assert versions(sql) == [kept[0], head]
        result = run(database, "replay", "--from", start)
        assert result.exit_code == 0 and "no differences" in result.output, result.output
        assert versions(sql) == [kept[0], head]


def versions(sql: SqlClient) -> list[int]:
    return [row[0] for row in sql.rows("SELECT version FROM sync_changes ORDER BY version")]


def test_the_command_prunes_by_age_and_leaves_word(log: History, sql: SqlClient, database: Database) -> None:
    log.write(inserted(1), inserted(2))
    log.write(change(1), deleted(2))
    (dry,) = run_json(database, "retention", "--older-than", "0s", "--tombstones-older-than", "0s", "--dry-run")
    assert (dry["dry_run"], dry["images"], dry["tombstones"], dry["min_version"]) == (True, 2, 1, 5)
    assert run_json(database, "retention")[0]["images"] == 0, "nothing is 90 days old"
    result = run(database, "retention", "--older-than", "0s")
    assert result.stdout.startswith("pruned: 2 images, 0 tombstones") and log.versions == [4, 5]
    result = run(database, "retention", "--older-than", "0s", "--tombstones-older-than", "0s")
    assert "min_version 5: devices with an older cursor start again" in result.stdout and log.versions == [4]
    assert sql.value("SELECT COUNT(*) FROM sync_audit WHERE action = 'pruned'") == 2
    assert run(database, "retention", "--older-than", "soon").exit_code == 2


def test_a_deletion_that_another_change_followed_is_no_tombstone(log: History) -> None:
    log.write(inserted(1))  # 2
    log.write(deleted(1))  # 3
    log.write(inserted(1))  # 4
    assert prune(log, 3, 3).counts.tombstones == 0
    assert log.versions == [3, 4], "3 says what was until 4, which is newer than the cutoff"


def test_a_transaction_stays_as_long_as_one_of_its_changes(log: History, sql: SqlClient) -> None:
    log.write(inserted(1), inserted(2))  # 2, 3
    log.write(change(1))  # 4
    log.write(change(1))  # 5
    assert prune(log, 5, 5).counts.txs == 1
    assert log.versions == [3, 5]
    assert [row[0] for row in sql.rows("SELECT first_version FROM sync_tx ORDER BY tx")] == [2, 5], "3 is still of the first"


def test_the_newest_transaction_stays_though_it_is_empty(log: History, sql: SqlClient) -> None:
    """The next one's number follows from it."""
    log.write(inserted(1))
    log.write()
    prune(log, 2, 2)
    assert [row[0] for row in sql.rows("SELECT tx FROM sync_tx ORDER BY tx")] == [1, 2]
    log.write()
    prune(log, 2, 2)
    assert [row[0] for row in sql.rows("SELECT tx FROM sync_tx ORDER BY tx")] == [1, 3]


def test_the_idle_tailer_rests_after_each_piece_of_work(log: History, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at the clock takes a second here: a piece of work of two is followed by a rest of ten."""
    monkeypatch.setattr("cdc.retention.CHANGES_PER_COMMIT", 2)
    for _ in range(8):
        log.write(change(1))
    seconds = itertools.count()
    settings = replace(database.settings, retention_history_days=1)
    later_us = FIRST_US + 400 * 24 * 3600 * 1_000_000
    work = IdleWork(log.connection, settings, log.state.fencing_token, clock=lambda: float(next(seconds)), now_us=lambda: later_us)
    left = []
    for _ in range(12):
        work.take_turn()
        left.append(len(log.versions))
    assert left == [7] * 10 + [5] * 2
