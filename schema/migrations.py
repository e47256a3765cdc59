"""Applies sql/NNNN_*.sql in order and creates the three accounts. Safe to run again, at every start and after a crash.

MySQL commits each DDL statement by itself, so progress is kept per statement. The GTID set the server had before our first
CREATE TABLE is recorded: a new change log begins there (`cdc.checkpoint`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pymysql
from pymysql.connections import Connection

from schema.connect import ACCESS_DENIED, open_connection
from schema.errors import StartError
from schema.logs import get_logger
from schema.settings import MySQLAddress, Settings

SQL_DIRECTORY = Path(__file__).resolve().parent.parent / "sql"
LOCK_WAIT_SECONDS = 60

log = get_logger(__name__)

_CREATE_BOOK = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    id INT UNSIGNED NOT NULL,
    name VARCHAR(255) NOT NULL,
    checksum BINARY(32) NOT NULL,
    statements_done INT UNSIGNED NOT NULL,
    statements INT UNSIGNED NOT NULL,
    gtid_set_before MEDIUMTEXT CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    applied_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    PRIMARY KEY (id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4
"""
_READ_BOOK = "SELECT id, name, checksum, statements_done, statements, gtid_set_before FROM schema_migrations ORDER BY id"
_BEGIN_MIGRATION = """
INSERT INTO schema_migrations (id, name, checksum, statements_done, statements, gtid_set_before) VALUES (%s, %s, %s, 0, %s, %s)
"""
_MOVE_MIGRATION = "UPDATE schema_migrations SET statements_done = %s WHERE id = %s"
_BEGIN_LOG = """
INSERT IGNORE INTO sync_state (id, epoch, head, tx, gtid_set, server_uuid, fencing_token, chain, min_version)
SELECT 1, 0, 1, 0, gtid_set_before, @@server_uuid, 0, REPEAT(x'00', 32), 1 FROM schema_migrations WHERE id = 1
"""
_BEGIN_EPOCH = "INSERT IGNORE INTO sync_epochs (epoch, fork, reason) VALUES (0, 0, 'first')"


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of sql/: its number, its statements, and a checksum that tells a file that was changed after it ran."""

    id: int
    name: str
    statements: tuple[str, ...]
    checksum: bytes


def read_migrations(directory: Path = SQL_DIRECTORY) -> tuple[Migration, ...]:
    """Return the migrations in order. Raises StartError where numbers repeat or leave a gap."""
    found = []
    for path in sorted(directory.glob("[0-9][0-9][0-9][0-9]_*.sql")):
        text = path.read_text()
        found.append(Migration(int(path.name[:4]), path.name, split_statements(text), hashlib.sha256(text.encode()).digest()))
    if [m.id for m in found] != list(range(1, len(found) + 1)) or not found:
        raise StartError("bad_migrations", f"{directory} does not hold 0001, 0002, … without gaps", hint="reinstall the program")
    return tuple(found)


def split_statements(text: str) -> tuple[str, ...]:
    """Return the statements of a file: each ends with a semicolon at a line's end; `--` lines are comments."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("--")]
    return tuple(part.strip() for part in re.split(r";[ \t]*(?:\n|$)", "\n".join(lines)) if part.strip())


def migrate(settings: Settings) -> list[str]:
    """Bring the database to this program's schema, create the accounts, and return the names of the migrations applied.

    Raises StartError: the server cannot be reached, GTIDs are off, the database is newer, or a file changed after it ran.
    """
    admin = settings.admin()
    with _administrator(admin) as connection:
        gtid_set = _read_gtid_set(connection)
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE IF NOT EXISTS `{_identifier(admin.database)}` CHARACTER SET utf8mb4")
        connection.select_db(admin.database)
        with _migration_lock(connection, admin.database):
            applied = _apply_all(connection, read_migrations(), gtid_set)
            _grant(connection, settings)
    return applied


def check_current(connection: Connection[Any], migrations: tuple[Migration, ...] | None = None) -> None:
    """Raise StartError unless the database is exactly at this program's schema: `serve` and `tail` call it at start."""
    wanted = read_migrations() if migrations is None else migrations
    try:
        done = _read_book(connection)
    except pymysql.err.ProgrammingError:
        done = {}
    _refuse_newer(done, wanted)
    missing = [m.name for m in wanted if m.id not in done or done[m.id][3] < done[m.id][4]]
    if missing:
        raise StartError("database_older", f"the database lacks {', '.join(missing)}", hint="run `matrix-sync migrate`")


def _apply_all(connection: Connection[Any], wanted: tuple[Migration, ...], gtid_set: str) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(_CREATE_BOOK)
    done = _read_book(connection)
    _refuse_newer(done, wanted)
    applied = []
    for migration in wanted:
        row = done.get(migration.id)
        if row and row[2] != migration.checksum:
            raise StartError(
                "migration_changed",
                f"{migration.name} is not the file that was applied to this database",
                hint="restore the released file; migrations are append-only",
            )
        if row is None or row[3] < len(migration.statements):
            _apply(connection, migration, row[3] if row else None, gtid_set)
            applied.append(migration.name)
    with connection.cursor() as cursor:
        cursor.execute(_BEGIN_LOG)
        cursor.execute(_BEGIN_EPOCH)
    connection.commit()
    return applied


