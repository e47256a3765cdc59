"""Acknowledged: 20,000 rows by plain SQL. Killed: the tailer, with SIGKILL, several times on the way.

What must hold: nothing lost, nothing twice, no version missing, no part of a transaction ever shown.
"""

from __future__ import annotations

import operator
import random
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from cli.embedded.process import Child
from tests.oracle import Oracle
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

ROWS = 20_000
CATCH_UP_SECONDS = 120
# 20,000 rows: five digits, the first up to 1
_LOAD = """
INSERT INTO parties (company_id, name)
SELECT {company}, CONCAT('Party ', a.d + 10 * b.d + 100 * c.d + 1000 * d.d + 10000 * e.d)
FROM digits a, digits b, digits c, digits d, digits e WHERE e.d < 2
"""


def until(sql: SqlClient, query: str, is_enough: Callable[[Any], bool]) -> Any:
    """Ask until the answer is enough."""
    deadline = time.monotonic() + CATCH_UP_SECONDS
    while not is_enough(found := sql.value(query)):
        assert time.monotonic() < deadline, f"{query} stays {found}"
        time.sleep(0.002)
    return found


def restarted(stack: Stack, database: Database, killed: Child) -> Child:
    """SIGKILL, and a successor that waits for the dead one's connection to end."""
    killed.kill()
    return stack.spawn("tail", "--standby", environ={**database.environ, "SYNC_TAILER_PART_CHANGES_MAX": "2000"})


def assert_exactly_once(sql: SqlClient, company: int) -> None:
    head = sql.value("SELECT head FROM sync_state")
    counted = "SELECT MIN(version), MAX(version), COUNT(*), COUNT(DISTINCT version) FROM sync_changes"
    assert sql.rows(counted) == [(2, head, head - 1, head - 1)], "no version missing, none twice, none above the head"
    assert sql.rows("SELECT COUNT(*), COUNT(DISTINCT record_id) FROM sync_changes WHERE table_name = 'parties'") == [(ROWS, ROWS)]
    lost = "SELECT COUNT(*) FROM parties p LEFT JOIN sync_live l ON l.company_id = p.company_id AND l.table_name = 'parties' "
    assert sql.value(f"{lost} AND l.record_id = p.id WHERE p.company_id = %s AND l.version IS NULL", company) == 0
    sample = Oracle(sql).table("parties", company, where="MOD(id, 1000) = 0")
    for record_id, row in sample.items():
        data = sql.value("SELECT data->>'$.name' FROM sync_changes WHERE table_name = 'parties' AND record_id = %s", record_id)
        assert data == row["name"]


def test_in_the_middle_of_one_transaction(stack: Stack, database: Database, sql: SqlClient) -> None:
    company = sql.company()
    sql.run("CREATE TABLE digits (d INT PRIMARY KEY)", "INSERT INTO digits VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)")
    child = restarted(stack, database, stack.spawn("tail", environ=database.environ))
    head = sql.wait_for_tailer(CATCH_UP_SECONDS)
    sql.run(_LOAD.format(company=company))
    for rows_stored in (1, 5_000, 14_000):
        until(sql, "SELECT COUNT(*) FROM sync_changes WHERE table_name = 'parties'", partial(operator.le, rows_stored))
        shown = sql.rows("SELECT head, (SELECT COUNT(*) FROM sync_live WHERE table_name = 'parties') FROM sync_state")
        assert shown in ([(head, 0)], [(head + ROWS, ROWS)]), "half a transaction is never shown"
        child = restarted(stack, database, child)
    sql.wait_for_tailer(CATCH_UP_SECONDS)
    assert sql.value("SELECT COUNT(DISTINCT tx) FROM sync_changes WHERE table_name = 'parties'") == 1
    assert_exactly_once(sql, company)
    child.stop()
    assert child.exit_code == 0


def test_in_the_middle_of_many_transactions(stack: Stack, database: Database, sql: SqlClient) -> None:
    company = sql.company()
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    child = restarted(stack, database, stack.spawn("tail", environ=database.environ))
    writer = threading.Thread(target=_write_many, args=(database, company))
    writer.start()
    kills = 0
    while writer.is_alive() or kills < 5:
        before = sql.value("SELECT head FROM sync_state")
        until(sql, "SELECT head FROM sync_state", partial(_is_past, before, writer))
        time.sleep(chance.random() / 4)
        child = restarted(stack, database, child)
        kills += 1
    writer.join()
    sql.wait_for_tailer(CATCH_UP_SECONDS)
    order = "SELECT COUNT(*) FROM (SELECT record_id, LAG(record_id) OVER (ORDER BY version) AS previous FROM sync_changes "
    assert sql.value(f"{order} WHERE table_name = 'parties') o WHERE record_id < previous") == 0, "in commit order"
    assert sql.value("SELECT COUNT(DISTINCT tx) FROM sync_changes WHERE table_name = 'parties'") == 500
    assert_exactly_once(sql, company)
    child.stop()


def _is_past(before: int, writer: threading.Thread, head: int) -> bool:
    return head > before or not writer.is_alive()


def _write_many(database: Database, company: int) -> None:
    with SqlClient(database.settings) as sql:
        for number in range(500):
            rows = ", ".join(f"({company}, '{number}/{row}')" for row in range(ROWS // 500))
            sql.run(f"INSERT INTO parties (company_id, name) VALUES {rows}")
