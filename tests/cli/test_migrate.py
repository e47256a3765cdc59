"""`matrix-sync migrate`: once, again, and where it must refuse."""

from __future__ import annotations

from pathlib import Path

from tests.cli.commands import run, run_json
from tests.servers import Database
from tests.sql_client import SqlClient


def test_it_says_what_it_applied_and_nothing_the_second_time(database: Database, sql: SqlClient) -> None:
    sql.run(f"DROP DATABASE {database.name}")
    assert run_json(database, "migrate") == [
        {"database": database.name, "applied": [path.name for path in sorted(Path("sql").glob("0*.sql"))]}
    ]
    assert run_json(database, "migrate") == [{"database": database.name, "applied": []}]
    assert run(database, "migrate").stdout == f"{database.name} is up to date\n"


def test_a_newer_database_is_refused_with_what_to_do(database: Database, sql: SqlClient) -> None:
    sql.run(
        "INSERT INTO schema_migrations (id, name, checksum, statements_done, statements, gtid_set_before)"
        " VALUES (99, '0099_future.sql', REPEAT('x', 32), 1, 1, '')"
    )
    result = run(database, "migrate")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "0099_future.sql" in result.stderr
    assert "upgrade matrix-sync" in result.stderr


def test_without_an_administrator_it_says_which_setting_is_missing(tmp_path: Path) -> None:
    config = tmp_path / "empty.toml"
    config.touch()
    result = run({"SYNC_CONFIG": str(config)}, "migrate", "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert '"code":"setting_missing"' in result.stderr