def _apply(connection: Connection[Any], migration: Migration, statements_done: int | None, gtid_set: str) -> None:
    with connection.cursor() as cursor:
        if statements_done is None:
            cursor.execute(
                _BEGIN_MIGRATION,
                (migration.id, migration.name, migration.checksum, len(migration.statements), gtid_set),
            )
            connection.commit()
        for number, statement in enumerate(migration.statements):
            if number < (statements_done or 0):
                continue
            try:
                cursor.execute(statement)
            except pymysql.err.MySQLError as problem:
                if not _was_done_before_a_crash(problem, number == statements_done):
                    raise StartError(
                        "migration_failed",
                        f"{migration.name}, statement {number + 1}: {problem.args[-1]}",
                        hint="mend what it names and run `matrix-sync migrate` again; it goes on there",
                    ) from problem
            cursor.execute(_MOVE_MIGRATION, (number + 1, migration.id))
            connection.commit()
    log.info("migration_applied", name=migration.name, statements=len(migration.statements))


def _was_done_before_a_crash(problem: pymysql.err.MySQLError, is_first_of_resumed: bool) -> bool:
    """A crash between a DDL statement and its note in the book: what it makes exists already, or what it drops is gone."""
    table_exists, duplicate_column, duplicate_key, key_is_gone = 1050, 1060, 1061, 1091
    return is_first_of_resumed and problem.args[0] in (table_exists, duplicate_column, duplicate_key, key_is_gone)


def _refuse_newer(done: dict[int, tuple[Any, ...]], wanted: tuple[Migration, ...]) -> None:
    newer = [row[1] for number, row in done.items() if number > len(wanted)]
    if newer:
        raise StartError(
            "database_newer",
            f"the database has {', '.join(newer)}, which this program does not know",
            hint="upgrade matrix-sync to the version that made it, or newer",
        )


def _read_book(connection: Connection[Any]) -> dict[int, tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(_READ_BOOK)
        rows = cursor.fetchall()
    connection.commit()
    return {row[0]: row for row in rows}


def _read_gtid_set(connection: Connection[Any]) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@GLOBAL.gtid_mode, @@GLOBAL.gtid_executed")
        row = cursor.fetchone()
    mode, executed = row if row else ("OFF", "")
    if mode != "ON":
        raise StartError(
            "gtid_mode",
            f"gtid_mode is {mode}: without GTIDs a change log has no beginning",
            hint="start MySQL with --gtid-mode=ON --enforce-gtid-consistency=ON; `matrix-sync doctor` checks the rest",
        )
    return str(executed).replace("\n", "")


def _grant(connection: Connection[Any], settings: Settings) -> None:
    """Create the accounts with the passwords of the settings, and give them what sql/grants.sql says. Kept idempotent."""
    from schema.tables import TABLES

    accounts = {"api": settings.api(), "tailer": settings.tailer(), "operator": settings.operator()}
    names = {role: _account(address) for role, address in accounts.items()}
    statements = list(split_statements((SQL_DIRECTORY / "grants.sql").read_text()))
    statements += [f"GRANT SELECT, INSERT, UPDATE, DELETE ON {{database}}.`{table}` TO {{api}}" for table in TABLES]
    with connection.cursor() as cursor:
        for role, address in accounts.items():
            password = connection.escape(address.password)
            cursor.execute(f"CREATE USER IF NOT EXISTS {names[role]} IDENTIFIED BY {password}")
            cursor.execute(f"ALTER USER {names[role]} IDENTIFIED BY {password}")
        database = f"`{_identifier(settings.admin().database)}`"
        for statement in statements:
            cursor.execute(statement.format(database=database, **names))
    connection.commit()


def _account(address: MySQLAddress) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_]{1,32}", address.user):
        raise StartError("bad_account", f"not usable as an account name: {address.user!r}", hint="1 to 32 of A–Z a–z 0–9 _")
    return f"'{address.user}'@'%'"


def _identifier(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_$-]{1,64}", name):
        raise StartError("bad_database", f"not usable as a database name: {name!r}", hint="1 to 64 of A–Z a–z 0–9 _ $ -")
    return name


@contextmanager
def _administrator(address: MySQLAddress) -> Iterator[Connection[Any]]:
    try:
        connection = open_connection(address, with_database=False)
    except pymysql.err.OperationalError as problem:
        if problem.args[0] == ACCESS_DENIED:
            raise StartError("access_denied", f"MySQL refuses {address.user}: wrong password", hint="mend MYSQL_URL") from problem
        raise StartError(
            "mysql_unreachable",
            f"MySQL at {address.host}:{address.port} does not answer: {problem.args[-1]}",
            hint="mend MYSQL_URL",
        ) from problem
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def _migration_lock(connection: Connection[Any], database: str) -> Iterator[None]:
    """Two programs that migrate at once take turns; the lock ends with the connection."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT GET_LOCK(CONCAT('matrix-sync.migrate.', %s), %s)", (database, LOCK_WAIT_SECONDS))
        row = cursor.fetchone()
        if row != (1,):
            raise StartError("migration_running", "another program is migrating this database", hint="wait for it and try again")
        yield
        cursor.execute("DO RELEASE_LOCK(CONCAT('matrix-sync.migrate.', %s))", (database,))
