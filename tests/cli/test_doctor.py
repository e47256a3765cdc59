"""`matrix-sync doctor` on a system that is well, and on ones that are broken in one place or in many."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from cli.embedded.claim import free_port
from cli.embedded.process import Child
from schema.migrations import migrate
from schema.witness import witness_file, witness_key
from tests.cli.commands import run, run_json
from tests.cli.test_tail import wait_for
from tests.servers import Database, Stack
from tests.sql_client import SqlClient


@pytest.fixture(scope="module")
def database(stack: Stack) -> Iterator[Database]:
    """One for the whole file; every test mends what it breaks."""
    with stack.database() as shared:
        yield shared


def findings(database: Database) -> dict[str, dict[str, Any]]:
    """By code, the last of each."""
    (told,) = run_json(database, "doctor")
    assert told["ok"] is all(finding["level"] != "fatal" for finding in told["findings"])
    return {finding["code"]: finding for finding in told["findings"]}


def broken(database: Database, tmp_path: Path, **values: str) -> dict[str, str]:
    """An environment with other settings; an empty one is left out."""
    lines = Path(database.environ["SYNC_CONFIG"]).read_text().splitlines()
    kept = [line for line in lines if line.partition(" = ")[0] not in values]
    config = tmp_path / "broken.toml"
    config.write_text("\n".join([*kept, *(f'{name} = "{value}"' for name, value in values.items() if value)]))
    return {"SYNC_CONFIG": str(config)}


def test_a_system_that_is_well_exits_0_and_says_so(database: Database) -> None:
    result = run(database, "doctor")
    assert result.exit_code == 0, result.output
    assert "0 fatal" in result.stdout
    found = findings(database)
    assert {code for code, finding in found.items() if finding["level"] == "ok"} >= {
        "gtid_mode",
        "schema",
        "privileges_api",
        "privileges_operator",
        "privileges_tailer",
        "redis",
    }
    assert "can set sql_log_bin" in found["sql_log_bin"]["message"]
    assert found["tailer"]["level"] == "warning"


def test_everything_that_is_wrong_is_told_at_once(database: Database, sql: SqlClient) -> None:
    api = database.settings.api().user
    sql.run(
        "SET GLOBAL binlog_row_image = MINIMAL",
        "SET GLOBAL sync_binlog = 0",
        "ALTER TABLE settings MODIFY name VARCHAR(100) NOT NULL",
        f"REVOKE INSERT ON {database.name}.sync_pushed FROM {api}",
    )
    try:
        result = run(database, "doctor")
        found = findings(database)
    finally:
        sql.run(
            "SET GLOBAL binlog_row_image = FULL",
            "SET GLOBAL sync_binlog = 1",
            "ALTER TABLE settings MODIFY name VARCHAR(255) NOT NULL",
        )
        migrate(database.settings)
    assert result.exit_code == 1
    assert result.stdout.index("fatal") < result.stdout.index("warning") < result.stdout.index("ok ")
    assert found["binlog_row_image"]["level"] == "fatal"
    assert found["sync_binlog"]["level"] == "warning"
    assert found["schema_differs"]["message"] == "settings.name is varchar(100) NOT NULL, not varchar(255) NOT NULL"
    assert found["privileges_api"]["message"] == f"the api account lacks INSERT ON {database.name}.sync_pushed"
    assert all(finding["remedy"] for finding in found.values() if finding["level"] != "ok")


def test_a_mysql_that_is_away_is_a_finding_and_redis_is_asked_all_the_same(database: Database, tmp_path: Path) -> None:
    port = free_port()
    away = {f"mysql_{role}url": f"mysql://a:b@127.0.0.1:{port}/x" for role in ("", "api_", "tailer_", "operator_")}
    result = run(broken(database, tmp_path, **away, mysql_socket=""), "doctor")
    assert result.exit_code == 1
    assert f"MySQL at 127.0.0.1:{port} does not answer" in " ".join(result.stdout.split())
    assert "Redis answers" in result.stdout


def test_settings_that_are_missing_or_wrong_are_named(database: Database, tmp_path: Path) -> None:
    environ = broken(database, tmp_path, mysql_api_url="nonsense", jwt_secret="", redis_url=f"redis://127.0.0.1:{free_port()}")
    shown = " ".join(run(environ, "doctor").stdout.split())
    assert "SYNC_JWT_SECRET is not set" in shown
    assert "SYNC_MYSQL_API_URL: a MySQL URL is not of the form" in shown
    assert "Redis does not answer" in shown
    assert "nonsense" not in shown


def test_a_wrong_password_never_stands_in_the_answer(database: Database, tmp_path: Path) -> None:
    url = database.settings.tailer().url()
    password = database.settings.tailer().password
    shown = run(broken(database, tmp_path, mysql_tailer_url=url.replace(password, "hunter2")), "doctor").output
    assert f"MySQL refuses {database.settings.tailer().user}" in " ".join(shown.split())
    assert "hunter2" not in shown


def test_an_older_and_a_newer_database_are_told_apart(database: Database, sql: SqlClient) -> None:
    newest = sql.value("SELECT MAX(id) FROM schema_migrations")
    sql.run("UPDATE schema_migrations SET id = 99 ORDER BY id DESC LIMIT 1")
    newer = findings(database)
    sql.run(f"UPDATE schema_migrations SET id = {newest}, statements_done = statements_done - 1 WHERE id = 99")
    older = findings(database)
    sql.run("UPDATE schema_migrations SET statements_done = statements")
    assert newer["database_newer"]["level"] == older["database_older"]["level"] == "fatal"


def test_a_running_tailer_is_named_and_a_halted_one_is_fatal(stack: Stack) -> None:
    with stack.database() as database, SqlClient(database.settings) as sql:
        tailer: Child = stack.spawn("tail", environ=database.environ)
        sql.wait_for_tailer()
        assert f"pid {tailer.pid}" in findings(database)["tailer"]["message"]
        sql.run("TRUNCATE settings")
        wait_for(lambda: not tailer.is_running)
        halted = findings(database)["halted"]
        assert "TRUNCATE of settings may have changed rows" in halted["message"]
        assert "checkpoint skip" in halted["remedy"]
        gtid = sql.value("SELECT details->>'$.gtid' FROM sync_audit WHERE action = 'halted'")
        assert run(database, "checkpoint", "skip", "--gtid", gtid, "--reason", "it was empty", "--yes").exit_code == 0
        assert findings(database)["last_halt"]["level"] == "ok"


def test_where_the_witness_is_kept_is_told_and_where_it_is_missing(stack: Stack, tmp_path: Path) -> None:
    with stack.database() as database, SqlClient(database.settings) as sql:
        assert "nothing to witness yet" in findings(database)["witness"]["message"]
        tailer: Child = stack.spawn("tail", environ=database.environ)
        sql.company()
        sql.wait_for_tailer()
        tailer.stop()
        path = witness_file(database.settings, database.name)
        assert findings(database)["witness"]["message"].endswith(f"kept in {path} and in Redis")
        with redis.Redis.from_url(database.settings.redis_url) as client:
            client.delete(witness_key(database.name))
        alone = findings(database)["witness_alone"]
        assert alone["level"] == "warning" and f"{path} only" in alone["message"]
        path.unlink()
        missing = findings(database)["witness_missing"]
        assert missing["level"] == "warning" and "checkpoint adopt" in missing["remedy"]
        (tmp_path / "file").write_text("")
        elsewhere = broken(database, tmp_path, state_dir=str(tmp_path / "file" / "state"))
        unwritable = findings(Database(database.settings, elsewhere))["witness_unwritable"]
        assert f"{tmp_path}/file/state/{database.name}.witness cannot be written" in unwritable["message"]


def test_a_tailer_that_is_stopped_is_told_from_one_that_is_idle(stack: Stack) -> None:
    """It keeps its lease, as nobody waits for it; only its silence tells."""
    with stack.database() as database, SqlClient(database.settings) as sql:
        tailer: Child = stack.spawn("tail", environ=database.environ)
        sql.wait_for_tailer()
        sql.value("SELECT SLEEP(3.2)")
        assert "tailer_silent" not in findings(database), "idle, and heard of twice a second"
        tailer.pause()
        sql.value("SELECT SLEEP(4.2)")
        silent = findings(database)["tailer_silent"]
        assert silent["level"] == "warning" and "has sent nothing for" in silent["message"]
        tailer.resume()
        sql.value("SELECT SLEEP(1)")
        assert "tailer_silent" not in findings(database)
        tailer.stop()
