"""Replay: what an administrator took out of the change log comes back byte for byte, or is named."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.books import dump, load, write_every_form, write_exact_edit, write_push
from tests.cli.commands import run, run_json
from tests.servers import Database, Stack
from tests.sql_client import SqlClient


@pytest.fixture(scope="module")
def database(stack: Stack) -> Iterator[Database]:
    """One for the whole file, with a tailer beside it all the time: every test puts back what it takes."""
    with stack.database() as shared:
        config = Path(shared.environ["SYNC_CONFIG"])
        config.write_text(config.read_text() + "tailer_part_changes_max = 100\n")
        tailer = stack.spawn("tail", environ=shared.environ)
        yield shared
        tailer.stop()


@pytest.fixture(scope="module")
def start(database: Database) -> str:
    """A binlog that begins with this file's rows, so that a replay of all of it is short."""
    with SqlClient(database.settings) as sql:
        sql.run("FLUSH BINARY LOGS")
        return f"{sql.rows('SHOW BINARY LOGS')[-1][0]}:4"


@pytest.fixture(scope="module")
def company(database: Database, start: str, tmp_path_factory: pytest.TempPathFactory) -> int:
    assert start
    with SqlClient(database.settings) as sql:
        made = write_every_form(sql, tmp_path_factory.mktemp("loads"))
        sql.run(
            "INSERT INTO products (company_id, name) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 350)"
            f" SELECT {made}, CONCAT('many ', i) FROM n"
        )
        write_push(sql, made, "p-2")
        write_edits(sql, made)
        sql.wait_for_tailer()
    return made


def write_edits(sql: SqlClient, company: int) -> None:
    """A device's own edits, of which the change before each tells whether they are exact."""
    sql.wait_for_tailer()
    newest_party = "SELECT record_id, version FROM sync_live WHERE table_name = 'parties' ORDER BY version DESC"
    party, newest = sql.rows(newest_party)[0]
    write_exact_edit(sql, company, party, "1", held_version=newest - 1)
    write_exact_edit(sql, company, party, "2", held_version=None)
    sql.wait_for_tailer()
    newest = sql.value("SELECT version FROM sync_live WHERE table_name = 'parties' AND record_id = %s", party)
    write_exact_edit(sql, company, party, "3", held_version=newest)
    sql.wait_for_tailer()
    exact = sql.rows("SELECT is_exact FROM sync_changes WHERE record_id = %s AND version >= %s ORDER BY version", party, newest - 1)
    assert exact == [(0,), (1,), (1,)]


@pytest.fixture
def whole(sql: SqlClient, database: Database, company: int, start: str) -> Iterator[dict[str, Any]]:
    """The change log before the test, which must be the same after it."""
    before = dump(sql)
    clean = run(database, "replay", "--from", start, "--dry-run")
    assert clean.exit_code == 0, clean.output[:5000]
    yield before
    after = dump(sql)
    if after != before:
        load(sql, before)
    assert after == before


def summary(database: Database, start: str, *words: str) -> dict[str, Any]:
    return run_json(database, "replay", "--from", start, *words)[-1]


def replayed(database: Database, start: str) -> None:
    """A run that puts everything back; the next one finds nothing."""
    result = run(database, "replay", "--from", start)
    assert result.exit_code == 0, result.output
    again = summary(database, start)
    assert (again["differences"], again["restored"]) == (0, 0)


def test_a_whole_change_log_matches_the_binlog_it_came_from(database: Database, whole: dict[str, Any], start: str) -> None:
    told = summary(database, start, "--dry-run")
    assert told["differences"] == 0
    assert told["changes"] == len(whole["sync_changes"])
    assert told["txs"] == len(whole["sync_tx"])


def test_missing_changes_are_named_by_a_dry_run_and_nothing_is_written(
    database: Database, sql: SqlClient, whole: dict[str, Any], start: str
) -> None:
    gone = [row["version"] for row in whole["sync_changes"] if row["table_name"] == "parties"]
    sql.rows("DELETE FROM sync_changes WHERE table_name = 'parties'")
    left = dump(sql)
    lines = run_json(database, "replay", "--from", start, "--dry-run")
    assert [line["version"] for line in lines[:-1]] == sorted(gone)
    assert {(line["kind"], line["in"], line["restored"]) for line in lines[:-1]} == {("missing", "sync_changes", False)}
    assert run(database, "replay", "--from", start, "--dry-run").exit_code == 3
    assert dump(sql) == left
    replayed(database, start)


