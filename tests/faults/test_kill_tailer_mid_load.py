"""The tailer is killed with -9 again and again while 50,000 rows arrive: nothing is lost, nothing twice, no version missing."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from tests.servers import Database, Stack
from tests.sql_client import SqlClient

ROWS = 50_000
KILLS = 6


def in_one_transaction(sql: SqlClient, company: int) -> None:
    sql.run(
        f"SET SESSION cte_max_recursion_depth = {ROWS}",
        "INSERT INTO parties (company_id, name) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
        f"WHERE i < {ROWS}) SELECT {company}, CONCAT('p', i) FROM n",
    )


def in_many_transactions(sql: SqlClient, company: int) -> None:
    for start in range(0, ROWS, 100):
        values = ",".join(f"({company}, 'p{number}')" for number in range(start + 1, start + 101))
        sql.run(f"INSERT INTO parties (company_id, name) VALUES {values}")


@pytest.mark.parametrize("load", [in_one_transaction, in_many_transactions])
def test_kills_in_the_middle_of_a_load_lose_and_double_nothing(
    stack: Stack, database: Database, sql: SqlClient, load: Callable[[SqlClient, int], None]
) -> None:
    """Acknowledged: all rows. Killed: the tailer, at random moments. Must hold: one change a row, in order, without a gap."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    moments = random.Random(seed)
    company = sql.company()
    load(sql, company)
    for _ in range(KILLS):
        child = stack.spawn("tail", environ=database.environ)
        time.sleep(moments.uniform(0.5, 2.5))
        child.kill()
        head = sql.value("SELECT head FROM sync_state")
        [(shown, distinct, lowest)] = sql.rows(
            "SELECT COUNT(*), COUNT(DISTINCT version), MIN(version) FROM sync_changes WHERE version <= %s", head
        )
        assert shown == distinct == head - 1 and lowest in (2, None), "what is shown has no gap at any moment"
    child = stack.spawn("tail", environ=database.environ)
    head = sql.wait_for_tailer(120)
    child.stop()
    assert head == ROWS + 2
    assert sql.value("SELECT COUNT(*) FROM sync_changes") == ROWS + 1
    assert sql.value("SELECT COUNT(DISTINCT record_id) FROM sync_changes WHERE table_name = 'parties'") == ROWS
    assert sql.value("SELECT COUNT(*) FROM sync_live WHERE company_id = %s AND table_name = 'parties'", company) == ROWS
    in_order = "SELECT record_id, LAG(record_id) OVER (ORDER BY version) AS earlier FROM sync_changes WHERE table_name = 'parties'"
    assert sql.value(f"SELECT COUNT(*) FROM ({in_order}) t WHERE record_id <= earlier") == 0
