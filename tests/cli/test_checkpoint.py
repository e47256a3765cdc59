"""`matrix-sync checkpoint`: showing where the tailer stands, and passing over a transaction that halted it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from pymysql.connections import Connection

from cdc.lease import take_lease
from cdc.log import LargeTx, append
from cdc.state import read_state
from cli.embedded.process import Child
from schema.errors import LeaseLost
from tests.cdc.history import inserted, tx
from tests.cli.commands import run, run_json
from tests.cli.test_tail import ended
from tests.servers import Database, Stack
from tests.sql_client import SqlClient


def test_it_shows_where_the_tailer_stands(database: Database, tailer: Child, sql: SqlClient) -> None:
    sql.company()
    head = sql.wait_for_tailer()
    (told,) = run_json(database, "checkpoint", "show")
    assert (told["epoch"], told["head"], told["halted"]) == (0, head, None)
    assert told["gtid_set"] == sql.value("SELECT gtid_set FROM sync_state")
    assert f"pid {tailer.pid}" in told["holder"]
    assert told["position"].startswith("binlog.")
    shown = run(database, "checkpoint", "show").stdout
    assert told["gtid_set"] in shown
    tailer.stop()
    (told,) = run_json(database, "checkpoint", "show")
    sql.run("INSERT INTO companies (name) VALUES ('unread')")
    (behind,) = run_json(database, "checkpoint", "show")
    assert told["holder"] is None
    assert behind["behind_txs"] == told["behind_txs"] + 1


def test_a_skip_is_refused_while_a_tailer_runs(database: Database, tailer: Child, sql: SqlClient) -> None:
    sql.wait_for_tailer()
    gtid = sql.value("SELECT gtid FROM sync_tx LIMIT 1")
    result = run(database, "checkpoint", "skip", "--gtid", gtid, "--reason", "test", "--yes")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "a tailer is running" in result.stderr
    assert not sql.rows("SELECT 1 FROM sync_audit")


def test_after_a_skip_the_tailer_goes_on_and_the_audit_says_who_and_why(
    stack: Stack, database: Database, tailer: Child, sql: SqlClient
) -> None:
    company = sql.company()
    sql.wait_for_tailer()
    sql.run("SET SESSION binlog_row_image = MINIMAL", "UPDATE companies SET name = 'hidden'")
    sql.run("SET SESSION binlog_row_image = FULL", "UPDATE companies SET phone = '7'")
    assert ended(tailer) == 3
    halt = orjson.loads(sql.value("SELECT details FROM sync_audit WHERE action = 'halted'"))
    (skipped,) = run_json(database, "checkpoint", "skip", "--gtid", halt["gtid"], "--reason", "a tool wrote it", "--yes")
    assert skipped["skipped"] is True

    again = stack.spawn("tail", environ=database.environ)
    sql.wait_for_tailer()
    again.stop()
    assert [row["operation"] for row in sql.changes(company)] == ["INSERT", "UPDATE"]
    actor, details = sql.rows("SELECT actor, details FROM sync_audit WHERE action = 'checkpoint_skipped'")[0]
    noted = orjson.loads(details)
    assert "@" in actor
    assert (noted["gtids"], noted["reason"]) == (halt["gtid"], "a tool wrote it")
    assert noted["before"] == halt["checkpoint"]
    assert noted["after"] == skipped["after"]


def test_a_replay_leaves_out_what_was_skipped(stack: Stack, database: Database, sql: SqlClient) -> None:
    sql.company()
    before = sql.value("SELECT gtid_set FROM sync_state")
    gtid = sql.value("SELECT GTID_SUBTRACT(@@GLOBAL.gtid_executed, %s)", before).replace("\n", "").split("-")[-1]
    uuid = before.partition(":")[0]
    assert run(database, "checkpoint", "skip", "--gtid", f"{uuid}:{gtid}", "--reason", "test", "--yes").exit_code == 0
    tailer = stack.spawn("tail", environ=database.environ)
    sql.company("Kept")
    sql.wait_for_tailer()
    tailer.stop()
    told = run_json(database, "replay", "--from", before, "--dry-run")[-1]
    assert (told["differences"], told["txs_outside"], told["changes"]) == (0, 1, 1)


def test_a_skip_of_what_the_checkpoint_holds_does_nothing(database: Database, sql: SqlClient) -> None:
    uuid = sql.value("SELECT server_uuid FROM sync_state")
    assert run_json(database, "checkpoint", "skip", "--gtid", f"{uuid}:1", "--reason", "twice", "--yes")[0]["skipped"] is False
    assert not sql.rows("SELECT 1 FROM sync_audit")


def test_a_skip_asks_first_and_needs_a_reason_and_a_transaction_that_there_was(database: Database, sql: SqlClient) -> None:
    uuid = sql.value("SELECT server_uuid FROM sync_state")
    executed = sql.value("SELECT GTID_SUBTRACT(@@GLOBAL.gtid_executed, gtid_set) FROM sync_state").split("-")[-1]
    gtid = f"{uuid}:{executed.rpartition(':')[2]}"
    before = sql.rows("SELECT * FROM sync_state")
    assert run(database, "checkpoint", "skip", "--gtid", gtid, "--reason", "why", stdin="n\n").exit_code == 1
    assert run(database, "checkpoint", "skip", "--gtid", gtid, "--reason", " ", "--yes").exit_code == 1
    assert run(database, "checkpoint", "skip", "--gtid", "tea", "--reason", "why", "--yes").exit_code == 2
    unknown = run(database, "checkpoint", "skip", "--gtid", f"{uuid}:999999999", "--reason", "why", "--yes")
    assert (unknown.exit_code, "never executed" in unknown.stderr) == (1, True)
    assert sql.rows("SELECT * FROM sync_state") == before


def unread(sql: SqlClient) -> str:
    """The newest transaction that no tailer has read."""
    executed = sql.value("SELECT GTID_SUBTRACT(@@GLOBAL.gtid_executed, gtid_set) FROM sync_state").replace("\n", "")
    number = executed.rpartition("-" if "-" in executed.rpartition(":")[2] else ":")[2]
    return f"{sql.value('SELECT server_uuid FROM sync_state')}:{number}"


def test_a_tailer_from_before_a_decision_writes_nothing_after_it(
    database: Database, sql: SqlClient, connection: Connection[Any]
) -> None:
    """Its lock went with a connection that it has not missed yet; what it would write is the state from before the decision."""
    take_lease(connection, database.name, wait_seconds=0)
    state = read_state(connection)
    connection.query("DO RELEASE_ALL_LOCKS()")
    sql.company()
    assert run(database, "checkpoint", "skip", "--gtid", unread(sql), "--reason", "test", "--yes").exit_code == 0
    before = sql.rows("SELECT * FROM sync_state")
    with pytest.raises(LeaseLost):
        append(connection, state, [tx(inserted(1))])
    connection.rollback()
    assert sql.rows("SELECT * FROM sync_state") == before


def test_a_decision_trims_what_a_killed_tailer_left_above_the_head(
    database: Database, sql: SqlClient, connection: Connection[Any]
) -> None:
    """The new epoch's head is above them: they would be shown as if they had been committed."""
    take_lease(connection, database.name, wait_seconds=0)
    LargeTx(connection, read_state(connection)).append_part(tx(inserted(1), inserted(2)))
    connection.close()
    assert sql.value("SELECT COUNT(*) FROM sync_changes") == 2
    sql.company()
    assert run(database, "checkpoint", "skip", "--gtid", unread(sql), "--reason", "test", "--yes").exit_code == 0
    assert sql.value("SELECT epoch FROM sync_state") == 1
    assert sql.value("SELECT COUNT(*) FROM sync_changes") == 0
    connection.connect()
