"""The process that turns the binlog into the change log: its life and its states (running, retrying, standby, halted).

One pass: connect, check what MySQL must be, take the lease, read where to start, follow the stream until something ends it. What
ended it is classed once: Retry backs off and starts a pass anew from the stored checkpoint; everything else leaves `run`.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import orjson
import pymysql
from pymysql.connections import Connection

from cdc.announce import Announcer
from cdc.builder import is_wanted
from cdc.checkpoint import read_start
from cdc.entries import PendingTx
from cdc.follow import Follower, companies_of
from cdc.lease import Candidate, Lease
from cdc.past import confirm_past
from cdc.preflight import require_ready
from cdc.source import BinlogSource, ConnectionSettings
from cdc.state import State, read_state
from cdc.tx import assemble
from cdc.witness import WitnessKeeper
from schema import database_check, migrations
from schema.connect import ACCESS_DENIED, UNKNOWN_DATABASE, open_connection
from schema.errors import Halt, LeaseLost, Retry, StartError, TailerError
from schema.logs import get_logger
from schema.settings import MySQLAddress, Settings
from schema.tables import TABLES

log = get_logger(__name__)

BACKOFF_SECONDS_MIN = 0.1
LOOK_SECONDS = 0.02
"""How often, while there is much to read, the lease and the batch under way are looked after."""
CONNECT_SECONDS_MAX = 10
CONFLICT_SECONDS = 5
"""Whoever else uses our server id is put off by each of our attempts, and we by each of theirs."""
SQL_SECONDS_MAX = 25
LOCK_SECONDS_MAX = 20
"""MySQL answers before we give up on the connection; so a network that swallows everything is found within 30 s."""
_BOUND_LOCKS = f"""
SET SESSION lock_wait_timeout = {LOCK_SECONDS_MAX},
    innodb_lock_wait_timeout = CAST(LEAST(@@innodb_lock_wait_timeout, {LOCK_SECONDS_MAX}) AS SIGNED)
