"""Waiting for what another process does, and ports that are free."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from tests.sql_client import SqlClient

WAIT_SECONDS = 60


def wait_until(is_true: Callable[[], bool], seconds: float = WAIT_SECONDS) -> None:
    """Return as soon as `is_true` says so. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not so after {seconds} s")
        time.sleep(0.05)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def purge_binlogs(sql: SqlClient) -> None:
    """Leave the newest binlog file. MySQL passes over one that a dump still reads, that of a tailer that has just ended too."""
    sql.run("FLUSH BINARY LOGS")

    def is_purged() -> bool:
        sql.run(f"PURGE BINARY LOGS TO '{sql.rows('SHOW BINARY LOGS')[-1][0]}'")
        return len(sql.rows("SHOW BINARY LOGS")) == 1

    wait_until(is_purged)
