"""What processes cost in CPU seconds. Linux only."""

from __future__ import annotations

import resource
from pathlib import Path

import pymysql
from pymysql.connections import Connection

from cli.simulation.processes import usage_of


def cpu_seconds(pid: int | None) -> float:
    """CPU so far of a process, its threads, and all below it; 0 for one that is not here."""
    return sum(usage.cpu_seconds for usage in usage_of({"it": pid} if pid else {}).values())


def children_cpu_seconds() -> float:
    """CPU of the children that have ended and were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def mysqld_pid(connection: Connection[pymysql.cursors.Cursor]) -> int:
    """The process of a MySQL on this machine."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@pid_file")
        row = cursor.fetchone()
    assert row is not None
    return int(Path(row[0]).read_text())
