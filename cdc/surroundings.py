"""What surrounds the tailer and does not stop it: clocks, disks, and accounts that can keep changes out of the binlog."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pymysql.connections import Connection

from cdc.findings import Finding, ok, warning

CLOCK_SECONDS_MAX = 2.0
DISK_BYTES_MIN = 1024**3
_LOOPBACK = ("localhost", "127.0.0.1", "::1")

_READ_CLOCK = "SELECT UTC_TIMESTAMP(6)"
_READ_BYPASSERS = """
SELECT DISTINCT GRANTEE FROM information_schema.USER_PRIVILEGES
WHERE PRIVILEGE_TYPE IN ('SUPER', 'SYSTEM_VARIABLES_ADMIN', 'SESSION_VARIABLES_ADMIN')
  AND GRANTEE NOT LIKE '\\'mysql.%%' ORDER BY GRANTEE
"""
_COUNT_ACCOUNTS = "SELECT COUNT(DISTINCT GRANTEE) FROM information_schema.USER_PRIVILEGES"


def check_clock(connection: Connection[Any]) -> Finding:
    """MySQL's clock against ours; half the time the question took is taken off."""
    before = dt.datetime.now(dt.UTC)
    with connection.cursor() as cursor:
        cursor.execute(_READ_CLOCK)
        row = cursor.fetchone()
    took = dt.datetime.now(dt.UTC) - before
    assert row is not None
    ahead = (row[0].replace(tzinfo=dt.UTC) - before - took / 2).total_seconds()
    if abs(ahead) > CLOCK_SECONDS_MAX:
        side = "ahead of" if ahead > 0 else "behind"
        return warning("clock", f"MySQL's clock is {abs(ahead):.1f} s {side} this machine's", "run NTP on both machines")
    return ok("clock", "MySQL's clock and this machine's agree")


def check_bypassers(connection: Connection[Any]) -> Finding:
    """Accounts that can set sql_log_bin = 0, and so change rows that no device ever hears of."""
    with connection.cursor() as cursor:
        cursor.execute(_READ_BYPASSERS)
        names = [str(row[0]) for row in cursor.fetchall()]
        cursor.execute(_COUNT_ACCOUNTS)
        accounts = cursor.fetchone()
    if accounts is None or accounts[0] < 2:  # only its own: every server has MySQL's internal accounts beside
        return warning(
            "sql_log_bin",
            "which accounts can set sql_log_bin = 0 cannot be checked with this account",
            "set MYSQL_URL to an administrator's account and run `matrix-sync doctor`",
        )
    if names:
        return warning(
            "sql_log_bin",
            f"accounts that can set sql_log_bin = 0 and so hide changes: {', '.join(names)}",
            "keep SUPER, SYSTEM_VARIABLES_ADMIN and SESSION_VARIABLES_ADMIN for administrators",
        )
    return ok("sql_log_bin", "no account can set sql_log_bin = 0")


def check_disks(state_dir: Path, variables: Mapping[str, str], host: str, socket: str | None) -> Iterator[Finding]:
    """Free space where our state is and, when MySQL is on this machine, where its data and binlogs are."""
    made = next(parent for parent in (state_dir.absolute(), *state_dir.absolute().parents) if parent.exists())
    places = [("our state", made)]
    if socket or host in _LOOPBACK:
        places.append(("MySQL's data", Path(variables.get("datadir", "/"))))
        places.append(("MySQL's binlogs", Path(variables.get("log_bin_basename", "/")).parent))
    seen: set[int] = set()
    for what, path in places:
        if not path.exists() or path.stat().st_dev in seen:  # a server in a container has other paths
            continue
        seen.add(path.stat().st_dev)
        free = shutil.disk_usage(path).free
        shown = f"{free / 1024**3:.1f} GiB are free for {what} ({path})"
        if free < DISK_BYTES_MIN:
            yield warning("disk", shown, "free space, or move it to a larger disk: a full disk stops MySQL's commits")
        else:
            yield ok("disk", shown)