def test_everything_comes_back_from_nothing(database: Database, sql: SqlClient, whole: dict[str, Any], start: str) -> None:
    sql.run("DELETE FROM sync_changes", "DELETE FROM sync_tx", "DELETE FROM sync_live")
    assert len(whole["sync_changes"]) > 400
    replayed(database, start)


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_taken_out_comes_back_byte_for_byte(
    seed: int, database: Database, sql: SqlClient, whole: dict[str, Any], start: str
) -> None:
    chance = random.Random(seed)
    share = chance.choice((0.02, 0.2, 0.7))
    for table, key, part in (("sync_changes", "version", share), ("sync_tx", "tx", share), ("sync_live", "version", share / 4)):
        gone = [row[key] for row in whole[table] if chance.random() < part]
        sql.rows(f"DELETE FROM {table} WHERE {key} IN %s", [*gone, 0])
    replayed(database, start)


def test_a_sync_live_row_that_fell_behind_moves_to_the_newest_change(
    database: Database, sql: SqlClient, whole: dict[str, Any], start: str
) -> None:
    newest = sql.rows("SELECT company_id, record_id, version FROM sync_live WHERE table_name = 'products' ORDER BY version")[-1]
    first = sql.value("SELECT MIN(version) FROM sync_changes WHERE table_name = 'settings'")
    sql.rows("UPDATE sync_live SET version = %s WHERE table_name = 'settings' ORDER BY version DESC LIMIT 1", first)
    lines = run_json(database, "replay", "--from", start)
    assert [(line["in"], line["kind"], line["restored"]) for line in lines[:-1]] == [("sync_live", "different", True)]
    assert (
        newest
        == sql.rows("SELECT company_id, record_id, version FROM sync_live WHERE table_name = 'products' ORDER BY version")[-1]
    )


def test_the_last_changes_are_proven_by_the_head(database: Database, sql: SqlClient, whole: dict[str, Any], start: str) -> None:
    head = sql.value("SELECT head FROM sync_state")
    sql.rows("DELETE FROM sync_changes WHERE version > %s", head - 3)
    sql.run("DELETE FROM sync_tx ORDER BY tx DESC LIMIT 2")
    replayed(database, start)


def test_a_changed_column_is_named_and_not_touched(database: Database, sql: SqlClient, whole: dict[str, Any], start: str) -> None:
    row = next(row for row in whole["sync_changes"] if row["table_name"] == "parties")
    sql.rows("UPDATE sync_changes SET data = '{}', timestamp = 'x' WHERE version = %s", row["version"])
    result = run(database, "replay", "--from", start)
    assert result.exit_code == 3
    assert "changed after the tailer wrote it" in result.stdout
    (line,) = run_json(database, "replay", "--from", start)[:-1]
    assert (line["kind"], line["version"], line["restored"]) == ("different", row["version"], False)
    assert line["columns"] == {
        "data": {"stored": "{}", "derived": row["data"]},
        "timestamp": {"stored": "x", "derived": row["timestamp"]},
    }
    sql.rows("UPDATE sync_changes SET data = %s, timestamp = %s WHERE version = %s", row["data"], row["timestamp"], row["version"])


def test_a_column_that_only_the_change_log_knows_is_caught_by_the_chain(
    database: Database, sql: SqlClient, whole: dict[str, Any]
) -> None:
    row = next(row for row in whole["sync_changes"] if row["prev_version"] is not None)
    place = f"{sql.value('SELECT gtid FROM sync_tx WHERE tx = %s', row['tx'])}"
    sql.rows("UPDATE sync_changes SET prev_version = 2 WHERE version = %s", row["version"])
    lines = run_json(database, "replay", "--from", place, "--to", place)
    assert [list(line["columns"]) for line in lines[:-1]] == [["chain"]]
    sql.rows("UPDATE sync_changes SET prev_version = %s WHERE version = %s", row["prev_version"], row["version"])


