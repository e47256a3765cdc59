"""Acknowledged: rows of plain SQL. Meanwhile MySQL begins a new binlog file again and again.

What must hold: no file's beginning or end costs or repeats a change.
"""

from __future__ import annotations

from tests.faults.conftest import StartTail
from tests.faults.kit import assert_nothing_is_wrong, new_seed, writing
from tests.ledger import Ledger
from tests.servers import Database, Stack
from tests.sql_client import SqlClient


def test_fifty_rotations_under_load_lose_and_repeat_nothing(
    stack: Stack, database: Database, sql: SqlClient, start_tail: StartTail, ledger: Ledger
) -> None:
    company = sql.company()
    tailer = start_tail(database)
    with writing(database, company, ledger, new_seed(), rows_max=3):
        for _ in range(50):
            sql.run("FLUSH BINARY LOGS")
    assert_nothing_is_wrong(database, ledger, company, stack.mysql)
    assert "retrying" not in tailer.output()
