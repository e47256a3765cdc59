"""A run makes the change log agree with the tables: exactly what differs, in the form of events, and nothing that is under way."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from cli.embedded.process import Child
from tests.cdc.hidden import assert_log_is_the_tables, hidden, mended
from tests.cli.commands import run, run_json
from tests.cli.test_tail import ended, wait_for
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

SMALL_RANGES = {"SYNC_TAILER_BATCH_CHANGES": "50", "SYNC_TAILER_IDLE_CHECKPOINT_SECONDS": "1"}
PARTY = "INSERT INTO parties (company_id, name) VALUES"


@pytest.fixture(scope="module")
def database(stack: Stack) -> Iterator[Database]:
    """One for the file; each test has companies of its own."""
    with stack.database() as shared:
        yield shared


@pytest.fixture(scope="module", autouse=True)
def tailer(stack: Stack, database: Database) -> Iterator[Child]:
    """A running `matrix-sync tail` that reads small ranges."""
    child = stack.spawn("tail", environ={**database.environ, **SMALL_RANGES})
    with SqlClient(database.settings) as sql:
        sql.wait_for_tailer()
    yield child
    child.stop()


@pytest.fixture
def company(sql: SqlClient) -> int:
    """A company of the test's own."""
    return sql.company()


def reconcile(database: Database, *words: str) -> dict[str, Any]:
    """The summary of a run that came to its end."""
    result = run(database, "reconcile", *words, "--json")
    assert result.exit_code == 0, result.output
    summary: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return summary


def test_where_nothing_differs_a_run_makes_no_version(database: Database, sql: SqlClient, company: int) -> None:
    sql.run(f"{PARTY} ({company}, 'Ann')")
    head = sql.wait_for_tailer()
    told = reconcile(database)
    assert (told["state"], told["inserted"], told["updated"], told["deleted"]) == ("done", 0, 0, 0)
    assert told["rows"] >= 2 and len(told["tables"]) == 18
    assert sql.wait_for_tailer() == head
    assert sql.rows("SELECT * FROM sync_watermarks") == []


def test_each_hidden_write_becomes_the_change_that_its_event_would_have_made(
    database: Database, sql: SqlClient, company: int
) -> None:
    other = sql.company("Other")
    ids = [sql.run(f"{PARTY} ({company}, '{name}')") for name in ("edit", "drop", "fade", "back", "move", "kept")]
    edit, drop, fade, back, move, _ = ids
    sql.run(f"UPDATE parties SET deleted_at = NOW(6) WHERE id = {back}")
    sql.wait_for_tailer()
    with hidden(sql):
        new = sql.run(f"{PARTY} ({company}, 'new')")
        sql.run(
            f"UPDATE parties SET name = 'edited', phone = '7' WHERE id = {edit}",
            f"DELETE FROM parties WHERE id = {drop}",
            f"UPDATE parties SET deleted_at = '2026-01-02 03:04:05.5' WHERE id = {fade}",
            f"UPDATE parties SET deleted_at = NULL WHERE id = {back}",
            f"UPDATE parties SET company_id = {other} WHERE id = {move}",
        )
    told = reconcile(database, "--table", "parties")
    assert (told["inserted"], told["updated"], told["deleted"]) == (3, 1, 3)
    found = {(c["operation"], c["record_id"]): c for c in mended(sql, company)}
    assert set(found) == {("UPDATE", edit), ("DELETE", drop), ("DELETE", fade), ("INSERT", back), ("DELETE", move), ("INSERT", new)}
    assert {name for name, old in found["UPDATE", edit]["before"].items() if old in ("edit", None)} >= {"name", "phone"}
    assert found["DELETE", drop]["data"] == {
        **json.loads(next(c["data"] for c in sql.changes(company) if c["record_id"] == drop)),
        "deleted_at": found["DELETE", drop]["timestamp"],
    }
    assert found["DELETE", fade]["data"]["deleted_at"] == "2026-01-02T03:04:05.500000Z"
    assert found["DELETE", move]["data"]["company_id"] == company
    assert [(c["operation"], c["record_id"]) for c in mended(sql, other)] == [("INSERT", move)]
    assert_log_is_the_tables(sql, company, other)


