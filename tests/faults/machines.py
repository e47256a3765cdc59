"""Private MySQLs for the stories of a lost past: backups put back, a replica that takes over, a database that moves."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pymysql

from cli.embedded import MySQLServer
from schema.settings import MySQLAddress, Settings
from tests.servers import Database, Stack

REPLICA_SECONDS = 60


def take_backup(server: MySQLServer) -> Path:
    """Copy the data directory as a crash leaves it, which is a consistent backup, and start again."""
    backup = server.home / "backup"
    shutil.rmtree(backup, ignore_errors=True)
    server.kill()
    server.stop()
    shutil.copytree(server.data, backup)
    server.start()
    return backup


def put_back(server: MySQLServer, backup: Path) -> None:
    """Replace the data directory by a backup: tables, change log, checkpoint and binlog go back together."""
    server.kill()
    server.stop()
    shutil.rmtree(server.data)
    shutil.copytree(backup, server.data)
    server.start()


def ask(server: MySQLServer, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements as the administrator; returns the last one's rows."""
    address = MySQLAddress.parse(server.url)
    with (
        pymysql.connect(
            unix_socket=str(server.socket), user=address.user, password=address.password, autocommit=True
        ) as connection,
        connection.cursor() as cursor,
    ):
        for statement in statements:
            cursor.execute(statement)
        return list(cursor.fetchall())


@contextmanager
def pair(stack: Stack) -> Iterator[tuple[MySQLServer, MySQLServer]]:
    """A primary and a replica of it, by GTID; both run."""
    primary = stack.private_mysql("primary", {"server-id": 11})
    replica = stack.private_mysql("replica", {"server-id": 12})
    with primary, replica:
        follow(replica, primary)
        yield primary, replica


def follow(replica: MySQLServer, primary: MySQLServer) -> None:
    """Make one server the other's replica."""
    source = MySQLAddress.parse(primary.url)
    ask(
        replica,
        f"CHANGE REPLICATION SOURCE TO SOURCE_HOST = '{source.host}', SOURCE_PORT = {source.port}, "
        f"SOURCE_USER = '{source.user}', SOURCE_PASSWORD = '{source.password}', SOURCE_AUTO_POSITION = 1, "
        "GET_SOURCE_PUBLIC_KEY = 1, SOURCE_CONNECT_RETRY = 1",
        "START REPLICA",
    )


def executed(server: MySQLServer) -> str:
    """The transactions that a server has."""
    return str(ask(server, "SELECT @@GLOBAL.gtid_executed")[0][0]).replace("\n", "")


def wait_for_replica(replica: MySQLServer, gtids: str) -> None:
    """Wait until a replica has executed these transactions. Raises TimeoutError."""
    if ask(replica, f"SELECT WAIT_FOR_EXECUTED_GTID_SET('{gtids}', {REPLICA_SECONDS})") != [(0,)]:
        raise TimeoutError(f"the replica lacks some of {gtids}")


def promote(replica: MySQLServer) -> None:
    """Make a replica a server of its own; what it has not got by now it never gets."""
    ask(replica, "STOP REPLICA", "RESET REPLICA ALL")


def moved(database: Database, server: MySQLServer, **changed: Any) -> Database:
    """The same database on another server, with settings changed by keywords."""
    admin = MySQLAddress.parse(server.url)

    def there(url: str) -> str:
        return replace(MySQLAddress.parse(url), host=admin.host, port=admin.port).url()

    old = database.settings
    values = {
        "mysql_url": replace(admin, database=database.name).url(),
        "mysql_api_url": there(old.mysql_api_url),
        "mysql_tailer_url": there(old.mysql_tailer_url),
        "mysql_operator_url": there(old.mysql_operator_url),
        "mysql_socket": str(server.socket),
        "redis_url": old.redis_url,
        "jwt_secret": old.jwt_secret,
        "state_dir": old.state_dir,
        **changed,
    }
    config = Path(f"{old.state_dir}-{time.monotonic_ns()}.toml")
    config.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))
    return Database(Settings.load(config, env={}), {"SYNC_CONFIG": str(config)})
