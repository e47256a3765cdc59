"""What MySQL must be before the tailer reads from it: every finding at once, each with its remedy.

The tailer asks `require_ready` at each connect, so that is a handful of queries; `doctor` shows `find_problems`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pymysql.connections import Connection

from cdc.findings import Finding, Level, fatal
from cdc.privileges import check_privileges, read_grants
from cdc.server_settings import (
    Server,
    check_filters,
    check_replica,
    check_variables,
    check_version,
    read_server,
)
from cdc.surroundings import check_bypassers, check_clock, check_disks
from cdc.synced_tables import check_cascades, check_name, check_tables
from schema.errors import StartError
from schema.settings import Settings


def find_problems(connection: Connection[Any], settings: Settings) -> list[Finding]:
    """All findings, good ones too, for a connection of the tailer's account. Raises pymysql errors when MySQL goes away."""
    server = read_server(connection)
    findings = list(_find_essential(connection, server, settings))
    if server.is_mariadb:
        return findings
    address = settings.tailer()
    findings += [
        check_clock(connection),
        check_bypassers(connection),
        *check_disks(Path(settings.state_dir), server.variables, address.host, address.socket),
    ]
    connection.rollback()
    return findings


def require_ready(connection: Connection[Any], settings: Settings) -> None:
    """Raise StartError `mysql_not_ready`, one message with every fatal finding and its remedy; pymysql errors come through."""
    findings = _find_essential(connection, read_server(connection), settings)
    wrong = [finding for finding in findings if finding.level is Level.FATAL]
    connection.rollback()
    if wrong:
        raise StartError(
            "mysql_not_ready",
            "MySQL is not as the tailer needs it:" + "".join(f"\n- {f.message}\n  → {f.remedy}" for f in wrong),
            hint="`matrix-sync doctor` checks the rest too",
            details={"findings": [finding.code for finding in wrong]},
        )


def _find_essential(connection: Connection[Any], server: Server, settings: Settings) -> Iterator[Finding]:
    database = settings.tailer().database
    yield check_version(server)
    if server.is_mariadb:
        return
    yield from check_variables(server)
    grants = read_grants(connection)
    yield check_privileges(grants, "tailer", database)
    if server.variables.get("read_only") == "ON" and not grants.allow_globally("SUPER", "CONNECTION_ADMIN"):
        yield fatal("read_only", "read_only is ON: the change log cannot be written", "connect the tailer to the primary")
    yield check_filters(connection, server)
    yield check_replica(connection, server)
    yield check_name(connection, database)
    yield check_cascades(connection, database)
    yield check_tables(connection, database)
