"""`matrix-sync tail` as a process: how it stops, stands by, refuses and halts."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.embedded.process import Child
from tests.servers import Database, Stack
from tests.sql_client import SqlClient


def ended(child: Child, seconds: float = 15) -> int:
    """The exit code of a child that ends by itself."""
    deadline = time.monotonic() + seconds
    while child.is_running:
        assert time.monotonic() < deadline, child.output()
        time.sleep(0.02)
    code = child.exit_code
    assert code is not None
    return code


def wait_for(happened: Callable[[], object], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_with_exit_code_0(signum: signal.Signals, stack: Stack, database: Database, sql: SqlClient) -> None:
    tailer = stack.spawn("tail", environ=database.environ)
    sql.company()
    sql.wait_for_tailer()
    title = subprocess.run(["ps", "-o", "args=", str(tailer.pid)], capture_output=True, text=True, check=True).stdout
    assert title.strip() == "matrix-sync tail"
    os.kill(tailer.pid or 0, signum)
    assert ended(tailer, 5) == 0


def test_a_second_one_is_refused_and_names_the_first(stack: Stack, database: Database, tailer: Child, sql: SqlClient) -> None:
    sql.wait_for_tailer()
    second = stack.spawn("tail", environ=database.environ)
    assert ended(second) == 1
    assert "another tailer holds the lease: " in second.output()
    assert f"pid {tailer.pid}" in second.output()
    assert "--standby" in second.output()


def test_a_standby_takes_over_from_one_that_was_killed(stack: Stack, database: Database, sql: SqlClient) -> None:
    first = stack.spawn("tail", environ=database.environ)
    company = sql.company()
    sql.wait_for_tailer()
    second = stack.spawn("tail", "--standby", environ=database.environ)
    wait_for(lambda: "standby" in second.output())
    first.kill()
    sql.run(f"INSERT INTO products (company_id, name) VALUES ({company}, 'Tea')")
    sql.wait_for_tailer()
    assert [row["operation"] for row in sql.changes(company)] == ["INSERT", "INSERT"]
    second.stop()
    assert second.exit_code == 0


def test_a_waiting_standby_stops_at_a_signal(stack: Stack, database: Database, tailer: Child, sql: SqlClient) -> None:
    sql.wait_for_tailer()
    second = stack.spawn("tail", "--standby", environ=database.environ)
    wait_for(lambda: "standby" in second.output())
    os.kill(second.pid or 0, signal.SIGTERM)
    assert ended(second, 5) == 0


def test_a_wrong_setting_is_one_message_with_its_remedy(stack: Stack, database: Database, sql: SqlClient) -> None:
    sql.run("SET GLOBAL binlog_row_image = MINIMAL")
    try:
        tailer = stack.spawn("tail", environ=database.environ)
        assert ended(tailer) == 1
    finally:
        sql.run("SET GLOBAL binlog_row_image = FULL")
    assert "binlog_row_image is MINIMAL: row events lack columns" in tailer.output()
    assert "→ SET PERSIST binlog_row_image = FULL" in tailer.output()
    assert "Traceback" not in tailer.output()


def test_a_database_that_is_older_says_what_to_run(stack: Stack, database: Database, sql: SqlClient) -> None:
    sql.run("DELETE FROM schema_migrations ORDER BY id DESC LIMIT 1")
    tailer = stack.spawn("tail", environ=database.environ)
    assert ended(tailer) == 1
    assert "run `matrix-sync migrate`" in tailer.output()


def test_without_settings_it_says_which_one_is_missing(stack: Stack, tmp_path: Path) -> None:
    config = tmp_path / "empty.toml"
    config.touch()
    tailer = stack.spawn("tail", environ={"SYNC_CONFIG": str(config)})
    assert ended(tailer) == 1
    assert "SYNC_MYSQL_TAILER_URL is not set" in tailer.output()


def test_a_halt_says_where_why_and_what_to_do(stack: Stack, database: Database, tailer: Child, sql: SqlClient) -> None:
    sql.wait_for_tailer()
    executed = sql.value("SELECT gtid_set FROM sync_state")
    sql.run("TRUNCATE settings")
    assert ended(tailer) == 3
    told = tailer.output()[tailer.output().index("matrix-sync: ") :]
    assert "TRUNCATE of settings may have changed rows without row events" in told
    assert "  transaction  " in told
    assert "  position     binlog." in told
    assert f"  checkpoint   {executed.split(':')[0]}:" in told
    assert "checkpoint skip --gtid" in told
    assert sql.value("SELECT details->>'$.code' FROM sync_audit WHERE action = 'halted'") == "ddl_changed_rows"
