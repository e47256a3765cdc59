"""The chain over the change log: whatever somebody did to it is found, and named by its first version (faults S36)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis
from pymysql.connections import Connection

from cdc.announce import Announcer
from cdc.chain_check import Anchor, ChainCheck, Finding, Tampering
from cdc.lease import take_lease
from cdc.past import read_log_id
from cdc.retention import Cutoffs, Retention
from cdc.state import read_state
from cdc.stored import read_changes
from cdc.witness import WitnessKeeper
from schema.errors import StartError
from schema.versions import pack
from schema.witness import witness_file, witness_key
from tests.cdc.history import EMPTY, History, change, deleted, inserted
from tests.cli.commands import run, run_json
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

CONTENT = "table_name, record_id, operation, data, sealed, `before`, timestamp, tx, origin, prev_version"


@pytest.fixture(scope="module")
def database(stack: Stack) -> Iterator[Database]:
    """One for the file; each test begins with an empty log."""
    with stack.database() as shared:
        yield shared


@pytest.fixture
def log(connection: Connection[Any], database: Database, sql: SqlClient) -> History:
    """Ten records, written four times each: versions 2 to 41."""
    sql.run(*EMPTY)
    take_lease(connection, database.name, wait_seconds=0)
    made = History(connection, read_state(connection), sql)
    made.write(*(inserted(record) for record in range(1, 11)))
    for _ in range(3):
        made.write(*(change(record) for record in range(1, 11)))
    return made


def check(log: History, *anchors: Anchor) -> list[Finding]:
    log.connection.rollback()
    return list(ChainCheck(log.connection, anchors).run())


def found(log: History, *anchors: Anchor) -> list[tuple[str, int, int]]:
    return [(finding.kind.value, finding.first, finding.last) for finding in check(log, *anchors)]


def anchor(log: History) -> Anchor:
    log.connection.rollback()
    done = ChainCheck(log.connection)
    assert list(done.run()) == []
    assert done.summary.head is not None
    return Anchor.parse(str(done.summary.head))


def rewrite_from(log: History, version: int) -> None:
    """What somebody does who knows how the hashes are made: all of them again, up to the head."""
    chain = read_changes(log.connection, version - 1, version - 1)[version - 1].chain
    for at in range(version, log.state.head + 1):
        log.connection.rollback()
        stored = read_changes(log.connection, at, at).get(at)
        if stored is not None:
            chain = stored.row.chained(chain)
            log.sql.rows("UPDATE sync_changes SET chain = %s WHERE version = %s", chain, at)
    log.sql.rows("UPDATE sync_state SET chain = %s", chain)


def swap(sql: SqlClient, one: int, other: int, columns: str) -> None:
    names = [name.strip() for name in columns.split(",")]
    rows = [sql.rows(f"SELECT {columns} FROM sync_changes WHERE version = %s", version)[0] for version in (one, other)]
    for version, values in zip((other, one), rows, strict=True):
        sql.rows(f"UPDATE sync_changes SET {', '.join(f'{name} = %s' for name in names)} WHERE version = %s", *values, version)


def test_a_log_that_nobody_touched_fits(log: History) -> None:
    assert found(log) == []
    assert anchor(log).version == log.state.head


@pytest.mark.parametrize(
    "column",
    ["data", "timestamp", "operation", "origin", "record_id", "company_id", "tx", "prev_version", "local_id", "is_exact", "chain"],
)
def test_an_edit_of_any_column_is_found(column: str, log: History, sql: SqlClient) -> None:
    value = {"operation": "'DELETE'", "origin": "'api'", "chain": "REPEAT('x', 32)", "company_id": "2"}.get(column, "1")
    sql.run(f"UPDATE sync_changes SET {column} = {value} WHERE version = 20")
    kinds = found(log)
    assert kinds[0] == ("edited", 20, 20)
    assert len(kinds) == (2 if column == "chain" else 1), "what follows fits again"


def test_an_edit_with_its_hash_made_again_is_found_at_the_next_change(log: History, sql: SqlClient) -> None:
    sql.run("UPDATE sync_changes SET data = '{}' WHERE version = 20")
    before, stored = (read_changes(log.connection, version, version)[version] for version in (19, 20))
    sql.rows("UPDATE sync_changes SET chain = %s WHERE version = 20", stored.row.chained(before.chain))
    assert found(log) == [("edited", 21, 21)]


@pytest.mark.parametrize(("first", "last"), [(2, 2), (2, 5), (20, 20), (13, 30)])
def test_deleted_changes_are_named_with_their_last(first: int, last: int, log: History, sql: SqlClient) -> None:
    sql.run(f"DELETE FROM sync_changes WHERE version BETWEEN {first} AND {last}")
    assert found(log) == [("deleted", first, last)]


@pytest.mark.parametrize("columns", [CONTENT, f"{CONTENT}, chain"])
@pytest.mark.parametrize(("one", "other"), [(20, 21), (2, 41), (12, 33)])
def test_swapped_changes_are_told_from_edited_ones(columns: str, one: int, other: int, log: History, sql: SqlClient) -> None:
    swap(sql, one, other, columns)
    findings = check(log)
    assert (findings[0].kind, findings[0].first, findings[0].other) == (Tampering.SWAPPED, one, other)
    assert len(findings) == 1 or other == log.state.head


@pytest.mark.parametrize("count", [1, 15, 40])
def test_a_cut_tail_is_found_by_the_head(count: int, log: History, sql: SqlClient) -> None:
    head = log.state.head
    sql.run(f"DELETE FROM sync_changes WHERE version > {head - count}")
    assert found(log) == [("cut", head - count + 1, head)]


def test_a_tail_that_was_cut_together_with_the_head_is_found_by_an_anchor(log: History, sql: SqlClient) -> None:
    kept = anchor(log)
    sql.run(
        "DELETE FROM sync_changes WHERE version > 30",
        "UPDATE sync_state SET head = 30, chain = (SELECT chain FROM sync_changes WHERE version = 30)",
    )
    assert found(log) == [], "from inside MySQL it can't be seen"
    assert found(log, kept) == [("cut", 31, 41)]


def test_a_past_that_was_written_anew_is_found_by_an_anchor(log: History, sql: SqlClient) -> None:
    kept = anchor(log)
    log.write(change(1))
    newer = anchor(log)
    sql.run("UPDATE sync_changes SET data = '{}' WHERE version = 20")
    rewrite_from(log, 20)
    assert found(log) == []
    assert found(log, newer, kept) == [("rewritten", 41, 41), ("rewritten", 42, 42)]


def test_a_head_with_another_hash_is_found(log: History, sql: SqlClient) -> None:
    sql.run("UPDATE sync_state SET chain = REPEAT('x', 32)")
    assert found(log) == [("rewritten", 41, 41)]


def test_what_retention_pruned_is_not_missing_and_what_claims_to_be_is_found(log: History, sql: SqlClient) -> None:
    kept = anchor(log)
    log.write(deleted(1))
    done = Retention(log.connection, Cutoffs(31, 0))
    while done.step():
        pass
    assert found(log, kept) == []
    sql.run("UPDATE sync_pruned SET chain_before = REPEAT('x', 32) WHERE first_version > 2 OR first_version = 2")
    assert found(log)[0][:2] == ("unproven", 2)
    sql.run("UPDATE sync_pruned SET chain_before = REPEAT(x'00', 32) WHERE first_version = 2")
    assert found(log) == []
    sql.run(
        "INSERT INTO sync_pruned SELECT 41, 41, (SELECT chain FROM sync_changes WHERE version = 40), chain FROM sync_changes "
        "WHERE version = 41",
        "DELETE FROM sync_changes WHERE version = 41",
    )
    assert found(log) == [("unproven", 41, 41)], "a deleted change is not pruned because somebody says so"


def test_an_anchor_that_was_pruned_says_so(log: History) -> None:
    kept = anchor(log)
    for _ in range(2):
        log.write(*(change(record) for record in range(1, 11)))
    done = Retention(log.connection, Cutoffs(log.state.head, 0))
    while done.step():
        pass
    with pytest.raises(StartError) as refused:
        check(log, kept)
    assert refused.value.code == "anchor_pruned"
    assert found(log, anchor(log)) == []


def test_a_new_epoch_goes_on_from_its_fork(log: History, sql: SqlClient) -> None:
    kept = anchor(log)
    sql.run(
        "INSERT INTO sync_epochs (epoch, fork, reason) SELECT 1, head, 'test' FROM sync_state",
        "UPDATE sync_state SET epoch = 1, head = 1 << 40",
    )
    assert found(log, kept) == []
    fresh = anchor(log)
    log.state = read_state(log.connection)
    assert log.write(change(1), change(2)) == pack(1, 2)
    assert found(log, kept, fresh, anchor(log)) == []
    done = Retention(log.connection, Cutoffs(log.state.head, log.state.head))
    while done.step():
        pass
    log.write(change(1))
    assert found(log) == []
    log.write(change(3))
    sql.run(f"DELETE FROM sync_changes WHERE version IN (41, {pack(1, 3)})")
    assert found(log) == [("deleted", 41, 41), ("deleted", pack(1, 3), pack(1, 3))]


@pytest.mark.parametrize("seed", range(4))
def test_any_one_thing_that_is_done_to_the_log_is_found(
    seed: int, log: History, sql: SqlClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Walked in parts of three, beside what retention left."""
    monkeypatch.setattr("cdc.chain_check.CHANGES_PER_SNAPSHOT", 3)
    chance = random.Random(seed)
    done = Retention(log.connection, Cutoffs(chance.randint(2, 30), 0))
    while done.step():
        pass
    assert found(log) == []
    for version in chance.sample(log.versions, 8):
        sql.rows("CREATE TEMPORARY TABLE kept SELECT * FROM sync_changes WHERE version = %s", version)
        if chance.random() < 0.5:
            sql.rows("DELETE FROM sync_changes WHERE version = %s", version)
        else:
            sql.rows("UPDATE sync_changes SET data = CONCAT(data, ' ') WHERE version = %s", version)
        assert check(log)[0].first == version
        sql.rows("DELETE FROM sync_changes WHERE version = %s", version)
        sql.run("INSERT INTO sync_changes SELECT * FROM kept", "DROP TEMPORARY TABLE kept")
    assert found(log) == []


