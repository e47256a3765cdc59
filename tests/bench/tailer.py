"""Binlog → committed change log: a real `matrix-sync tail` that meets a backlog, beside a tailer on mysql-replication's row events.

Ours stores origins, values before, the chain of hashes and the newest version of each record; the peer only rows.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from schema.connect import open_connection
from tests.bench.backlog import BULK, SINGLE, BacklogWriter
from tests.bench.figure import Figure
from tests.bench.peer_reader import follow_by_peer
from tests.bench.processes import cpu_seconds, mysqld_pid
from tests.faults.huge_tx import DIGITS, peak_rss_mb, write_one_tx
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

ROWS = 1_000_000
PEER_ROWS = 100_000
RSS_MB_MAX = 512
SERVER = {"innodb-buffer-pool-size": "512M", "loose-innodb-redo-log-capacity": "512M"}
TARGETS = {SINGLE: "≥ 20,000 rows/s, ≥ 8 ×", BULK: "≥ 25,000 rows/s"}
_LOOK_SECONDS = 0.05
"""Rarely: each look costs MySQL as much as several rows."""


@dataclass(frozen=True, slots=True)
class Run:
    """One backlog that was stored: seconds from the first commit on, CPU seconds of tailer and MySQL, memory at its most."""

    rows: int
    seconds: float
    tailer_seconds: float
    mysql_seconds: float
    peak_mb: int


def measure(share: float) -> Iterator[Figure]:
    """Both shapes, then one transaction of a million rows."""
    with (
        tempfile.TemporaryDirectory() as directory,
        Stack(Path(directory)) as stack,
        stack.private_mysql("tailer", SERVER) as server,
    ):
        for shape in (SINGLE, BULK):
            with stack.database(server) as database, SqlClient(database.settings) as sql:
                writer = BacklogWriter(database.settings)
                start = str(sql.value("SELECT @@GLOBAL.gtid_executed")).replace("\n", "")
                writer.write(shape, int(ROWS * share))
                writer.close()
                peers = peer_rate(database, start, int(PEER_ROWS * share))
                yield from figures(shape, follow(stack, database, sql), peers)
        with stack.database(server) as database, SqlClient(database.settings) as sql:
            sql.run(*DIGITS)
            write_one_tx(sql, sql.company(), int(ROWS * share))
            run = follow(stack, database, sql)
            what = f"one transaction of {run.rows:,} rows: most memory"
            yield Figure(what, run.peak_mb, "MB", f"≤ {RSS_MB_MAX} MB", cpu_us=cpu_us(run))


def figures(shape: str, run: Run, peers: float) -> Iterator[Figure]:
    """A run, and how its CPU divides."""
    rate = run.rows / run.seconds
    yield Figure(f"tailer, {shape}", rate, "rows/s", TARGETS[shape], "on mysql-replication", peers, cpu_us(run))
    yield Figure(f"tailer, {shape}: its own CPU", 1e6 * run.tailer_seconds / run.rows, "µs/row", "")
    yield Figure(f"tailer, {shape}: MySQL's CPU", 1e6 * run.mysql_seconds / run.rows, "µs/row", "")
    yield Figure(f"tailer, {shape}: most memory", run.peak_mb, "MB", f"≤ {RSS_MB_MAX} MB")


def cpu_us(run: Run) -> float:
    return 1e6 * (run.tailer_seconds + run.mysql_seconds) / run.rows


def follow(stack: Stack, database: Database, sql: SqlClient) -> Run:
    """Start the tailer, and wait until the log holds everything. Its start, up to the first commit, does not count."""
    with open_connection(database.settings.admin()) as connection:
        server = mysqld_pid(connection)
    child = stack.spawn("tail", environ=database.environ)
    try:
        while (first := int(sql.value("SELECT head FROM sync_state"))) <= 1:
            time.sleep(0.005)
        assert child.pid is not None
        began, ours, mysqls = time.monotonic(), cpu_seconds(child.pid), cpu_seconds(server)
        marker = sql.run("INSERT INTO sync_origins (kind, request_id) VALUES ('system', 'the end')")
        while not sql.rows("SELECT 1 FROM sync_tx WHERE origin_id = %s", marker):
            assert child.is_running, child.last_lines()
            time.sleep(_LOOK_SECONDS)
        seconds, head = time.monotonic() - began, int(sql.value("SELECT head FROM sync_state"))
        ours, mysqls = cpu_seconds(child.pid) - ours, cpu_seconds(server) - mysqls
        return Run(max(1, head - first), seconds, ours, mysqls, peak_rss_mb(child))
    finally:
        child.stop()


def peer_rate(database: Database, start: str, rows: int) -> float:
    """Rows a second of the peer."""
    began = time.monotonic()
    count = follow_by_peer(database.settings.tailer(), database.settings.admin(), start, rows)
    return count / (time.monotonic() - began)