def test_what_cannot_be_proven_is_not_written(database: Database, sql: SqlClient, whole: dict[str, Any], start: str) -> None:
    """Beside a change that somebody altered, a derived one would be a guess."""
    version = sql.value("SELECT MIN(version) + 5 FROM sync_changes WHERE table_name = 'products'")
    row, after = (next(row for row in whole["sync_changes"] if row["version"] == v) for v in (version, version + 1))
    sql.rows("DELETE FROM sync_changes WHERE version = %s", version)
    sql.rows("UPDATE sync_changes SET chain = REPEAT('x', 32) WHERE version = %s", version + 1)
    result = run(database, "replay", "--from", start)
    assert result.exit_code == 3
    assert f"cannot be restored: the chain hash at version {version + 1} does not fit" in result.stdout
    assert not sql.rows("SELECT 1 FROM sync_changes WHERE version = %s", version)
    sql.rows("UPDATE sync_changes SET chain = %s WHERE version = %s", after["chain"], version + 1)
    replayed(database, start)
    assert row["version"] == version


def test_a_transaction_whose_versions_do_not_add_up_is_not_numbered(
    database: Database, sql: SqlClient, whole: dict[str, Any], start: str
) -> None:
    """Its neighbour claims a version less, and the changes of both are gone: any number for it would be a guess."""
    before = sql.rows("SELECT tx, gtid, last_version FROM sync_tx WHERE last_version > first_version + 2 ORDER BY tx LIMIT 1")[0]
    missing = sql.rows("SELECT tx, gtid, last_version FROM sync_tx WHERE tx = %s", before[0] + 1)[0]
    sql.rows("DELETE FROM sync_changes WHERE version BETWEEN %s AND %s", before[2], missing[2])
    sql.rows("DELETE FROM sync_tx WHERE tx = %s", missing[0])
    sql.rows("UPDATE sync_tx SET last_version = last_version - 1 WHERE tx = %s", before[0])
    assert run(database, "replay", "--from", start).exit_code == 3
    assert not sql.rows("SELECT 1 FROM sync_tx WHERE gtid = %s", missing[1])
    load(sql, whole)


def test_a_stretch_that_cuts_a_gap_says_where_to_begin_and_end(database: Database, sql: SqlClient, whole: dict[str, Any]) -> None:
    first, second, third = sql.rows("SELECT gtid, first_version, last_version FROM sync_tx WHERE first_version > 5 LIMIT 3")
    sql.rows("DELETE FROM sync_changes WHERE version BETWEEN %s AND %s", first[1], third[2])
    lines = run_json(database, "replay", "--from", second[0], "--to", second[0])
    assert all("begin --from earlier" in line["note"] for line in lines[:-1])
    lines = run_json(database, "replay", "--from", first[0], "--to", second[0])
    assert all("choose a later --to" in line["note"] for line in lines[:-1])
    assert run(database, "replay", "--from", first[0], "--to", third[0]).exit_code == 0


def test_a_transaction_that_was_recorded_under_another_name_is_missing_and_extra(
    database: Database, sql: SqlClient, whole: dict[str, Any], start: str
) -> None:
    tx, gtid = sql.rows("SELECT tx, gtid FROM sync_tx WHERE first_version > 5 LIMIT 1")[0]
    uuid = gtid.partition(":")[0]
    sql.rows("UPDATE sync_tx SET gtid = %s WHERE tx = %s", f"{uuid}:999999", tx)
    lines = run_json(database, "replay", "--from", start)
    told = {(line["kind"], line["in"], line["gtid"], line["restored"]) for line in lines[:-1]}
    assert told == {("missing", "sync_tx", gtid, False), ("extra", "sync_tx", f"{uuid}:999999", False)}
    sql.rows("UPDATE sync_tx SET gtid = %s WHERE tx = %s", gtid, tx)