def test_the_command_prints_the_head_to_keep_and_names_what_does_not_fit(log: History, sql: SqlClient, database: Database) -> None:
    result = run(database, "verify", "--chain")
    assert result.exit_code == 0 and "40 changes, 0 pruned in 0 stretches: every hash fits" in result.stdout
    kept = result.stdout.splitlines()[-1].removeprefix("head ")
    assert run(database, "verify", "--chain", "--anchor", kept).exit_code == 0
    sql.run("UPDATE sync_changes SET data = '{}' WHERE version = 20", "DELETE FROM sync_changes WHERE version = 30")
    result = run(database, "verify", "--chain", "--anchor", kept)
    assert result.exit_code == 3
    assert result.stdout.splitlines()[0].startswith("edited    version 20: it does not fit its own hash")
    lines = run_json(database, "verify", "--chain")
    assert [(line["kind"], line["first"]) for line in lines[:-1]] == [("edited", 20), ("deleted", 30)]
    assert (lines[-1]["findings"], lines[-1]["head"]) == (2, kept)
    assert run(database, "verify", "--chain", "--anchor", "41:zz").exit_code == 2
    assert run(database, "verify", "--anchor", kept).exit_code == 2


@pytest.fixture
def witnessed(log: History, database: Database) -> Iterator[WitnessKeeper]:
    """The witness of a tailer that came to version 41, in its file and in Redis; taken away after the test."""
    announcer = Announcer(database.settings, database=database.name)
    keeper = WitnessKeeper(database.settings, database.name, announcer)
    assert keeper.begin(read_log_id(log.connection), log.state, 1, [])
    yield keeper
    keeper.close()
    announcer.close()
    witness_file(database.settings, database.name).unlink(missing_ok=True)
    with redis.Redis.from_url(database.settings.redis_url) as client:
        client.delete(witness_key(database.name))


