"""What MySQL's own settings must be for its binlog to hold every change whole.

Source: MySQL 9.7 manual, "Binary Logging Options and Variables"; the names of older versions from the 8.0 manual.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pymysql
from pymysql.connections import Connection
from pymysql.cursors import DictCursor

from cdc.findings import Finding, Level, fatal, ok

RETENTION_SECONDS_MIN = 7 * 24 * 3600
PACKET_BYTES_MIN = 64 * 1024 * 1024
_OLDEST = (8, 0)
_BINARY_LOG_STATUS_SINCE = (8, 2)
_REPLICA_STATUS_SINCE = (8, 0, 22)
_ACCESS_DENIED = (1227, 1142)

_READ_VERSION = "SELECT VERSION(), @@version_comment"
_READ_VARIABLES = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})"
_BINARY_LOG_STATUS = "SHOW BINARY LOG STATUS"
_MASTER_STATUS = "SHOW MASTER STATUS"
_REPLICA_STATUS = "SHOW REPLICA STATUS"
_SLAVE_STATUS = "SHOW SLAVE STATUS"


@dataclass(frozen=True, slots=True)
class Rule:
    """One variable. `is_good` is asked for its text value; a variable that this server does not have is good."""

    name: str
    is_good: Callable[[str], bool]
    level: Level
    consequence: str
    remedy: str


def _is(wanted: str) -> Callable[[str], bool]:
    return lambda value: value.upper() == wanted


def _at_least(least: int) -> Callable[[str], bool]:
    return lambda value: int(value) >= least


_REOPEN = "and reconnect every application: open sessions keep the old value"

RULES = (
    Rule("log_bin", _is("ON"), Level.FATAL, "there is no binlog to read changes from", "start MySQL with --log-bin"),
    Rule(
        "gtid_mode",
        _is("ON"),
        Level.FATAL,
        "without GTIDs no place in the binlog is certain",
        "SET PERSIST enforce_gtid_consistency = ON, then gtid_mode = OFF_PERMISSIVE, ON_PERMISSIVE, ON one after the other",
    ),
    Rule("server_id", _at_least(1), Level.FATAL, "MySQL sends its binlog to nobody", "SET PERSIST server_id = 1"),
    Rule(
        "binlog_format",
        _is("ROW"),
        Level.FATAL,
        "the binlog holds statements in place of rows",
        f"SET PERSIST binlog_format = ROW {_REOPEN}",
    ),
    Rule(
        "binlog_row_image",
        _is("FULL"),
        Level.FATAL,
        "row events lack columns",
        f"SET PERSIST binlog_row_image = FULL {_REOPEN}",
    ),
    Rule(
        "binlog_row_metadata",
        _is("FULL"),
        Level.FATAL,
        "row events lack names, signs and charsets of columns",
        "SET PERSIST binlog_row_metadata = FULL",
    ),
    Rule(
        "super_read_only",
        _is("OFF"),
        Level.FATAL,
        "the change log cannot be written",
        "SET PERSIST super_read_only = OFF, or connect the tailer to the primary",
    ),
    Rule(
        "sync_binlog",
        _is("1"),
        Level.WARNING,
        "a crash of the machine can lose committed transactions from the binlog",
        "SET PERSIST sync_binlog = 1",
    ),
    Rule(
        "innodb_flush_log_at_trx_commit",
        _is("1"),
        Level.WARNING,
        "a crash of the machine can lose committed transactions",
        "SET PERSIST innodb_flush_log_at_trx_commit = 1",
    ),
    Rule(
        "binlog_order_commits",
        _is("ON"),
        Level.WARNING,
        "rows become visible in another order than the binlog's: nothing can be reconciled, and what verify finds is not certain",
        "SET PERSIST binlog_order_commits = ON",
    ),
    Rule(
        "binlog_checksum",
        _is("CRC32"),
        Level.WARNING,
        "a damaged event may pass unnoticed",
        "SET PERSIST binlog_checksum = CRC32",
    ),
    Rule(
        "binlog_expire_logs_seconds",
        lambda value: int(value) == 0 or int(value) >= RETENTION_SECONDS_MIN,
        Level.WARNING,
        "a tailer that was away longer finds its binlogs purged",
        f"SET PERSIST binlog_expire_logs_seconds = {RETENTION_SECONDS_MIN}, or more",
    ),
    Rule(
        "binlog_rows_query_log_events",
        _is("ON"),
        Level.WARNING,
        "statements are not kept with the changes they made",
        "SET PERSIST binlog_rows_query_log_events = ON",
    ),
    Rule(
        "max_allowed_packet",
        _at_least(PACKET_BYTES_MIN),
        Level.WARNING,
        "a large row could not be stored in the change log",
        f"SET PERSIST max_allowed_packet = {PACKET_BYTES_MIN}, or more",
    ),
)
_ALSO_READ = ("read_only", "log_replica_updates", "log_slave_updates", "datadir", "log_bin_basename")


@dataclass(frozen=True, slots=True)
class Server:
    """A MySQL server's version and those global variables that matter, by lower-case name."""

    version: tuple[int, ...]
    version_text: str
    is_mariadb: bool
    variables: Mapping[str, str]


