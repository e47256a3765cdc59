"""The one way to open a blocking MySQL connection (tailer, commands, migrations)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pymysql
from pymysql.connections import Connection
from pymysql.constants import CLIENT

from schema.settings import MySQLAddress

ACCESS_DENIED = 1045
UNKNOWN_DATABASE = 1049


def open_connection(
    address: MySQLAddress, *, with_database: bool = True, timeout_seconds: int = 30, may_load: bool = False, **more: Any
) -> Connection[Any]:
    """Open a session in UTC, utf8mb4, strict mode. Affected rows count matched rows, so that a compare-and-set can be told.

    Statements may go together in one packet (`cdc.together`). `may_load`: rows may be sent for LOAD DATA LOCAL (`cdc.load`); a file
    that the server asks for never is.
    Raises pymysql.err.OperationalError as the server or the socket gave it.
    """
    return pymysql.connect(
        host=address.host,
        port=address.port,
        user=address.user,
        password=address.password,
        unix_socket=address.socket,
        ssl_disabled=address.socket is not None,  # nothing leaves the machine; encrypting would cost a third of the tailer's time
        database=address.database if with_database else None,
        charset="utf8mb4",
        connect_timeout=timeout_seconds,
        read_timeout=more.pop("read_timeout", None),
        write_timeout=more.pop("write_timeout", None),
        client_flag=CLIENT.FOUND_ROWS | CLIENT.MULTI_STATEMENTS | (CLIENT.LOCAL_FILES if may_load else 0),
        init_command="SET SESSION time_zone = '+00:00', SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'",
        **more,
    )


@contextmanager
def read_timeout(connection: Any, seconds: float) -> Iterator[None]:
    """Within it an answer may take this long. PyMySQL has no other way to say so for one statement."""
    before = connection._read_timeout
    connection._read_timeout = seconds
    try:
        yield
    finally:
        connection._read_timeout = before
