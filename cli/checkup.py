"""What `doctor` asks, part by part: a part that cannot be asked is a finding too, and the next one is asked all the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pymysql
import redis
from pymysql.connections import Connection

from cdc.findings import Finding, fatal, ok, warning
from cdc.holder import read_silence
from cdc.past import read_log_id
from cdc.preflight import find_problems
from cdc.privileges import check_privileges, read_grants
from cdc.status import TailerStatus, read_tailer_status
from cdc.surroundings import check_bypassers
from cdc.witnesses import check_witness
from cli.output import connect_error
from schema import migrations
from schema.connect import open_connection
from schema.database_check import find_differences
from schema.errors import MatrixError, StartError
from schema.leases import tailer_lock
from schema.settings import MySQLAddress, Settings

CONNECT_SECONDS = 5
ANSWER_SECONDS = 10
BEHIND_TXS_MAX = 1000

_NEEDED = {
    "mysql_api_url": ("SYNC_MYSQL_API_URL", "`serve` cannot start"),
    "mysql_tailer_url": ("SYNC_MYSQL_TAILER_URL", "`tail` cannot start"),
    "mysql_operator_url": ("SYNC_MYSQL_OPERATOR_URL", "the operator's commands cannot start"),
    "jwt_secret": ("SYNC_JWT_SECRET", "`serve` cannot start"),
}
_USEFUL = {
    "mysql_url": ("MYSQL_URL", "`migrate` cannot run, and other accounts cannot be checked"),
    "redis_url": ("REDIS_URL", "devices hear of changes a little later"),
}

Ask = Callable[["Connection[Any]"], Iterable[Finding]]


def examine(settings: Settings) -> list[Finding]:
    """Every finding, good ones too, each once."""
    accounts = _Accounts()
    found = [
        *_check_settings(settings),
        *accounts.ask("SYNC_MYSQL_TAILER_URL", settings.tailer, lambda c: _see_as_tailer(c, settings)),
        *accounts.ask("SYNC_MYSQL_API_URL", settings.api, lambda c: [_check_account(c, "api", settings.api())]),
        *accounts.ask("SYNC_MYSQL_OPERATOR_URL", settings.operator, lambda c: _see_as_operator(c, settings)),
    ]
    bypassers = list(accounts.ask("MYSQL_URL", settings.admin, lambda c: [check_bypassers(c)], is_needed=False))
    if bypassers:  # an administrator sees more than the tailer's account
        found = [finding for finding in found if finding.code != "sql_log_bin"] + bypassers
    return list(dict.fromkeys([*found, _check_redis(settings)]))


class _Accounts:
    """Connects with one account after the other; a server that has not answered one is not waited for again."""

    def __init__(self) -> None:
        self._away: set[tuple[str, int, str | None]] = set()

    def ask(self, variable: str, address_of: Callable[[], MySQLAddress], ask: Ask, *, is_needed: bool = True) -> Iterator[Finding]:
        """Connect and ask; whatever fails is a finding, but for a setting that is missing: `_check_settings` tells that."""
        make = fatal if is_needed else warning
        try:
            with self._session(variable, address_of) as connection:
                if connection is not None:
                    yield from ask(connection)
        except MatrixError as problem:
            yield make(problem.code, problem.message, problem.hint)
        except pymysql.err.MySQLError as problem:
            yield make("mysql_error", f"MySQL: {problem.args[-1] if problem.args else problem}", "see MySQL's error log")

    @contextmanager
    def _session(self, variable: str, address_of: Callable[[], MySQLAddress]) -> Iterator[Connection[Any] | None]:
        try:
            address = address_of()
        except MatrixError as problem:
            if problem.code == "setting_missing":
                yield None
                return
            raise StartError(problem.code, f"{variable}: {problem.message}", hint=problem.hint) from problem
        where = (address.host, address.port, address.socket)
        if where in self._away:
            yield None
            return
        try:
            connection = open_connection(address, timeout_seconds=CONNECT_SECONDS, read_timeout=ANSWER_SECONDS)
        except pymysql.err.MySQLError as problem:
            error = connect_error(problem, address)
            if error.code == "mysql_unreachable":
                self._away.add(where)
            raise error from problem
        with connection:
            yield connection


def _check_settings(settings: Settings) -> Iterator[Finding]:
    for field, (variable, consequence) in _NEEDED.items():
        if not getattr(settings, field):
            yield fatal(
                "setting_missing", f"{variable} is not set: {consequence}", f"set {variable}, or start with `matrix-sync up`"
            )
    for field, (variable, consequence) in _USEFUL.items():
        if not getattr(settings, field):
            yield warning("setting_missing", f"{variable} is not set: {consequence}", f"set {variable}")


def _see_as_tailer(connection: Connection[Any], settings: Settings) -> Iterator[Finding]:
    """MySQL's settings and the schema, as the tailer's account sees them."""
    yield from find_problems(connection, settings)
    silent = read_silence(connection, tailer_lock(settings.tailer().database))
    if silent is not None:
        yield warning(
            "tailer_silent",
            f"the tailer that holds the lease has sent nothing for {silent} s: its process is stopped, or its network is gone",
            "let it go on, or start another `matrix-sync tail`, which ends its session and takes over",
        )
    migrations.check_current(connection)
    differences = find_differences(connection, settings.tailer().database)
    for sentence in differences:
        yield fatal("schema_differs", sentence, "undo the ALTER, or add the column to schema/tables.py with a migration")
    if not differences:
        yield ok("schema", "the database is at this program's schema")


def _see_as_operator(connection: Connection[Any], settings: Settings) -> Iterator[Finding]:
    """The operator's own privileges, and how the tailer stands."""
    address = settings.operator()
    yield _check_account(connection, "operator", address)
    status = read_tailer_status(connection, address.database)
    yield from check_tailer(status)
    yield from check_witness(settings, address.database, read_log_id(connection), is_empty=status.state.tx == 0)