def test_a_moved_row_is_deleted_in_the_old_company_before_it_is_in_the_new_one(
    database: Database, sql: SqlClient, company: int
) -> None:
    other = sql.company("Other")
    moved = sql.run(f"{PARTY} ({company}, 'x')")
    sql.wait_for_tailer()
    with hidden(sql):
        sql.run(f"UPDATE parties SET company_id = {other} WHERE id = {moved}")
    reconcile(database, "--table", "parties")
    (gone,), (come,) = mended(sql, company), mended(sql, other)
    assert (gone["tx"], gone["version"] + 1) == (come["tx"], come["version"])


def test_restricted_columns_are_compared_and_stay_apart(database: Database, sql: SqlClient, company: int) -> None:
    account = sql.run(
        "INSERT INTO payment_accounts (company_id, account_type, account_name, account_number)"
        f" VALUES ({company}, 'bank', 'B', '42')"
    )
    sql.wait_for_tailer()
    with hidden(sql):
        sql.run(f"UPDATE payment_accounts SET account_number = '43', updated_at = updated_at WHERE id = {account}")
    lines = run_json(database, "verify", "--table", "payment_accounts")
    assert lines[0]["columns"] == {"account_number": {"log": "•••", "table": "•••"}}
    assert run_json(database, "verify", "--sealed")[0]["columns"] == {"account_number": {"log": "42", "table": "43"}}
    reconcile(database, "--table", "payment_accounts")
    (change,) = mended(sql, company)
    assert json.loads(change["sealed"])["account_number"] == "43"
    assert change["before"] == {} and "account_number" not in change["data"]


def test_images_of_rows_are_byte_for_byte_those_of_events(database: Database, sql: SqlClient, company: int) -> None:
    """Whatever the change log forgets comes back as the event had written it, in every table and with odd values."""
    sql.run(
        "SET SESSION sql_mode = 'ALLOW_INVALID_DATES'",
        f"UPDATE companies SET books_locked_until = '0000-00-00', address = '' WHERE id = {company}",
        f"{PARTY} ({company}, 'चाय 😀 \\0 \\\\ \\' \" ')",
        f"INSERT INTO parties (company_id, name, opening_balance, credit_limit) VALUES ({company}, '', -0.01, 9999999999999.99)",
        f"INSERT INTO products (company_id, name, sale_price, opening_qty) VALUES ({company}, 'Tea', 12.5, -0.001)",
        f"INSERT INTO transactions (company_id, type, date) VALUES ({company}, 'sale', '2024-02-30')",
        f"INSERT INTO payment_accounts (company_id, account_type, account_name, ifsc_code) VALUES ({company}, 'cash', 'C', 'é')",
        f"{PARTY} ({company}, 't')",
        "UPDATE parties SET created_at = '1970-01-01 00:00:01', updated_at = '2026-01-01'"
        f" WHERE company_id = {company} AND name = 't'",
        "SET SESSION sql_mode = DEFAULT",
    )
    for number, value in enumerate(
        (
            '{"b": 1.50, "a": [null, true, 18446744073709551615, -0.0, 1e300]}',
            '"text \\u0001 \\" 😀"',
            "[[[]], {}, 0.1, 123456789012345678]",
            "null",
        )
    ):
        sql.rows("INSERT INTO settings (company_id, name, value) VALUES (%s, %s, %s)", company, f"s{number}", value)
    sql.rows(
        "INSERT INTO settings (company_id, name, value) VALUES (%s, 'dec', JSON_ARRAY(CAST(1.50 AS DECIMAL(9,3)), NOW(3)))", company
    )
    sql.wait_for_tailer()
    images = (
        "SELECT table_name, record_id, data, sealed FROM sync_changes WHERE company_id = %s AND origin = %s AND version IN ({})"
    )
    newest = "SELECT version FROM sync_live WHERE company_id = %s"
    before = sql.rows(images.format(newest) + " ORDER BY 1, 2", company, "external", company)
    sql.rows("DELETE FROM sync_live WHERE company_id = %s", company)
    told = reconcile(database)
    assert told["inserted"] == len(before) > 10
    assert sql.rows(images.format(newest) + " ORDER BY 1, 2", company, "reconcile", company) == before