"""
_NEVER_STORABLE = (1153, 1301, 1366, 1406, 1264, 3140)
"""Packet too large, and values that a column cannot hold: a retry would meet them again."""
_NOTE_HALT = "INSERT INTO sync_audit (actor, action, details) VALUES ('tailer', 'halted', %s)"
_READ_LAST_HALT = "SELECT details FROM sync_audit WHERE action = 'halted' ORDER BY id DESC LIMIT 1"


class Tailer:
    """Run it in the main thread; `stop` may be called from a signal handler or another thread.

    `reload` reads the settings again where MySQL refuses the account: its password may have been changed.
    """

    def __init__(self, settings: Settings, reload: Callable[[], Settings] | None = None) -> None:
        self._settings = settings
        self._reload = reload
        self._address = settings.tailer()
        self._stopped = threading.Event()
        self._source: BinlogSource | None = None
        self._announcer = Announcer(settings, database=self._address.database)
        self._witness = WitnessKeeper(settings, self._address.database, self._announcer)
        self._backoff_seconds = BACKOFF_SECONDS_MIN
        self._has_connected = False
        self._session: int | None = None
        self._was_ready = False

    def stop(self) -> None:
        """End `run` after the commit that is under way."""
        self._stopped.set()
        if self._source is not None:
            self._source.close()

    def run(self, *, standby: bool = False) -> None:
        """Follow the binlog until `stop`.

        Raises Halt (recorded in sync_audit), LeaseLost, StartError, and Standby where another tailer lives and `standby` is off.
        With `standby` a lost lease is waited for again.
        """
        try:
            while not self._stopped.is_set():
                try:
                    self._pass(standby=standby)
                except Retry as problem:
                    self._back_off(problem)
                except LeaseLost as lost:
                    if not standby:
                        raise
                    self._back_off(Retry(lost.code, lost.message))
                except Halt as halt:
                    self._record(halt)
                    raise
        finally:
            self._witness.close()
            self._announcer.close()

    def _pass(self, *, standby: bool) -> None:
        connection = self._connect()
        try:
            with connection.cursor() as cursor:
                cursor.execute(_BOUND_LOCKS)
            migrations.check_current(connection)
            database_check.check(connection, self._address.database)
            self._require_ready(connection)
            candidate = Candidate(connection, self._address.database, former=self._session)
            self._session = int(connection.thread_id())  # type: ignore[no-untyped-call]
            if candidate.take(is_standby=standby, wait=self._stopped.wait):
                state = read_start(connection, self._address)
                self._follow(connection, confirm_past(connection, state, self._witness))
        except (pymysql.err.MySQLError, OSError) as problem:
            raise _classed(problem) from problem
        finally:
            with suppress(pymysql.err.MySQLError, OSError):
                connection.close()

    def _connect(self) -> Connection[Any]:
        try:
            connection = open_connection(
                self._address,
                timeout_seconds=CONNECT_SECONDS_MAX,
                may_load=True,
                read_timeout=SQL_SECONDS_MAX,
                write_timeout=SQL_SECONDS_MAX,
            )
        except pymysql.err.OperationalError as problem:
            if problem.args[0] in (ACCESS_DENIED, UNKNOWN_DATABASE) and not self._has_connected:
                raise _refused_at_start(problem) from problem
            if problem.args[0] == ACCESS_DENIED and self._reload is not None:
                with suppress(StartError):  # a file that is being written: the next attempt reads it again
                    self._address = self._reload().tailer()
            raise _classed(problem) from problem
        self._has_connected = True
        return connection

    def _require_ready(self, connection: Connection[Any]) -> None:
        """What is wrong at start stays so until somebody mends it; later it may pass, as a failover's read-only moment does."""
        try:
            require_ready(connection, self._settings)
        except StartError as problem:
            if self._was_ready:
                raise Retry(problem.code, problem.message) from problem
            raise
        self._was_ready = True

    def _follow(self, connection: Connection[Any], state: State) -> None:
        lease = Lease(connection)
        self._source = source = BinlogSource(
            connect=_stream_settings(self._address),
            server_id=self._settings.tailer_server_id or _server_id(self._address),
            start=state.gtid_set,
            heartbeat_seconds=self._settings.tailer_heartbeat_seconds,
            name=self._address.database,
            on_wait=lambda: _keep(lease, follower),
        )
        log.info("running", head=state.head, epoch=state.epoch, gtid_set=str(state.gtid_set), fencing_token=state.fencing_token)
        follower = Follower(connection, self._settings, state, self._appended)
        began = time.monotonic()
        try:
            self._take_all(follower, source, lease)
        except Halt:
            follower.finish()  # what came whole before it is good
            raise
        except Retry as problem:
            if time.monotonic() - began > self._backoff_seconds:
                self._backoff_seconds = BACKOFF_SECONDS_MIN
            if problem.code == "server_id_conflict":
                follower.settle()
                lease.check()  # a successor's stream ends ours: then the lease is gone too, and this is no conflict
            raise
        finally:
            source.close()
            self._source = None
            follower.close()
        follower.finish()
        if not self._stopped.is_set():
            raise Retry("stream_ended", "the binlog stream ended")
        log.info("stopped", head=follower.state.head)

    def _take_all(self, follower: Follower, source: BinlogSource, lease: Lease) -> None:
        look_at = 0.0

        def is_drained() -> bool:
            return source.is_drained(follower.patient_until)

        for item in assemble(source.events(), self._address.database, is_wanted, is_drained, TABLES):
            follower.take(item)
            now = time.monotonic()
            if now >= look_at:
                look_at = now + LOOK_SECONDS
                _keep(lease, follower)
            if self._stopped.is_set():
                return

    def _appended(self, before: State, after: State, batch: list[PendingTx]) -> None:
        self._backoff_seconds = BACKOFF_SECONDS_MIN
        if after.head == before.head:
            return
        now, now_us = time.monotonic(), time.time_ns() // 1000
        self._announcer.publish(now, old_head=before.head, new_head=after.head, companies=companies_of(batch))
        log.info(
            "appended",
            changes=after.head - before.head,
            txs=after.tx - before.tx,
            head=after.head,
            gtid=str(batch[-1].gtid),
            lag_ms=max(0, now_us - batch[-1].commit_time_us) // 1000,
        )
        self._announcer.keep_witness(now, self._witness.note(after, batch[-1].commit_time_us))

    def _back_off(self, problem: Retry) -> None:
        seconds = max(self._backoff_seconds, CONFLICT_SECONDS if problem.code == "server_id_conflict" else 0)
        log.warning("retrying", code=problem.code, reason=problem.message, seconds=seconds)
        self._stopped.wait(seconds)
        self._backoff_seconds = min(self._backoff_seconds * 2, self._settings.tailer_backoff_seconds_max)

    def _record(self, halt: Halt) -> None:
        """Leave word in sync_audit, once per reason, and complete the error with the checkpoint."""
        try:
            connection = open_connection(self._address)
            try:
                halt.details = {**halt.details, "checkpoint": str(read_state(connection).gtid_set)}
                details = {"code": halt.code, "message": halt.message, "hint": halt.hint, **halt.details}
                with connection.cursor() as cursor:
                    cursor.execute(_READ_LAST_HALT)
                    last = cursor.fetchone()
                    if last is None or orjson.loads(last[0]) != details:
                        cursor.execute(_NOTE_HALT, (orjson.dumps(details).decode(),))
                connection.commit()
            finally:
                connection.close()
        except (pymysql.err.MySQLError, OSError) as problem:
            log.warning("halt_not_recorded", error=type(problem).__name__)
        log.error("halted", code=halt.code, reason=halt.message, hint=halt.hint, details=halt.details)