def _check_account(connection: Connection[Any], role: str, address: MySQLAddress) -> Finding:
    return check_privileges(read_grants(connection), role, address.database)


def check_tailer(status: TailerStatus) -> Iterator[Finding]:
    """Whether one lives, whether it halted, and whether the server still has what it needs."""
    halt, behind = status.last_halt, status.behind.count()
    if status.is_halted and halt:
        where = f"{halt.get('gtid') or 'no transaction'} at {halt['file']}:{halt['pos']}" if halt.get("file") else "at start"
        yield fatal("halted", f"the tailer halted at {halt['at']} UTC, {where}: {halt['message']}", str(halt["hint"]))
    elif status.holder is None:
        yield warning("tailer", f"no tailer runs; transactions that wait for it: {behind}", "start `matrix-sync tail`")
    elif behind > BEHIND_TXS_MAX:
        yield warning("lag", f"the tailer ({status.holder}) is {behind} transactions behind", "see its log")
    else:
        yield ok("tailer", f"a tailer runs ({status.holder}); transactions that wait for it: {behind}")
    if halt and not status.is_halted:
        yield ok("last_halt", f"the last halt, {halt['code']} at {halt['at']} UTC, has been passed")
    if status.purged:
        yield fatal("binlog_purged", f"the server purged {status.purged} unread", "see docs/operators.md, “A purged binlog”")
    if status.lost:
        yield fatal(
            "transactions_lost",
            f"the server never executed {status.lost}, which the change log holds",
            "see docs/operators.md, “A restored backup”",
        )


def _check_redis(settings: Settings) -> Finding:
    if not settings.redis_url:
        return ok("redis", "Redis is not used")
    timeout = settings.redis_timeout_ms / 1000
    try:
        with redis.Redis.from_url(settings.redis_url, socket_timeout=timeout, socket_connect_timeout=timeout) as client:
            client.ping()
    except (redis.RedisError, ValueError) as problem:
        return warning("redis", f"Redis does not answer: {problem}", "start it, or mend REDIS_URL; all works, but slower")
    return ok("redis", "Redis answers")