def test_a_record_that_a_device_made_keeps_its_name_though_its_push_is_not_in_the_binlog(
    database: Database, sql: SqlClient, company: int
) -> None:
    with hidden(sql):
        party = sql.run(f"{PARTY} ({company}, 'pushed')")
        sql.rows(
            "INSERT INTO record_identities (company_id, device_id, table_name, local_id, record_id, origin_id)"
            " VALUES (%s, 'till-1', 'parties', 'p-7', %s, 2), (%s, 'till-2', 'parties', 'later', %s, 3)",
            company, party, company, party,
        )  # fmt: skip
    reconcile(database, "--table", "parties")
    (change,) = mended(sql, company)
    assert (change["device_id"], change["local_id"], change["is_exact"]) == ("till-1", "p-7", 0)


def test_a_column_that_an_older_program_did_not_know_comes_into_the_images(
    database: Database, sql: SqlClient, company: int
) -> None:
    sql.wait_for_tailer()
    sql.rows("UPDATE sync_changes SET data = JSON_REMOVE(data, '$.phone') WHERE company_id = %s", company)
    (line, _) = run_json(database, "verify", "--table", "companies")
    assert (line["kind"], line["record_id"], list(line["columns"])) == ("differs", company, ["phone"])
    reconcile(database, "--table", "companies")
    (change,) = mended(sql, company)
    assert change["data"]["phone"] is None and change["operation"] == "UPDATE"


def test_another_order_of_columns_is_no_difference(database: Database, sql: SqlClient, company: int) -> None:
    sql.wait_for_tailer()
    data = sql.value("SELECT data FROM sync_changes WHERE company_id = %s", company)
    turned = json.dumps(dict(reversed(json.loads(data).items())), separators=(",", ":"))
    sql.rows("UPDATE sync_changes SET data = %s WHERE company_id = %s", turned, company)
    head = sql.wait_for_tailer()
    assert reconcile(database, "--table", "companies")["updated"] == 0
    assert sql.wait_for_tailer() == head


def test_a_snapshot_brings_what_the_change_log_does_not_know_and_nothing_else(
    database: Database, sql: SqlClient, company: int
) -> None:
    known = sql.run(f"{PARTY} ({company}, 'known')")
    sql.wait_for_tailer()
    with hidden(sql):
        sql.run(f"UPDATE parties SET name = 'edited' WHERE id = {known}")
        first = sql.run(f"{PARTY} {', '.join(f'({company}, {number})' for number in range(120))}")
    result = run(database, "snapshot", "--dry-run", "--json")
    assert result.exit_code == 3
    assert json.loads(result.stdout.splitlines()[-1])["differences"] == 120
    assert run(database, "snapshot", "--table", "parties").exit_code == 0
    found = mended(sql, company)
    assert [(c["operation"], c["record_id"]) for c in found] == [("INSERT", first + number) for number in range(120)]
    assert len({c["tx"] for c in found}) >= 3, "in ranges"
    assert run(database, "snapshot", "--dry-run").exit_code == 0
    assert reconcile(database)["updated"] == 1
    assert_log_is_the_tables(sql, company)


def test_a_replay_over_runs_finds_nothing_wrong_and_restores_what_is_missing_beside_them(
    database: Database, sql: SqlClient, company: int
) -> None:
    sql.run("FLUSH BINARY LOGS")
    place = "{}:4".format(sql.rows("SHOW BINARY LOGS")[-1][0])
    first, second = sql.run(f"{PARTY} ({company}, 'a')"), sql.run(f"{PARTY} ({company}, 'b')")
    for number in range(3):
        sql.wait_for_tailer()
        with hidden(sql):
            sql.run(f"UPDATE parties SET name = 'hidden {number}' WHERE id = {first}")
        reconcile(database, "--table", "parties")
        sql.run(f"UPDATE parties SET phone = '{number}' WHERE id IN ({first}, {second})")
    sql.wait_for_tailer()
    told = run(database, "replay", "--from", place, "--dry-run")
    assert told.exit_code == 0, told.output
    before = sql.rows("SELECT * FROM sync_changes ORDER BY version")
    sql.rows("DELETE FROM sync_changes WHERE company_id = %s AND record_id = %s AND origin = 'external'", company, second)
    restored = run(database, "replay", "--from", place)
    assert restored.exit_code == 0, restored.output
    assert sql.rows("SELECT * FROM sync_changes ORDER BY version") == before