def test_versions_that_no_change_of_the_binlog_fills_are_extra(
    database: Database, sql: SqlClient, whole: dict[str, Any], start: str
) -> None:
    tx, last = sql.rows("SELECT tx, last_version FROM sync_tx WHERE first_version > 5 LIMIT 1")[0]
    sql.rows("UPDATE sync_tx SET last_version = last_version + 1 WHERE tx = %s", tx)
    lines = run_json(database, "replay", "--from", start)
    assert [(line["kind"], line["version"]) for line in lines[:-1]] == [("extra", last + 1)]
    sql.rows("UPDATE sync_tx SET last_version = last_version - 1 WHERE tx = %s", tx)


def test_a_repair_leaves_word_in_the_audit_with_who_and_what(
    database: Database, sql: SqlClient, whole: dict[str, Any], start: str
) -> None:
    version = whole["sync_changes"][3]["version"]
    sql.run("DELETE FROM sync_audit")
    sql.rows("DELETE FROM sync_changes WHERE version = %s", version)
    replayed(database, start)
    rows = sql.rows("SELECT action, actor, details->'$.versions', details->>'$.from' FROM sync_audit ORDER BY id")
    assert [row[0] for row in rows] == ["replay_began", "replay_ended"]
    assert rows[1][2:] == (f"[[{version}, {version}]]", start)
    assert "@" in rows[0][1]


def test_restricted_values_are_masked_unless_asked_for(
    database: Database, sql: SqlClient, whole: dict[str, Any], start: str
) -> None:
    row = next(row for row in whole["sync_changes"] if row["sealed"])
    sql.rows('UPDATE sync_changes SET sealed = \'{"account_number":"666"}\' WHERE version = %s', row["version"])
    hidden = run(database, "replay", "--from", start, "--dry-run").stdout
    told = run(database, "replay", "--from", start, "--dry-run", "--sealed").stdout
    sql.rows("UPDATE sync_changes SET sealed = %s WHERE version = %s", row["sealed"], row["version"])
    assert "666" not in hidden
    assert '"account_number":"42"' not in hidden
    assert "666" in told


def test_a_repair_beside_a_busy_tailer_disturbs_nothing(database: Database, sql: SqlClient, company: int, start: str) -> None:
    head = sql.value("SELECT head FROM sync_state")
    before = sql.rows("SELECT * FROM sync_changes WHERE version <= %s ORDER BY version", head)
    stopped = threading.Event()

    def write() -> None:
        with SqlClient(database.settings) as client:
            while not stopped.is_set():
                client.run(f"UPDATE products SET sale_price = sale_price + 1 WHERE company_id = {company} ORDER BY RAND() LIMIT 5")
                write_push(client, company, f"p-{client.value('SELECT UUID()')}")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(3):
            # But for the companies' rows, which the tailer repeats meanwhile.
            sql.rows("DELETE FROM sync_changes WHERE version <= %s AND table_name <> 'companies' AND RAND() < 0.2", head)
            sql.rows("DELETE FROM sync_live WHERE table_name = 'settings' AND RAND() < 0.5")
            result = run(database, "replay", "--from", start)
            assert result.exit_code == 0, result.output
    finally:
        stopped.set()
        writer.join()
    sql.wait_for_tailer()
    assert summary(database, start, "--dry-run")["differences"] == 0
    assert sql.rows("SELECT * FROM sync_changes WHERE version <= %s ORDER BY version", head) == before


def test_a_second_replay_at_once_is_refused(database: Database, sql: SqlClient, start: str) -> None:
    sql.value("SELECT GET_LOCK(%s, 0)", f"matrix-sync.replay.{database.name}"[:64])
    result = run(database, "replay", "--from", start)
    sql.value("SELECT RELEASE_LOCK(%s)", f"matrix-sync.replay.{database.name}"[:64])
    assert result.exit_code == 1
    assert "another replay is running" in result.stderr


def test_a_wrong_place_is_one_message_with_what_to_do(database: Database) -> None:
    result = run(database, "replay", "--from", "binlog.999999:4")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "the server has no binlog binlog.999999" in result.stderr
    assert run(database, "replay").exit_code == 2
