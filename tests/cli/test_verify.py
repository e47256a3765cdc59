"""`matrix-sync verify`: names exactly what the binlog did not carry, beside writers, a slow tailer, or none."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import cdc.verify
from cli.embedded.process import Child
from tests.cdc.hidden import hidden
from tests.cli.commands import run, run_json
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

PARTY = "INSERT INTO parties (company_id, name) VALUES"


@pytest.fixture(scope="module")
def database(stack: Stack) -> Iterator[Database]:
    """One for the file; every test leaves no difference behind."""
    with stack.database() as shared:
        yield shared


@pytest.fixture(scope="module", autouse=True)
def tailer(stack: Stack, database: Database) -> Iterator[Child]:
    """A running `matrix-sync tail`."""
    child = stack.spawn("tail", environ=database.environ)
    yield child
    child.stop()


@pytest.fixture
def company(sql: SqlClient) -> int:
    """A company of the test's own, known to the change log."""
    made = sql.company()
    sql.wait_for_tailer()
    return made


def test_what_the_change_log_has_is_no_difference(database: Database, sql: SqlClient, company: int) -> None:
    sql.run(f"{PARTY} ({company}, 'Ann'), ({company}, 'Bo')", "DELETE FROM parties WHERE name = 'Bo'")
    sql.wait_for_tailer()
    result = run(database, "verify")
    assert result.exit_code == 0
    assert "18 tables compared: no differences" in result.stdout
    (summary,) = run_json(database, "verify", "--table", "parties")
    assert (summary["type"], summary["tables"], summary["differences"], summary["unreadable"]) == ("summary", 1, 0, "")


