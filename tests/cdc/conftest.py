"""A database of its own for each test, and the binlog since the test began, read as the tailer reads it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pymysql
import pytest
from pymysql.connections import Connection
from pymysql.converters import encoders

from cdc.decode import RowChange
from cdc.events import RawEvent
from cdc.gtid import GtidSet
from cdc.items import Ddl, Heartbeat, Item, Rows, TxBegin, TxEnd
from cdc.source import BinlogSource, ConnectionSettings
from cdc.tx import assemble
from schema.settings import MySQLAddress
from tests.servers import Stack

SERVER_IDS = itertools.count(0x4D530000 + (os.getpid() & 0xFFF) * 16)
"""One for each stream: a second stream with an id ends the first."""


class Binlog:
    """A server, a fresh database on it, and what its binlog says since `mark`."""

    def __init__(self, connect: ConnectionSettings, database: str) -> None:
        self.connect = connect
        self.database = database
        self.start = GtidSet()
        self.directory = Path()
        """Where a server of the test's own keeps its files."""

    def open(self, **more: Any) -> Connection[Any]:
        """A session in UTC in the test's database; values come back as the server's text."""
        return pymysql.connect(
            **_plain(self.connect),
            database=self.database,
            conv={**encoders},  # type: ignore[dict-item]
            init_command="SET time_zone = '+00:00', SESSION binlog_rows_query_log_events = OFF",
            **more,
        )

    def run(self, *statements: str) -> None:
        """Run statements in one session."""
        with self.open() as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def query(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """Rows of one statement."""
        with self.open() as connection, connection.cursor() as cursor:
            cursor.execute(statement, arguments or None)
            return list(cursor.fetchall())

    def executed(self) -> GtidSet:
        """The transactions that the server has."""
        return GtidSet.parse(self.query("SELECT @@GLOBAL.gtid_executed")[0][0])

    def mark(self) -> None:
        """Read from here on."""
        self.start = self.executed()

    def source(self, **more: Any) -> BinlogSource:
        """A stream from the mark to the binlog's end."""
        settings: dict[str, Any] = {"start": self.start, "blocking": False, "server_id": next(SERVER_IDS), **more}
        return BinlogSource(connect=self.connect, **settings)

    def events(self, **more: Any) -> list[RawEvent]:
        """Raw events from the mark."""
        return list(self.source(**more).events())

    def items(self, wanted: Callable[[str, str], bool] = lambda schema, table: True, **more: Any) -> list[Item]:
        """What the tailer gets from the mark, without heartbeats."""
        source = self.source(**more)
        found = assemble(source.events(), self.database, wanted, source.is_drained)
        return [item for item in found if not isinstance(item, Heartbeat)]

    def changes(self, table: str) -> list[RowChange]:
        """Changes of a table from the mark."""
        return [change for item in self.items() if isinstance(item, Rows) and item.table == table for change in item.changes]

    def shape(self, **more: Any) -> list[str]:
        """Names of the items from the mark, as `begin rows end`."""
        names: dict[type, str] = {TxBegin: "begin", Rows: "rows", TxEnd: "end", Ddl: "ddl"}
        return [names[type(item)] for item in self.items(**more)]


def done(items: list[Item]) -> GtidSet:
    """The transactions that may join the checkpoint after these items."""
    found = GtidSet()
    for item in items:
        for gtid in item.gtids if isinstance(item, TxEnd) else ():
            found = found.add(gtid)
    return found


def settings_of(url: str) -> ConnectionSettings:
    """Of a server's administrator."""
    address = MySQLAddress.parse(url)
    return ConnectionSettings(address.host, address.port, address.user, address.password)


@pytest.fixture(scope="session")
def mysql_connect(stack: Stack) -> ConnectionSettings:
    """The session's MySQL."""
    return settings_of(stack.mysql_url)


_DATABASES = itertools.count(1)


def _plain(connect: ConnectionSettings) -> dict[str, Any]:
    """For what only prepares and looks: PyMySQL's TLS costs 80 ms of CPU a connection."""
    return replace(connect, is_tls_allowed=False).arguments()


@contextmanager
def fresh_binlog(connect: ConnectionSettings) -> Iterator[Binlog]:
    """A fresh database, marked as empty; dropped at the end."""
    name = f"cdc_test_{os.getpid()}_{next(_DATABASES)}"
    with pymysql.connect(**_plain(connect)) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    made = Binlog(connect, name)
    made.mark()
    yield made
    with pymysql.connect(**_plain(connect)) as connection, connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE {name}")


@pytest.fixture
def binlog(mysql_connect: ConnectionSettings) -> Iterator[Binlog]:
    """A fresh database on the session's server, marked as empty."""
    with fresh_binlog(mysql_connect) as made:
        yield made