def _keep(lease: Lease, follower: Follower) -> None:
    """Let the server hear of us where it does not anyway; what kept the last batch from being stored is raised here, too."""
    if not follower.is_storing:
        follower.settle()
        lease.keep()


def _refused_at_start(problem: pymysql.err.OperationalError) -> StartError:
    """Before the first connection a refusal is a wrong setting; after it, a password that is being changed: worth a retry."""
    return StartError(
        "access_denied", f"MySQL refuses the tailer: {problem.args[-1]}", hint="run `matrix-sync migrate`, or mend the URL"
    )


def _classed(problem: pymysql.err.MySQLError | OSError) -> TailerError:
    """What a driver's error means for the tailer. An interrupted append wrote nothing, or all: the next pass reads which."""
    number = problem.args[0] if problem.args else 0
    if number in _NEVER_STORABLE:
        return Halt("not_storable", f"the change log cannot hold a change: {problem.args[-1]}", hint="raise max_allowed_packet")
    if isinstance(problem, pymysql.err.ProgrammingError | pymysql.err.IntegrityError | pymysql.err.DataError):
        return Halt(
            "append_refused", f"MySQL refuses the append: {problem.args[-1]}", hint="`matrix-sync doctor` checks the privileges"
        )
    code = "auth_failed" if number == ACCESS_DENIED else "mysql_unavailable"
    return Retry(code, f"{type(problem).__name__} {number}: {problem.args[-1] if problem.args else ''}")


def _stream_settings(address: MySQLAddress) -> ConnectionSettings:
    return ConnectionSettings(
        host=address.host, port=address.port, user=address.user, password=address.password, unix_socket=address.socket
    )


def _server_id(address: MySQLAddress) -> int:
    """A replica id that is ours and stays the same: a second tailer of the database never gets as far as using it."""
    return 0x4D000000 | zlib.crc32(f"{address.host}:{address.port}/{address.database}".encode()) & 0xFFFFFF
