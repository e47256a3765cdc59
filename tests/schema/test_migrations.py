"""Migrations: in order, once, resumed after a crash, never backwards; and what each account may do (design: accounts)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest

from schema import migrations
from schema.connect import open_connection
from schema.database_check import find_differences
from schema.errors import StartError
from schema.migrations import check_current, migrate, read_migrations, split_statements
from schema.settings import MySQLAddress
from schema.tables import TABLES
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

COMMAND_DENIED, COLUMN_DENIED = 1142, 1143
LOG_TABLES = ("sync_changes", "sync_live", "sync_state", "sync_epochs", "sync_tx", "sync_lease")


@pytest.fixture(scope="module")
def database(stack: Stack) -> Iterator[Database]:
    """One for the file; tests that break it take one of their own."""
    with stack.database() as shared:
        yield shared


def denied(address: MySQLAddress, *statements: str) -> None:
    """Each statement must be refused by MySQL itself."""
    with open_connection(address) as connection, connection.cursor() as cursor:
        for statement in statements:
            with pytest.raises(pymysql.err.OperationalError) as refused:
                cursor.execute(statement)
            assert refused.value.args[0] in (COMMAND_DENIED, COLUMN_DENIED), (statement, refused.value.args)


def test_statements_end_with_a_semicolon_at_a_lines_end_and_comments_are_left_out() -> None:
    text = "-- one; two;\nCREATE TABLE a (\n  -- inside;\n  b TEXT DEFAULT ';'\n);\n\nSELECT 1;  \nSELECT 2"
    assert split_statements(text) == ("CREATE TABLE a (\n  b TEXT DEFAULT ';'\n)", "SELECT 1", "SELECT 2")


def test_numbers_without_gaps_or_it_does_not_start(tmp_path: Path) -> None:
    for names in ([], ["0002_a.sql"], ["0001_a.sql", "0003_b.sql"], ["0001_a.sql", "0001_b.sql"]):
        for path in tmp_path.iterdir():
            path.unlink()
        for name in names:
            (tmp_path / name).write_text("SELECT 1;")
        with pytest.raises(StartError, match="without gaps"):
            read_migrations(tmp_path)


def test_what_migrate_made_is_what_the_tables_declare_and_a_second_run_changes_nothing(database: Database, sql: SqlClient) -> None:
    book = "SELECT id, name, checksum, statements_done, statements, gtid_set_before, applied_at FROM schema_migrations ORDER BY id"
    before = sql.rows(book), sql.rows("SELECT * FROM sync_state")
    assert [row[0] for row in before[0]] == list(range(1, len(read_migrations()) + 1))
    assert all(row[3] == row[4] for row in before[0])
    assert migrate(database.settings) == []
    assert (sql.rows(book), sql.rows("SELECT * FROM sync_state")) == before
    with open_connection(database.settings.admin()) as connection:
        assert find_differences(connection, database.name) == []
        check_current(connection)


def test_a_new_log_begins_where_the_server_was_before_the_first_table(stack: Stack) -> None:
    with open_connection(MySQLAddress.parse(stack.mysql_url), with_database=False) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT @@GLOBAL.gtid_executed")
        (before,) = cursor.fetchone() or ("",)
    with stack.database() as fresh, SqlClient(fresh.settings) as sql:
        stored = sql.value("SELECT gtid_set FROM sync_state")
        assert sql.value("SELECT GTID_SUBSET(%s, %s)", before, stored) == 1
        assert sql.value("SELECT GTID_SUBSET(@@GLOBAL.gtid_executed, %s)", stored) == 0
        assert sql.rows("SELECT epoch, head, tx, min_version FROM sync_state") == [(0, 1, 0, 1)]
        assert sql.rows("SELECT epoch, fork FROM sync_epochs") == [(0, 0)]


def test_a_crash_between_any_two_statements_is_resumed(stack: Stack, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress is kept per statement; a statement that ran but was not noted is recognised."""
    with stack.database() as broken, SqlClient(broken.settings) as sql:
        whole = sql.rows("SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() ORDER BY 1")
        for step, noted in ((3, False), (9, True)):
            sql.run(f"DROP DATABASE {broken.name}")
            _migrate_until(broken, step, is_noted=noted, monkeypatch=monkeypatch)
            sql.run(f"USE {broken.name}")
            assert sql.value("SELECT statements_done FROM schema_migrations WHERE id = 1") == step - (not noted)
            with open_connection(broken.settings.admin()) as connection, pytest.raises(StartError, match="migrate"):
                check_current(connection)
            assert migrate(broken.settings) == [m.name for m in read_migrations()]
            found = sql.rows("SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() ORDER BY 1")
            assert found == whole
            with open_connection(broken.settings.admin()) as connection:
                assert find_differences(connection, broken.name) == []


def test_a_last_definition_that_was_made_and_not_noted_is_recognised_in_every_migration(database: Database, sql: SqlClient) -> None:
    ends_so = [m for m in read_migrations() if m.statements[-1].lstrip().startswith(("CREATE", "ALTER"))]
    assert len(ends_so) > 5
    sql.run(f"UPDATE schema_migrations SET statements_done = statements - 1 WHERE id IN ({', '.join(str(m.id) for m in ends_so)})")
    assert migrate(database.settings) == [m.name for m in ends_so]
    with open_connection(database.settings.admin()) as connection:
        assert find_differences(connection, database.name) == []