def read_server(connection: Connection[Any]) -> Server:
    """Ask in two queries; what a server does not have is absent."""
    names = [*(rule.name for rule in RULES), *_ALSO_READ]
    with connection.cursor() as cursor:
        cursor.execute(_READ_VERSION)
        row = cursor.fetchone()
        assert row is not None
        cursor.execute(_READ_VARIABLES.format(names=",".join(["%s"] * len(names))), names)
        variables = {str(name).lower(): str(value) for name, value in cursor.fetchall()}
    text = str(row[0])
    found = re.match(r"\d+(?:\.\d+)*", text)
    version = tuple(map(int, found[0].split("."))) if found else ()
    return Server(version, text, "mariadb" in f"{text} {row[1]}".lower(), variables)


def check_version(server: Server) -> Finding:
    """MariaDB's GTIDs and metadata are others; MySQL has full row metadata from 8.0 on."""
    if server.is_mariadb:
        return fatal(
            "mariadb", f"this is MariaDB ({server.version_text}): its GTIDs and row events are others", "use MySQL 8.0 or newer"
        )
    if server.version < _OLDEST:
        return fatal("version", f"MySQL {server.version_text} has no full row metadata", "upgrade to MySQL 8.0 or newer")
    return ok("version", f"MySQL {server.version_text}")


def check_variables(server: Server) -> Iterator[Finding]:
    """One finding for each rule whose variable this server has."""
    for rule in RULES:
        value = server.variables.get(rule.name)
        if value is None:
            continue
        shown = value or "''"
        if rule.is_good(value):
            yield ok(rule.name, f"{rule.name} is {shown}")
        else:
            yield Finding(rule.level, rule.name, f"{rule.name} is {shown}: {rule.consequence}", rule.remedy)


def check_filters(connection: Connection[Any], server: Server) -> Finding:
    """Filters of the binlog hide rows, and DDL by the session's default database. Asks for nothing where it may not."""
    status = _read_status(connection, server.version >= _BINARY_LOG_STATUS_SINCE, _BINARY_LOG_STATUS, _MASTER_STATUS)
    filters = [f"{name} = {status[name]}" for name in ("Binlog_Do_DB", "Binlog_Ignore_DB") if status.get(name)]
    if filters:
        return fatal(
            "binlog_filter",
            f"MySQL leaves changes out of its binlog: {', '.join(filters)}",
            "remove binlog-do-db and binlog-ignore-db from MySQL's option file and restart it",
        )
    return ok("binlog_filter", "the binlog has no filters")


def check_replica(connection: Connection[Any], server: Server) -> Finding:
    """A replica must log what it replicates, and replicate all of it."""
    status = _read_status(connection, server.version >= _REPLICA_STATUS_SINCE, _REPLICA_STATUS, _SLAVE_STATUS)
    if not status:
        return ok("replica", "the server is no replica")
    logs_updates = server.variables.get("log_replica_updates", server.variables.get("log_slave_updates", "ON"))
    if logs_updates.upper() != "ON":
        return fatal(
            "replica",
            "the server is a replica with log_replica_updates OFF: what it replicates is not in its binlog",
            "start it with --log-replica-updates=ON, or connect the tailer to the primary",
        )
    filters = [name for name in status if re.match(r"Replicate_(Wild_)?(Do|Ignore)_(DB|Table)$", name)]
    if filters:
        return fatal(
            "replica_filter",
            f"the server is a replica that leaves changes out: {', '.join(filters)}",
            "remove the filters, or connect the tailer to the primary",
        )
    return ok("replica", "the server is a replica that logs everything it replicates")


def _read_status(connection: Connection[Any], is_new: bool, new: str, old: str) -> dict[str, Any]:
    """What is set, by column name, in any of the rows. Without the privilege nothing: `check_privileges` reports that."""
    with connection.cursor(DictCursor) as cursor:
        try:
            cursor.execute(new if is_new else old)
        except pymysql.err.MySQLError as problem:
            if problem.args[0] in _ACCESS_DENIED:
                return {}
            raise
        return {name: value for row in cursor.fetchall() for name, value in row.items() if value}
