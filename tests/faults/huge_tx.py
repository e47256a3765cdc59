"""`python -m tests.faults.huge_tx --rows 1000000`: one transaction of so many rows; the tailer's time and its most memory."""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from pathlib import Path

from cli.embedded.process import Child
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

RSS_MB_MAX = 512
DIGITS = ("CREATE TABLE digits (d INT PRIMARY KEY)", "INSERT INTO digits VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)")
_INSERT = """
INSERT INTO parties (company_id, name, phone)
SELECT {company}, CONCAT('Party ', n), n FROM (
    SELECT a.d + 10 * b.d + 100 * c.d + 1000 * d.d + 10000 * e.d + 100000 * f.d AS n
    FROM digits a, digits b, digits c, digits d, digits e, digits f) numbers WHERE n < {rows}
"""
_MILLION = 1_000_000


def write_one_tx(sql: SqlClient, company: int, rows: int) -> None:
    """Insert `rows` parties in one transaction."""
    sql.run("SET SESSION binlog_rows_query_log_events = OFF", "START TRANSACTION")
    while rows > 0:
        sql.run(_INSERT.format(company=company, rows=min(rows, _MILLION)))
        rows -= _MILLION
    sql.run("COMMIT")


def peak_rss_mb(child: Child) -> int:
    """The most memory that a process has had. Linux only."""
    status = Path(f"/proc/{child.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) // 1024


def check(stack: Stack, database: Database, rows: int) -> tuple[int, float]:
    """Peak memory of the tailer in MB and its seconds. Raises AssertionError where the change log is not the table."""
    with SqlClient(database.settings) as sql:
        company = sql.company()
        sql.run(*DIGITS)
        write_one_tx(sql, company, rows)
        child = stack.spawn("tail", environ=database.environ)
        started = time.monotonic()
        sql.wait_for_tailer(max(60, rows / 500))
        seconds = time.monotonic() - started
        peak = peak_rss_mb(child)
        head = sql.value("SELECT head FROM sync_state")
        query = "SELECT MIN(version), MAX(version), COUNT(*), COUNT(DISTINCT tx), COUNT(DISTINCT record_id) FROM sync_changes"
        assert sql.rows(f"{query} WHERE table_name = 'parties'") == [(head - rows + 1, head, rows, 1, rows)]
        lost = (
            "SELECT COUNT(*) FROM parties p LEFT JOIN sync_changes c ON c.company_id = p.company_id AND c.version = p.id - %s + %s"
        )
        first = sql.value("SELECT MIN(id) FROM parties")
        assert sql.value(f"{lost} WHERE c.record_id IS NULL OR c.record_id <> p.id", first, head - rows + 1) == 0
        assert sql.value("SELECT COUNT(*) FROM sync_live WHERE table_name = 'parties'") == rows
        child.stop()
    return peak, seconds


def main() -> int:
    """Exit code 0 where every row is there once and memory stayed below the bound."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.huge_tx", description=__doc__)
    parser.add_argument("--rows", type=int, default=_MILLION, help="rows of the transaction (1,000,000)")
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as directory, Stack(Path(directory)) as stack, stack.database() as database:
        peak, seconds = check(stack, database, rows)
    print(f"{rows:,} rows in one transaction: {seconds:.1f} s, {rows / seconds:,.0f} rows/s, peak memory {peak} MB of {RSS_MB_MAX}")
    return 0 if peak <= RSS_MB_MAX else 1


if __name__ == "__main__":
    sys.exit(main())