def test_after_a_run_an_idle_system_writes_nothing(database: Database, sql: SqlClient, company: int) -> None:
    with hidden(sql):
        sql.run(f"{PARTY} ({company}, 'x')")
    reconcile(database)
    sql.wait_for_tailer()
    time.sleep(2)  # quiet transactions move the checkpoint once
    before = sql.value("SELECT @@GLOBAL.gtid_executed")
    time.sleep(2)
    assert sql.value("SELECT @@GLOBAL.gtid_executed") == before


def test_one_run_at_a_time_and_an_open_one_is_cancelled(stack: Stack, database: Database, sql: SqlClient, company: int) -> None:
    with SqlClient(database.settings) as locker:
        locker.run("LOCK TABLES parties WRITE")
        follower = stack.spawn("reconcile", "--table", "parties", environ=database.environ)
        wait_for(lambda: sql.rows("SELECT 1 FROM sync_reconcile_runs WHERE is_open = 1"))
        other = run(database, "reconcile", "--table", "products")
        assert (other.exit_code, "reconcile of parties is open" in other.stderr) == (1, True)
        (told,) = run_json(database, "reconcile", "--cancel")
        assert told["state"] == "cancelled"
        assert (ended(follower), "cancelled" in follower.output()) == (1, True)
        sql.wait_for_tailer()
    nothing = run(database, "reconcile", "--cancel")
    assert (nothing.exit_code, "no run is open" in nothing.stderr) == (1, True)
    actions = [row[0] for row in sql.rows("SELECT action FROM sync_audit ORDER BY id DESC LIMIT 2")]
    assert actions == ["reconcile_cancelled", "reconcile_requested"]


def test_a_table_that_is_locked_is_waited_for_and_the_stream_goes_on(
    stack: Stack, database: Database, sql: SqlClient, company: int, tailer: Child
) -> None:
    with hidden(sql):
        sql.run(f"{PARTY} ({company}, 'x')")
    with SqlClient(database.settings) as locker:
        locker.run("LOCK TABLES parties WRITE")
        follower = stack.spawn("reconcile", "--table", "parties", environ=database.environ)
        wait_for(lambda: "reconcile_waits" in tailer.output())
        sql.wait_for_tailer()
        assert follower.is_running
    assert ended(follower) == 0
    assert_log_is_the_tables(sql, company)


def test_a_row_that_cannot_be_read_ends_the_run_and_not_the_tailer(
    database: Database, sql: SqlClient, company: int, tailer: Child
) -> None:
    with hidden(sql):
        sql.run("ALTER TABLE units_of_measure MODIFY abbrev VARCHAR(255) CHARACTER SET armscii8 NULL")
        sql.run(f"INSERT INTO units_of_measure (company_id, name, abbrev) VALUES ({company}, 'x', 'y')")
    failed = run(database, "reconcile", "--table", "units_of_measure")
    assert failed.exit_code == 1
    assert "charset_unsupported" in failed.stderr and "units_of_measure" in failed.stderr
    with hidden(sql):
        sql.run("ALTER TABLE units_of_measure MODIFY abbrev VARCHAR(255) CHARACTER SET utf8mb4 NULL")
    assert tailer.is_running
    assert reconcile(database)["inserted"] == 1
    assert_log_is_the_tables(sql, company)