def _migrate_until(broken: Database, step: int, *, is_noted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run migrate and die after `step` statements, with or without the note about the last one."""
    first, *rest = read_migrations()
    dying = (*first.statements[:step], "SELECT no_such_function_dies_here()")
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "read_migrations", lambda: (dataclasses.replace(first, statements=dying), *rest))
        with pytest.raises(StartError, match="no_such_function"):
            migrate(broken.settings)
    with SqlClient(broken.settings) as sql:
        sql.run(f"UPDATE schema_migrations SET statements = {len(first.statements)} WHERE id = 1")
        if not is_noted:
            sql.run(f"UPDATE schema_migrations SET statements_done = {step - 1} WHERE id = 1")


def test_a_failing_statement_names_its_file_and_number_and_is_tried_again(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    with stack.database() as broken, SqlClient(broken.settings) as sql:
        more = dataclasses.replace(
            read_migrations()[-1], id=len(read_migrations()) + 1, name="0099_more.sql", checksum=b"\1" * 32,
            statements=("CREATE TABLE extra (id INT PRIMARY KEY)", "ALTER TABLE missing ADD COLUMN a INT"),
        )  # fmt: skip
        real = read_migrations()
        monkeypatch.setattr(migrations, "read_migrations", lambda: (*real, more))
        with pytest.raises(StartError) as failed:
            migrate(broken.settings)
        assert "0099_more.sql, statement 2" in failed.value.message and "missing" in failed.value.message
        sql.run("CREATE TABLE missing (id INT PRIMARY KEY)")
        assert migrate(broken.settings) == ["0099_more.sql"]


def test_a_newer_database_and_a_changed_file_are_refused(stack: Stack) -> None:
    with stack.database() as broken, SqlClient(broken.settings) as sql:
        sql.run("UPDATE schema_migrations SET checksum = REPEAT(x'00', 32) WHERE id = 2")
        with pytest.raises(StartError) as changed:
            migrate(broken.settings)
        assert changed.value.code == "migration_changed" and "0002" in changed.value.message
        sql.run(
            "INSERT INTO schema_migrations "
            "SELECT 77, '0077_future.sql', checksum, 1, 1, '', NOW() FROM schema_migrations WHERE id = 1"
        )
        for attempt in (lambda: migrate(broken.settings), lambda: _check(broken)):
            with pytest.raises(StartError) as newer:
                attempt()
            assert newer.value.code == "database_newer" and "0077_future.sql" in newer.value.message
        for words in (("tail",), ("serve", "--port", "0")):
            child = stack.spawn(*words, environ=broken.environ)
            assert child.wait(30) == 1 and "0077_future.sql" in child.output() and "Traceback" not in child.output()


def _check(broken: Database) -> None:
    with open_connection(broken.settings.admin()) as connection:
        check_current(connection)


def test_the_api_account_cannot_write_the_change_log(database: Database) -> None:
    denied(
        database.settings.api(),
        "INSERT INTO sync_changes (company_id, version) VALUES (1, 1)",
        *(f"DELETE FROM {table}" for table in LOG_TABLES),
        "UPDATE sync_changes SET data = ''",
        "UPDATE sync_state SET head = 1",
        "UPDATE sync_live SET version = 1",
        "DELETE FROM sync_origins",
        "UPDATE sync_pushed SET status = 'applied'",
        "DELETE FROM record_identities",
        "UPDATE sync_audit SET actor = ''",
        "DELETE FROM sync_pushed",
        "UPDATE sync_retention SET images_from = 1",
        "INSERT INTO sync_pruned (first_version) VALUES (1)",
        "DROP TABLE parties",
        "ALTER TABLE parties ADD COLUMN x INT",
        "TRUNCATE TABLE parties",
        "CREATE TABLE x (id INT)",
    )


@pytest.mark.parametrize("role", ["tailer", "operator"])
def test_tailer_and_operator_cannot_write_domain_tables(database: Database, role: str) -> None:
    address = getattr(database.settings, role)()
    statements = []
    for table in (*TABLES, "logins", "sync_origins", "record_identities", "sync_pushed", "sync_deliveries"):
        statements += [f"INSERT INTO {table} (company_id) VALUES (1)", f"UPDATE {table} SET created_at = NOW()"]
        if table not in ("sync_origins", "sync_pushed"):  # retention deletes what nothing can ask for
            statements.append(f"DELETE FROM {table}")
    statements += [
        "TRUNCATE TABLE parties",
        "DROP TABLE sync_changes",
        "UPDATE sync_changes SET data = ''",
        "DELETE FROM sync_audit",
    ]
    denied(address, *statements)


def test_each_account_may_what_its_work_needs(database: Database) -> None:
    for address, statements in {
        database.settings.api(): [
            "SELECT 1 FROM sync_changes LIMIT 1",
            "SELECT 1 FROM sync_state FOR SHARE",
            "DELETE FROM parties WHERE 0",
        ],
        database.settings.tailer(): [
            "SELECT 1 FROM parties LIMIT 1",
            "DELETE FROM sync_changes WHERE version > 99",
            "SHOW BINARY LOGS",
        ],
        database.settings.operator(): ["SELECT 1 FROM parties LIMIT 1", "DELETE FROM sync_changes WHERE version > 99"],
    }.items():
        with open_connection(address) as connection, connection.cursor() as cursor:
            for statement in statements:
                try:
                    cursor.execute(statement)
                except pymysql.err.OperationalError as problem:
                    pytest.fail(f"{address.user}: {statement}: {problem}")


def test_two_programs_that_migrate_at_once_take_turns(stack: Stack) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with stack.database() as shared, SqlClient(shared.settings) as sql:
        sql.run(f"DROP DATABASE {shared.name}")
        with ThreadPoolExecutor() as pool:
            applied: list[Any] = list(pool.map(migrate, [shared.settings] * 3))
        assert sorted(map(len, applied)) == [0, 0, len(read_migrations())]
        sql.run(f"USE {shared.name}")
