"""How a binlog dump is asked for where mysql-replication cannot, and what the server's refusals mean for us.

Source: MySQL source documentation, COM_BINLOG_DUMP_GTID; MySQL 9.7 sql/rpl_binlog_sender.cc for the texts of error 1236.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pymysql
from pymysql.constants.COMMAND import COM_BINLOG_DUMP_GTID

from cdc.gtid import GtidSet
from schema.errors import Halt, Retry, TailerError

_NON_BLOCKING: Final = 1
_BY_GTID: Final = 4

ASK_CHECKSUM: Final = "SET @master_binlog_checksum = 'CRC32', @source_binlog_checksum = 'CRC32'"
"""Also where the server writes none now: it refuses a reader that cannot take checksums once it does."""
_ASK_UUID: Final = "SET @slave_uuid = %s, @replica_uuid = %s"
_ASK_HEARTBEAT: Final = "SET @master_heartbeat_period = %s, @source_heartbeat_period = %s"
_PURGED: Final = "SELECT GTID_SUBTRACT(@@GLOBAL.gtid_purged, %s)"

_AUTH_ERRORS: Final = frozenset({1044, 1045, 1130, 1142, 1227, 1251, 1698, 1820, 1862, 2059, 2061, 3118, 3955})
_DUMP_ERROR: Final = 1236


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """Where MySQL is. With `unix_socket`, host and port are not used.

    TLS is used where the server offers it, but on a unix socket; with `tls_ca` it must, and its certificate is verified.
    """

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    unix_socket: str | None = None
    tls_ca: str | None = None
    connect_timeout_seconds: int = 10
    is_tls_allowed: bool = True

    def arguments(self) -> dict[str, Any]:
        """As keywords of pymysql.connect."""
        return {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "unix_socket": self.unix_socket,
            "ssl_ca": self.tls_ca,
            "ssl_disabled": bool(self.unix_socket) or not self.is_tls_allowed,
            "ssl_verify_cert": bool(self.tls_ca),
            "ssl_verify_identity": bool(self.tls_ca),
            "charset": "utf8mb4",
            "autocommit": True,
            "connect_timeout": self.connect_timeout_seconds,
        }


def start_dump_by_command(
    connection: Any,
    start: GtidSet,
    *,
    server_id: int,
    replica_uuid: str,
    heartbeat_seconds: float,
    blocking: bool,
) -> None:
    """Name us in a session that asked for checksums, then start the dump. mysql-replication reads no tagged or empty set."""
    nanoseconds = int(heartbeat_seconds * 1e9)
    with connection.cursor() as cursor:
        cursor.execute(_ASK_UUID, (replica_uuid, replica_uuid))
        cursor.execute(_ASK_HEARTBEAT, (nanoseconds, nanoseconds))
    members = start.encode()
    flags = _BY_GTID if blocking else _BY_GTID | _NON_BLOCKING
    head = struct.pack("<HIIQI", flags, server_id, 0, 4, len(members))
    connection._execute_command(COM_BINLOG_DUMP_GTID, head + members)


def class_connect_error(problem: Exception) -> TailerError:
    """What an error of connecting or preparing means. The text never holds the password: MySQL does not send it back."""
    number = problem.args[0] if problem.args else 0
    if number in _AUTH_ERRORS:
        return Retry(
            "auth_failed",
            f"MySQL refused the tailer's account: {problem}",
            hint="GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* to it; check user and password in the settings",
        )
    return Retry("server_unreachable", f"MySQL cannot be reached: {problem}")


def class_stream_error(payload: bytes, connect: ConnectionSettings, start: GtidSet | None) -> TailerError:
    """What an ERR packet inside a dump means: Halt or Retry."""
    number = int.from_bytes(payload[1:3], "little")
    text = payload[3:]
    message = (text[6:] if text[:1] == b"#" else text).decode("utf-8", "replace")
    if number in _AUTH_ERRORS:
        return class_connect_error(pymysql.err.OperationalError(number, message))
    if number != _DUMP_ERROR:
        return Retry("server_error", f"MySQL ended the stream: error {number}: {message}")
    for pattern, make in _REFUSALS.items():
        if re.search(pattern, message, re.IGNORECASE):
            return make(message, _missing(connect, start, message))
    return Halt("binlog_unreadable", f"MySQL cannot send its binlog: {message}", hint="see MySQL's error log")


def _missing(connect: ConnectionSettings, start: GtidSet | None, message: str) -> str:
    """The transactions that we need and the server has purged, from the server itself: its message may be cut."""
    if start is not None:
        try:
            with pymysql.connect(**connect.arguments()) as connection, connection.cursor() as cursor:
                cursor.execute(_PURGED, (str(start),))
                row = cursor.fetchone()
            if row and row[0]:
                return str(GtidSet.parse(row[0]))
        except pymysql.err.MySQLError:
            pass
    found = re.search(r"missing transactions are '([^']*)'", message)
    return found[1] if found else ""


def _purged(message: str, missing: str) -> TailerError:
    return Halt(
        "binlog_purged",
        f"MySQL has purged transactions that were not read yet: {missing or message}",
        hint="see docs/operators.md, “A purged binlog”; binlog_expire_logs_seconds: 7 days or more",
        details={"missing": missing},
    )


def _same_id(message: str, _: str) -> TailerError:
    return Retry(
        "server_id_conflict",
        f"another reader with our server_id took over the stream: {message}",
        hint="give every tailer and replica a server_id of its own",
    )


def _ahead(message: str, _: str) -> TailerError:
    return Halt(
        "checkpoint_ahead",
        f"the checkpoint holds transactions that this server never had: {message}",
        hint="see docs/operators.md, “A restored backup”",
    )


def _no_position(message: str, _: str) -> TailerError:
    return Halt("position_unknown", f"MySQL has no such binlog position: {message}", hint="SHOW BINARY LOGS lists the files")


def _too_large(message: str, _: str) -> TailerError:
    return Halt("event_too_large", f"an event is larger than MySQL sends: {message}", hint="raise replica_max_allowed_packet")


_REFUSALS: Final[Mapping[str, Callable[[str, str], TailerError]]] = {
    r"purged required|could not find next log": _purged,
    r"same server_uuid/server_id": _same_id,
    r"has more GTIDs than": _ahead,
    r"Could not find first log|position > file size|impossible position|position < 4": _no_position,
    r"max_allowed_packet": _too_large,
}