def test_commits_out_of_the_binlogs_order_are_refused(database: Database, sql: SqlClient) -> None:
    sql.run("SET GLOBAL binlog_order_commits = OFF")
    try:
        failed = run(database, "reconcile", "--table", "parties")
    finally:
        sql.run("SET GLOBAL binlog_order_commits = ON")
    assert (failed.exit_code, "binlog_order_commits is OFF" in failed.stderr) == (1, True)


def has_read(sql: SqlClient, wanted: int) -> bool:
    """Whether the run has come so far."""
    found = sql.rows("SELECT rows_read FROM sync_reconcile_runs")
    return bool(found and found[0][0] >= wanted)


class Writer(threading.Thread):
    """Writes rows of its own, logged and hidden, and remembers every state it committed, row by row."""

    def __init__(self, database: Database, company: int, seed: int) -> None:
        super().__init__()
        self._database = database
        self._company = company
        self._chance = random.Random(seed)
        self.stopped = threading.Event()
        self.history: dict[int, list[str | None]] = {}

    def run(self) -> None:
        with SqlClient(self._database.settings) as sql:
            for number in range(60):
                self.history[sql.run(f"{PARTY} ({self._company}, '{number}')")] = [str(number)]
            number = 60
            while not self.stopped.is_set():
                number += 1
                self._write(sql, self._chance.choice(list(self.history)), number)

    def _write(self, sql: SqlClient, record: int, number: int) -> None:
        is_hidden = self._chance.random() < 0.3
        is_there = self.history[record][-1] is not None
        if not is_there:
            query = f"INSERT INTO parties (id, company_id, name) VALUES ({record}, {self._company}, '{number}')"
        elif self._chance.random() < 0.2:
            query = f"DELETE FROM parties WHERE id = {record}"
        else:
            query = f"UPDATE parties SET name = '{number}' WHERE id = {record}"
        self.history[record].append(None if query.startswith("DELETE") else str(number))
        sql.run(f"SET SESSION sql_log_bin = {int(not is_hidden)}", query)


def test_beside_writers_no_update_is_lost_and_every_image_was_true_at_its_time(
    database: Database, sql: SqlClient, company: int
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    writers = [Writer(database, company, seed + number) for number in range(2)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(4):
            reconcile(database, "--table", "parties")
    finally:
        for writer in writers:
            writer.stopped.set()
            writer.join()
    reconcile(database, "--table", "parties")
    sql.wait_for_tailer()
    assert_log_is_the_tables(sql, company)
    assert run(database, "verify").exit_code == 0
    images: dict[int, list[tuple[str | None, str]]] = {}
    for change in sql.changes(company):
        if change["table_name"] == "parties":
            name = None if change["operation"] == "DELETE" else json.loads(change["data"])["name"]
            images.setdefault(change["record_id"], []).append((name, change["origin"]))
    assert sum(origin == "reconcile" for found in images.values() for _, origin in found) > 20
    for writer in writers:
        for record, states in writer.history.items():
            place = 0
            for name, origin in images[record]:
                assert name in states[place:], (record, name, origin, states, images[record])
                place = states.index(name, place)


def test_a_run_outlives_the_tailers_that_are_killed_in_it_and_counts_each_range_once(stack: Stack) -> None:
    with stack.database() as database, SqlClient(database.settings) as sql:
        environ = {**database.environ, **SMALL_RANGES}
        child = stack.spawn("tail", environ=environ)
        company = sql.company()
        sql.wait_for_tailer()
        with hidden(sql):
            for first in range(0, 3000, 1000):
                sql.run(f"{PARTY} {', '.join(f'({company}, {number})' for number in range(first, first + 1000))}")
        follower = stack.spawn("reconcile", "--table", "parties", "--json", environ=database.environ)
        for wanted in (100, 1500):
            wait_for(partial(has_read, sql, wanted))
            child.kill()
            child = stack.spawn("tail", "--standby", environ=environ)
        assert ended(follower, 60) == 0, follower.output()
        told = json.loads(follower.output().splitlines()[-1])
        assert (told["rows"], told["inserted"]) == (3000, 3000), "each range counted once"
        assert_log_is_the_tables(sql, company)
        assert sql.value("SELECT COUNT(*) FROM sync_watermarks") == 0
        child.stop()