def chain_lines(database: Database) -> tuple[list[tuple[str, int]], list[dict[str, Any]]]:
    """The findings of the command, and the witnesses that it compared with."""
    *lines, summary = run_json(database, "verify", "--chain")
    return [(line["kind"], line["first"]) for line in lines], summary["witnesses"]


def test_a_log_written_anew_up_to_the_head_is_found_by_the_tailers_witness(
    log: History, sql: SqlClient, database: Database, witnessed: WitnessKeeper
) -> None:
    path = str(witness_file(database.settings, database.name))
    places = [{"place": place, "epoch": 0, "head": 41} for place in (path, "Redis")]
    assert chain_lines(database) == ([], places)
    log.write(change(1))
    assert chain_lines(database) == ([], places), "the log goes on from its witness"
    sql.run("UPDATE sync_changes SET data = '{}' WHERE version = 20")
    rewrite_from(log, 20)
    assert chain_lines(database) == ([("rewritten", 41)], places)
    result = run(database, "verify", "--chain")
    assert result.exit_code == 3
    assert f"compared with the witness in {path}, which came to version 41" in " ".join(result.stdout.split())


def test_a_tail_cut_together_with_the_head_is_found_by_the_tailers_witness(
    log: History, sql: SqlClient, database: Database, witnessed: WitnessKeeper
) -> None:
    log.connection.rollback()
    sql.run(
        "UPDATE sync_state SET head = 39, chain = (SELECT chain FROM sync_changes WHERE version = 39)",
        "DELETE FROM sync_changes WHERE version > 39",
    )
    assert chain_lines(database)[0] == [("cut", 40)]
    witness_file(database.settings, database.name).unlink()
    assert chain_lines(database)[0] == [("cut", 40)], "Redis knows it too"
    with redis.Redis.from_url(database.settings.redis_url) as client:
        client.delete(witness_key(database.name))
    assert chain_lines(database) == ([], [])
    assert "there was no witness to compare with" in run(database, "verify", "--chain").stdout


def test_a_witness_of_an_epoch_that_the_log_does_not_know_is_told(
    log: History, database: Database, witnessed: WitnessKeeper
) -> None:
    witnessed.note(replace(log.state, epoch=1, head=pack(1, 0)), 2)
    witnessed.close()
    assert chain_lines(database)[0] == [("cut", 42)]


def test_what_a_witness_saw_of_a_lost_past_or_what_was_pruned_is_no_finding(
    log: History, sql: SqlClient, database: Database, witnessed: WitnessKeeper
) -> None:
    for _ in range(2):
        log.write(*(change(record) for record in range(1, 11)))
    done = Retention(log.connection, Cutoffs(log.state.head, 0))
    while done.step():
        pass
    assert chain_lines(database)[0] == [], "41 is pruned, inside a stretch"
    witnessed.note(replace(log.state, head=70, chain=b"x" * 32), 2)
    witnessed.close()
    assert chain_lines(database)[0] == [("cut", 62)]
    sql.run(
        "INSERT INTO sync_epochs (epoch, fork, reason) SELECT 1, head, 'test' FROM sync_state",
        "UPDATE sync_state SET epoch = 1, head = 1 << 40",
    )
    assert chain_lines(database)[0] == [], "that is known to be gone"
