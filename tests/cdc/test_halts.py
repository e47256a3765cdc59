"""What stops the tailer and what only interrupts it, and what it keeps in either case."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pymysql
import pytest
from pymysql.connections import Connection

from cdc.decode import RowChange
from cdc.follow import Follower
from cdc.gtid import Gtid
from cdc.items import Rows, TxBegin
from cdc.state import read_state
from cdc.tailer import _classed
from schema.errors import Halt, Retry
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

HALTED = 3
UUID = "11111111-1111-1111-1111-111111111111"


def test_whole_transactions_before_a_halt_are_stored_and_nothing_of_the_one_that_halts(
    stack: Stack, database: Database, sql: SqlClient
) -> None:
    company = sql.company()
    party = sql.run(f"INSERT INTO parties (company_id, name) VALUES ({company}, 'before it')")
    before = sql.value("SELECT @@GLOBAL.gtid_executed")
    sql.run(
        "SET SESSION binlog_row_image = MINIMAL",
        "START TRANSACTION",
        f"INSERT INTO parties (company_id, name) VALUES ({company}, 'in it')",
        f"UPDATE parties SET phone = '2' WHERE id = {party}",
        "COMMIT",
    )
    child = stack.spawn("tail", environ=database.environ)  # it meets all of this at once
    assert child.wait(30) == HALTED, child.output()[-2000:]
    data = [change["data"] for change in sql.changes(company)]
    assert any("before it" in row for row in data) and not any("in it" in row for row in data)
    stored = sql.value("SELECT gtid_set FROM sync_state")
    assert sql.value("SELECT GTID_SUBSET(%s, %s)", before, stored) == 1
    assert sql.value("SELECT GTID_SUBSET(@@GLOBAL.gtid_executed, %s)", stored) == 0


def test_rows_that_cannot_be_made_changes_halt_with_their_place(connection: Connection[Any], database: Database) -> None:
    state = read_state(connection)
    follower = Follower(connection, database.settings, state, lambda *_: None)
    follower.take(TxBegin(Gtid(UUID, "", 7), 1, 0, "binlog.000007", 1234))
    columns: Any = SimpleNamespace(names=("id", "kind", "device_id"))
    with pytest.raises(Halt, match="not_derivable") as halt:
        follower.take(Rows("sync_origins", columns, None, [RowChange("insert", None, (1, "nobody", None))]))
    place = {name: halt.value.details[name] for name in ("gtid", "file", "pos")}
    assert place == {"gtid": f"{UUID}:7", "file": "binlog.000007", "pos": 1234}
    assert read_state(connection) == state


@pytest.mark.parametrize("number", [1153, 1301, 1366, 1406, 1264, 3140])
def test_what_the_change_log_cannot_hold_is_a_halt_and_a_lost_connection_a_retry(number: int) -> None:
    assert isinstance(_classed(pymysql.err.OperationalError(number, "too long")), Halt), "a retry would meet it again"
    assert isinstance(_classed(pymysql.err.IntegrityError(1062, "duplicate")), Halt)
    for lost in (
        pymysql.err.OperationalError(2013, "lost"),
        pymysql.err.OperationalError(1290, "read only"),
        OSError(104, "reset"),
    ):
        assert isinstance(_classed(lost), Retry)
