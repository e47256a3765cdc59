"""What processes cost: CPU seconds and memory, read from /proc. Linux only."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pymysql
from pymysql.connections import Connection


def cpu_seconds(pid: int) -> float:
    """CPU of a process so far, its threads with it."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


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