def test_a_range_that_is_cut_for_its_bytes_is_gone_on_with(
    database: Database, sql: SqlClient, company: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows behind the cut are nobody's difference if they are never looked at."""
    monkeypatch.setattr(cdc.verify, "CHUNK_BYTES", 1000)
    sql.run(f"{PARTY} {', '.join(f'({company}, {number})' for number in range(100))}")
    sql.wait_for_tailer()
    with hidden(sql):
        new = [sql.run(f"{PARTY} ({company}, 'new')") for _ in range(30)]
    *lines, summary = map(json.loads, run(database, "verify", "--json").stdout.splitlines())
    assert [line["record_id"] for line in lines] == new and summary["rows"] >= 130
    assert run(database, "reconcile").exit_code == 0


def test_every_hidden_write_is_named_and_nothing_else(database: Database, sql: SqlClient, company: int) -> None:
    """K writes of each kind among rows that are as they should be: K lines, each with the columns that differ."""
    chance = random.Random()
    first = sql.run(f"{PARTY} {', '.join(f'({company}, {number})' for number in range(3000))}")
    sql.wait_for_tailer()
    chosen = chance.sample(range(first, first + 3000), 90)
    edited, deleted, faded = chosen[:30], chosen[30:60], chosen[60:]
    with hidden(sql):
        for record in edited:
            sql.run(f"UPDATE parties SET phone = '7', updated_at = updated_at WHERE id = {record}")
        for record in deleted:
            sql.run(f"DELETE FROM parties WHERE id = {record}")
        for record in faded:
            sql.run(f"UPDATE parties SET deleted_at = '2026-01-01', updated_at = updated_at WHERE id = {record}")
        new = [sql.run(f"{PARTY} ({company}, 'new')") for _ in range(30)]
    result = run(database, "verify", "--json")
    *lines, summary = map(json.loads, result.stdout.splitlines())
    assert result.exit_code == 3
    assert (len(lines), summary["differences"], summary["undecided"]) == (120, 120, 0)
    assert {line["company_id"] for line in lines} == {company} and {line["table"] for line in lines} == {"parties"}
    by_kind: dict[tuple[str, str], set[int]] = {}
    for line in lines:
        by_kind.setdefault((line["kind"], ",".join(line["columns"])), set()).add(line["record_id"])
    assert by_kind == {
        ("differs", "phone"): set(edited),
        ("differs", "deleted_at"): set(faded),
        ("missing_in_table", ""): set(deleted),
        ("missing_in_log", ""): set(new),
    }
    edit = next(line for line in lines if line["record_id"] == edited[0])
    assert edit["columns"] == {"phone": {"log": None, "table": "7"}}
    assert edit["version"] == sql.value("SELECT version FROM sync_live WHERE table_name = 'parties' AND record_id = %s", edited[0])
    dry = run(database, "reconcile", "--dry-run")
    assert (dry.exit_code, dry.stdout.count("\n")) == (3, 120 + 60 + 1), "a line for each, and one for each column"
    assert run(database, "reconcile").exit_code == 0
    assert run(database, "verify").exit_code == 0


def test_a_control_character_of_a_row_does_not_reach_the_terminal(database: Database, sql: SqlClient, company: int) -> None:
    party = sql.run(f"{PARTY} ({company}, 'x')")
    sql.wait_for_tailer()
    with hidden(sql):
        sql.rows("UPDATE parties SET name = %s WHERE id = %s", "\x1b[2J\u202e", party)
    shown = run(database, "verify").stdout
    assert "\x1b" not in shown and "\u202e" not in shown and "differs" in shown
    assert run(database, "reconcile").exit_code == 0


def test_beside_writers_only_the_hidden_write_is_found(database: Database, sql: SqlClient, company: int) -> None:
    first = sql.run(f"{PARTY} {', '.join(f'({company}, {number})' for number in range(300))}")
    stopped = threading.Event()

    def write() -> None:
        with SqlClient(database.settings) as client:
            while not stopped.is_set():
                client.run(
                    f"UPDATE parties SET phone = UUID() WHERE id BETWEEN {first} AND {first + 299} ORDER BY RAND() LIMIT 20",
                    f"{PARTY} ({company}, 'more'), ({company}, 'and more')",
                    f"DELETE FROM parties WHERE company_id = {company} AND name = 'more' LIMIT 1",
                )

    writer = threading.Thread(target=write)
    writer.start()
    try:
        clean = [run_json(database, "verify", "--table", "parties") for _ in range(3)]
        with hidden(sql):
            left_out = sql.run(f"{PARTY} ({company}, 'hidden')")
        *found, summary = run_json(database, "verify", "--table", "parties")
    finally:
        stopped.set()
        writer.join()
    assert [len(lines) for lines in clean] == [1, 1, 1], clean
    assert [(line["kind"], line["record_id"]) for line in found] == [("missing_in_log", left_out)]
    assert summary["rows"] > 300
    assert run(database, "reconcile").exit_code == 0


def test_what_the_tailer_has_not_read_is_no_difference(
    stack: Stack, database: Database, sql: SqlClient, company: int, tailer: Child
) -> None:
    party, other = sql.run(f"{PARTY} ({company}, 'read')"), sql.run(f"{PARTY} ({company}, 'other')")
    sql.wait_for_tailer()
    tailer.stop()
    sql.run(
        f"UPDATE parties SET name = 'unread' WHERE id = {party}",
        f"{PARTY} ({company}, 'unread too')",
        "XA START 'x'",
        f"{PARTY} ({company}, 'prepared')",
        "XA END 'x'",
        "XA PREPARE 'x'",
        "XA COMMIT 'x'",
    )
    with hidden(sql):
        sql.run(f"UPDATE parties SET name = 'hidden' WHERE id = {other}")
    no_tailer = run(database, "reconcile")
    assert (no_tailer.exit_code, "no tailer runs" in no_tailer.stderr) == (1, True)
    line, summary = run_json(database, "verify", "--table", "parties")
    assert (line["record_id"], line["columns"]["name"]) == (other, {"log": "other", "table": "hidden"})
    assert (summary["differences"], summary["undecided"]) == (1, 3)
    assert "3 records are touched by transactions that the change log does not have yet" in run(database, "verify").stdout
    tailer.start()
    sql.wait_for_tailer()
    assert run(database, "reconcile").exit_code == 0
    assert run(database, "verify").exit_code == 0


def test_a_binlog_that_cannot_be_read_is_said(stack: Stack) -> None:
    with stack.database() as database, SqlClient(database.settings) as sql:
        company = sql.company()
        sql.run(
            "SET SESSION binlog_row_image = MINIMAL",
            f"UPDATE companies SET name = 'half a row' WHERE id = {company}",
            f"{PARTY} ({company}, 'after it')",
        )
        *lines, summary = run_json(database, "verify")
    told: dict[str, Any] = summary
    assert [(line["table"], line["kind"]) for line in lines] == [("parties", "missing_in_log")]
    assert told["unreadable"].startswith("row_image_not_full at ") and told["undecided"] == 1


def test_a_table_that_is_none_of_ours_is_wrong_usage(database: Database) -> None:
    assert run(database, "verify", "--table", "logins").exit_code == 2


def test_a_record_whose_image_is_gone_is_a_difference(database: Database, sql: SqlClient, company: int) -> None:
    """Somebody deleted the change that sync_live names, and the row too: devices that had it still have it."""
    party = sql.run(f"{PARTY} ({company}, 'gone')")
    sql.wait_for_tailer()
    with hidden(sql):
        sql.run(f"DELETE FROM parties WHERE id = {party}")
    sql.rows("DELETE FROM sync_changes WHERE company_id = %s AND record_id = %s AND table_name = 'parties'", company, party)
    line, _ = run_json(database, "verify", "--table", "parties")
    assert (line["kind"], line["record_id"]) == ("missing_in_table", party)
    assert run(database, "reconcile").exit_code == 0
    assert run(database, "verify").exit_code == 0
