"""What MySQL must be before the tailer reads it: each setting switched on a real server, as the tailer's account sees it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from pymysql.connections import Connection

from cdc.findings import Level
from cdc.preflight import find_problems, require_ready
from cdc.privileges import check_privileges, needed_grants, parse_grants
from cdc.server_settings import Server, check_version
from cli.embedded.mysql_server import MySQLServer
from schema.connect import open_connection
from schema.errors import StartError
from schema.migrations import migrate
from tests.cdc.background import Background
from tests.cli.test_tail import wait_for
from tests.servers import SMALL, Database, Stack
from tests.sql_client import SqlClient

FATAL_SETTINGS = {
    "binlog_row_image": "MINIMAL",
    "binlog_row_metadata": "MINIMAL",
    "binlog_format": "STATEMENT",
    "super_read_only": "ON",
    "gtid_mode": "ON_PERMISSIVE",
}
WARNING_SETTINGS = {
    "sync_binlog": 0,
    "innodb_flush_log_at_trx_commit": 2,
    "binlog_expire_logs_seconds": 3600,
    "binlog_rows_query_log_events": "OFF",
    "max_allowed_packet": 16 * 1024 * 1024,
    "binlog_checksum": "NONE",
}


@pytest.fixture(scope="module")
def database(stack: Stack) -> Iterator[Database]:
    """One for the whole file: nothing here writes rows, and what a test takes away it gives back."""
    with stack.database() as shared:
        yield shared


@contextmanager
def switched(sql: SqlClient, name: str, value: Any) -> Iterator[None]:
    """A global variable with another value for a while."""
    before = sql.rows("SHOW GLOBAL VARIABLES LIKE %s", name)
    if not before:
        pytest.skip(f"this server has no {name}")
    sql.rows(f"SET GLOBAL {name} = %s", value)
    try:
        yield
    finally:
        old = before[0][1]
        sql.rows(f"SET GLOBAL {name} = %s", int(old) if old.isdecimal() else old)
        if name == "super_read_only":
            sql.run("SET GLOBAL read_only = OFF")


def levels(connection: Connection[Any], database: Database) -> dict[str, Level]:
    return {finding.code: finding.level for finding in find_problems(connection, database.settings)}


def test_a_server_as_we_set_it_up_has_nothing_fatal(connection: Connection[Any], database: Database, sql: SqlClient) -> None:
    with switched(sql, "binlog_rows_query_log_events", "ON"):
        found = find_problems(connection, database.settings)
    assert {f.code for f in found if f.level is not Level.OK} == {"sql_log_bin"}
    require_ready(connection, database.settings)


@pytest.mark.parametrize("name", FATAL_SETTINGS)
def test_a_setting_that_loses_changes_is_fatal(name: str, connection: Connection[Any], database: Database, sql: SqlClient) -> None:
    with switched(sql, name, FATAL_SETTINGS[name]):
        assert levels(connection, database)[name] is Level.FATAL
        with pytest.raises(StartError, match=name):
            require_ready(connection, database.settings)
    require_ready(connection, database.settings)


@pytest.mark.parametrize("name", WARNING_SETTINGS)
def test_a_setting_that_risks_changes_is_a_warning(
    name: str, connection: Connection[Any], database: Database, sql: SqlClient
) -> None:
    with switched(sql, name, WARNING_SETTINGS[name]):
        assert levels(connection, database)[name] is Level.WARNING
        require_ready(connection, database.settings)
    assert levels(connection, database)[name] is Level.OK


def test_every_fatal_finding_stands_in_one_message_with_its_remedy(
    connection: Connection[Any], database: Database, sql: SqlClient
) -> None:
    with (
        switched(sql, "binlog_row_image", "NOBLOB"),
        switched(sql, "binlog_row_metadata", "MINIMAL"),
        pytest.raises(StartError) as stopped,
    ):
        require_ready(connection, database.settings)
    assert stopped.value.details["findings"] == ["binlog_row_image", "binlog_row_metadata"]
    assert "SET PERSIST binlog_row_image = FULL" in stopped.value.message
    assert "SET PERSIST binlog_row_metadata = FULL" in stopped.value.message


def test_a_read_only_server_is_fatal_for_an_account_that_cannot_pass_it(
    connection: Connection[Any], database: Database, sql: SqlClient
) -> None:
    with switched(sql, "read_only", "ON"):
        assert levels(connection, database)["read_only"] is Level.FATAL


@pytest.mark.parametrize(
    ("revoke", "named"),
    [
        ("REPLICATION SLAVE ON *.*", "REPLICATION SLAVE"),
        ("REPLICATION CLIENT ON *.*", "REPLICATION CLIENT"),
        ("SELECT ON {database}.*", "SELECT ON"),
        ("INSERT ON {database}.sync_changes", "INSERT ON"),
        ("UPDATE ON {database}.sync_state", "UPDATE ON"),
    ],
)
def test_a_missing_privilege_is_fatal_and_named(revoke: str, named: str, database: Database, sql: SqlClient) -> None:
    address = database.settings.tailer()
    sql.rows(f"REVOKE {revoke.format(database=database.name)} FROM %s", address.user)
    try:
        with open_connection(address, with_database=False) as fresh, pytest.raises(StartError, match=named):
            require_ready(fresh, database.settings)
    finally:
        migrate(database.settings)


def test_a_privilege_by_an_active_role_counts(database: Database, sql: SqlClient) -> None:
    address, role = database.settings.tailer(), f"{database.name}_role"
    sql.rows("CREATE ROLE %s", role)
    try:
        sql.rows("GRANT REPLICATION SLAVE ON *.* TO %s", role)
        sql.rows("REVOKE REPLICATION SLAVE ON *.* FROM %s", address.user)
        sql.rows("GRANT %s TO %s", role, address.user)
        with open_connection(address) as fresh:
            with pytest.raises(StartError, match="REPLICATION SLAVE"):
                require_ready(fresh, database.settings)
            with fresh.cursor() as cursor:
                cursor.execute("SET ROLE %s", (role,))
            require_ready(fresh, database.settings)
    finally:
        sql.rows("DROP ROLE %s", role)
        migrate(database.settings)


def test_a_cascade_on_a_synced_table_is_fatal_and_named(connection: Connection[Any], database: Database, sql: SqlClient) -> None:
    sql.run("ALTER TABLE products ADD CONSTRAINT eager FOREIGN KEY (company_id) REFERENCES companies (id) ON DELETE CASCADE")
    try:
        with pytest.raises(StartError, match=r"products\.eager \(ON DELETE CASCADE"):
            require_ready(connection, database.settings)
    finally:
        sql.run("ALTER TABLE products DROP FOREIGN KEY eager")


def test_a_cascade_on_a_table_that_is_not_synced_is_allowed(
    connection: Connection[Any], database: Database, sql: SqlClient
) -> None:
    sql.run(
        "CREATE TABLE notes (id INT PRIMARY KEY, company_id BIGINT UNSIGNED,"
        " FOREIGN KEY (company_id) REFERENCES companies (id) ON DELETE CASCADE)"
    )
    require_ready(connection, database.settings)


def test_a_synced_table_of_another_engine_or_key_is_fatal(stack: Stack) -> None:
    with (
        stack.database() as fresh,
        SqlClient(fresh.settings) as sql,
        open_connection(fresh.settings.tailer()) as connection,
    ):
        sql.run("SET SESSION foreign_key_checks = 0", "DROP TABLE settings", "CREATE TABLE settings (id BIGINT) ENGINE = MyISAM")
        found = {f.code: f.message for f in find_problems(connection, fresh.settings)}
    assert found["tables"] == "settings is MyISAM, not InnoDB; settings has nothing as its primary key, not (id)"


@contextmanager
def private(stack: Stack, name: str, options: dict[str, str]) -> Iterator[tuple[Database, SqlClient, Connection[Any]]]:
    """A server with settings that cannot be switched while it runs."""
    with (
        stack.private_mysql(name, options) as server,
        stack.database(server) as database,
        SqlClient(database.settings) as sql,
        open_connection(database.settings.tailer()) as connection,
    ):
        yield database, sql, connection


def test_filters_and_a_replica_that_logs_nothing_are_fatal(stack: Stack) -> None:
    options = {"binlog-ignore-db": "elsewhere", "log-replica-updates": "OFF", "replicate-ignore-db": "elsewhere"}
    with private(stack, "filtered", options) as (database, sql, connection):
        assert levels(connection, database)["binlog_filter"] is Level.FATAL
        assert levels(connection, database)["replica"] is Level.OK
        sql.run("CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1'")
        assert levels(connection, database)["replica"] is Level.FATAL
        assert "log_replica_updates" in _stopped(connection, database).message


def test_a_replica_that_leaves_changes_out_is_fatal(stack: Stack) -> None:
    with private(stack, "replica", {"replicate-wild-ignore-table": "a.%"}) as (database, sql, connection):
        sql.run("CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1'")
        assert levels(connection, database)["replica_filter"] is Level.FATAL


def test_a_server_without_binlog_is_fatal(stack: Stack) -> None:
    with private(stack, "unlogged", {"skip-log-bin": ""}) as (database, _, connection):
        assert "there is no binlog" in _stopped(connection, database).message


def _stopped(session: Connection[Any], database: Database) -> StartError:
    with pytest.raises(StartError) as stopped:
        require_ready(session, database.settings)
    return stopped.value


@pytest.mark.parametrize(
    ("server", "code"),
    [
        (Server((11, 8, 2), "11.8.2-MariaDB-1", True, {}), "mariadb"),
        (Server((5, 7, 44), "5.7.44-log", False, {}), "version"),
    ],
)
def test_mariadb_and_old_versions_are_refused(server: Server, code: str) -> None:
    found = check_version(server)
    assert (found.level, found.code) == (Level.FATAL, code)


def test_privileges_are_found_behind_wildcards_and_taken_off_by_partial_revokes() -> None:
    lines = [
        "GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO `t`@`%`",
        "GRANT INSERT, UPDATE, DELETE ON `bo\\_oks%`.* TO `t`@`%`",
        "GRANT INSERT (`a`, `b`), REFERENCES ON `other`.`x` TO `t`@`%`",
    ]
    assert check_privileges(parse_grants(lines), "tailer", "bo_oks").level is Level.OK
    assert check_privileges(parse_grants(lines), "tailer", "boxoks").level is Level.FATAL
    revoked = check_privileges(parse_grants([*lines, "REVOKE SELECT ON `bo_oks`.* FROM `t`@`%`"]), "tailer", "bo_oks")
    assert revoked.message == "the tailer account lacks SELECT ON bo_oks.*"
    assert not parse_grants(lines).allow("INSERT", "other", "x")


def test_what_an_account_needs_is_what_the_grants_file_says() -> None:
    needed = {(grant.database, grant.table): grant.what for grant in needed_grants("tailer", "books")}
    assert needed["*", "*"] == {"REPLICATION SLAVE", "REPLICATION CLIENT"}
    assert needed["books", "sync_changes"] == {"INSERT", "DELETE"}
    assert ("books", "products") not in needed


def test_a_full_disk_and_a_wrong_clock_are_warnings_only(
    connection: Connection[Any], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdc.surroundings.DISK_BYTES_MIN", 1 << 60)
    monkeypatch.setattr("cdc.surroundings.CLOCK_SECONDS_MAX", -1.0)
    found = levels(connection, database)
    assert found["disk"] is Level.WARNING
    assert found["clock"] is Level.WARNING
    require_ready(connection, database.settings)


def test_a_state_directory_that_is_not_there_yet_is_measured_where_it_will_be(
    connection: Connection[Any], database: Database
) -> None:
    settings = replace(database.settings, state_dir="state/not/made/yet")
    assert next(f.level for f in find_problems(connection, settings) if f.code == "disk") is Level.OK


def test_a_database_that_the_binlog_calls_otherwise_than_the_url_is_fatal(stack: Stack) -> None:
    """Where MySQL folds names every spelling connects, and the changes of all but one would be another database's."""
    server = MySQLServer(stack.directory / "folding", options={**SMALL, "lower-case-table-names": 1})
    with server, stack.database(server) as database:
        with open_connection(database.settings.tailer()) as session:
            require_ready(session, database.settings)
        shouted = database.settings.tailer().database.upper()
        address = replace(database.settings.tailer(), database=shouted)
        other = replace(database.settings, mysql_tailer_url=address.url())
        with open_connection(other.tailer()) as session:
            wrong = {finding.code: finding for finding in find_problems(session, other)}["database_name"]
            assert wrong.level is Level.FATAL and f"write {database.name} in" in wrong.remedy
        tailer = Background(other)
        with tailer:
            wait_for(lambda: tailer.has_ended)
        assert isinstance(tailer.reason, StartError) and "database_name" in tailer.reason.details["findings"]
