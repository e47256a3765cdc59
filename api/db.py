"""MySQL for the API: sessions, snapshots and transactions on a fair pool. Deadlocks are run again here and nowhere else."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from api.db_errors import (
    CommitUnknown,
    DatabaseError,
    DataRefused,
    DeadlockFound,
    DuplicateKey,
    ForeignKeyFailed,
    LockWaitTimeout,
    MovedOn,
    busy,
    is_lost,
    translate,
    unavailable,
)
from api.db_pool import Pool
from api.db_text import check_parameters, statement_text
from api.past import SeenHead
from schema.errors import SyncError
from schema.logs import get_logger
from schema.settings import MySQLAddress

__all__ = [
    "CommitUnknown",
    "DataRefused",
    "Database",
    "DatabaseError",
    "DeadlockFound",
    "DuplicateKey",
    "ForeignKeyFailed",
    "LockWaitTimeout",
    "MovedOn",
    "Outcome",
    "Result",
    "Session",
    "Statement",
    "inserting",
]

log = get_logger(__name__)
T = TypeVar("T")
STATEMENT_SECONDS_MAX = 30
ROWS_PER_STATEMENT_MAX = 200
BACKOFF_SECONDS = 0.01
BACKOFF_SECONDS_MAX = 0.2


@dataclass(frozen=True, slots=True)
class Result:
    """What a write did: `rows` that its WHERE matched (changed or not), `last_id` the first AUTO_INCREMENT value it gave."""

    rows: int
    last_id: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one of several statements gave."""

    rows: Sequence[tuple[Any, ...]]
    result: Result


Statement = tuple[str, Sequence[Any]]
"""SQL with `%s` for each of its parameters, and these."""


class Session:
    """One connection for as long as a `with` of `Database` lasts. Parameters are `%s` and always values, never lists or dicts."""

    def __init__(
        self, connection: Any | None, seen: SeenHead, *, is_prepared: bool, acquire: Callable[[], Awaitable[Any]] | None = None
    ) -> None:
        self._connection = connection
        self._acquire = acquire
        self._is_prepared = is_prepared
        self._is_lost = False
        self._before: list[str] = []
        self._guard: int | None = None
        """Which of the statements before the next one is a guard."""
        self._seen = seen
        self.head_floor = seen.version
        """The head that was known before this session saw anything: what it reads is not below it."""
        self.id_step: int | None = None
        """By how much MySQL steps from one AUTO_INCREMENT value to the next; None until somebody asked."""
        self.attempt = 1
        """How often the transaction was begun, this time included."""

    @property
    def connection(self) -> Any | None:
        """The driver's; None where none was needed yet."""
        return self._connection

    @property
    def is_lost(self) -> bool:
        """The connection broke, or was left in the middle of an answer."""
        return self._is_lost

    def confirm_head(self, version: int) -> None:
        """Take over a head that this session read. Raises SyncError 503 where MySQL's past was replaced."""
        self._seen.confirm(version, self.head_floor)

    def put_before(self, *statements: Statement) -> None:
        """Run statements that tell nothing right before the next one, be it the COMMIT, in one packet with it."""
        self._before += (statement_text(*statement) for statement in statements)

    def put_guard(self, statement: Statement) -> None:
        """The same for one that MySQL refuses as data where what the transaction was built on was written meanwhile: then nothing
        after it is run, and the next `run`, or the COMMIT, raises MovedOn.
        """
        assert self._guard is None
        self._guard = len(self._before)
        self.put_before(statement)

    def drop_before(self) -> None:
        """Do not run what was put before the next statement."""
        self._before, self._guard = [], None

    async def fetch_all(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return all rows. Raises the errors of `api.db_errors`."""
        return list((await self.run((sql, params)))[0].rows)

    async def fetch_one(self, sql: str, params: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """Return the first row, or None."""
        rows = (await self.run((sql, params)))[0].rows
        return rows[0] if rows else None

    async def execute(self, sql: str, params: Sequence[Any] = ()) -> Result:
        """Run a statement that gives no rows."""
        return (await self.run((sql, params)))[0].result

    async def run(self, *statements: Statement) -> list[Outcome]:
        """Run statements in one packet, one after the other; where one fails, those after it are not run, and its error is raised.

        A round trip costs client and server more than a narrow statement does.
        """
        if not statements:
            return []
        is_prepared = self._is_prepared and len(statements) == 1 and not self._before
        if is_prepared:
            check_parameters(statements[0][1])
        texts = [statement_text(*statement) for statement in statements] if not is_prepared else []
        if self._connection is None and self._acquire is not None:
            self._connection = await self._acquire()
        assert self._connection is not None
        before, guard = self._before, self._guard
        self.drop_before()  # it must never run twice: START TRANSACTION would commit
        outcomes: list[Outcome] = []
        try:
            async with asyncio.timeout(STATEMENT_SECONDS_MAX), self._connection.cursor() as cursor:
                if is_prepared:
                    await cursor.execute(statements[0][0], tuple(statements[0][1]) or None)
                else:
                    await cursor.execute(";\n".join((*before, *texts)))
                await _take_outcomes(cursor, outcomes)
        except asyncio.CancelledError:
            self._is_lost = True  # the rest of the answer may still be on the line
            raise
        except TimeoutError:
            self._is_lost = True
            raise unavailable() from None
        except Exception as problem:
            self._is_lost = self._is_lost or is_lost(problem)
            known = translate(problem)
            if known is None:
                raise
            raise MovedOn() if isinstance(known, DataRefused) and len(outcomes) == guard else known from problem
        return outcomes[len(before) :]


async def _take_outcomes(cursor: Any, outcomes: list[Outcome]) -> None:
    """Add what each statement of a packet gave. Where one is refused, what those before it gave is there."""
    outcomes.append(Outcome(await cursor.fetchall(), Result(cursor.rowcount, cursor.lastrowid)))
    while await cursor.nextset():
        outcomes.append(Outcome(await cursor.fetchall(), Result(cursor.rowcount, cursor.lastrowid)))


class Database:
    """MySQL behind a fair pool of `pool_size` connections in UTC, strict mode and utf8mb4.

    With `raw_text` text columns come as bytes, statements are prepared, and the sessions' own isolation level is that of
    snapshots: for the feed, whose pages are joined as bytes and never parsed.
    """

    def __init__(
        self, address: MySQLAddress, *, pool_size: int, wait_ms_max: int, raw_text: bool = False, seen: SeenHead | None = None
    ) -> None:
        self.seen = seen or SeenHead()
        self._pool = Pool(address, size=pool_size, wait_ms_max=wait_ms_max, raw_text=raw_text)
        self._is_repeatable = raw_text

    @property
    def connections_in_use(self) -> int:
        """Connections that are lent out now."""
        return self._pool.in_use

    @property
    def callers_waiting(self) -> int:
        """Callers that wait for a connection."""
        return self._pool.waiting

    async def open(self) -> None:
        """Open a first connection, so that a wrong address or password shows at start. Raises SyncError."""
        async with self.read() as session:
            await session.fetch_one("SELECT 1")

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.close()

    @asynccontextmanager
    async def read(self, *, first: bool = False) -> AsyncIterator[Session]:
        """Single statements, each its own transaction. `first`: it does not stand in line (`Pool.acquire`)."""
        connection = await self._pool.acquire(first=first)
        session = Session(connection, self.seen, is_prepared=self._is_repeatable)
        try:
            yield session
        finally:
            self._take_back(session)

    @asynccontextmanager
    async def read_late(self) -> AsyncIterator[Session]:
        """As `read`, first in line, and with a connection only from when something is asked: for the end of a request that has
        stood in line before.
        """
        session = Session(None, self.seen, is_prepared=self._is_repeatable, acquire=partial(self._pool.acquire, first=True))
        try:
            yield session
        finally:
            self._take_back(session)

    def _take_back(self, session: Session) -> None:
        """The connection of a session of single statements, if it ever needed one, goes back to the pool."""
        connection = session.connection
        if connection is not None:
            self._pool.release(connection, is_good=not session.is_lost and not connection.get_transaction_status())

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Session]:
        """Reads of one moment: REPEATABLE READ, read only, the moment is the start."""
        async with self._lent() as session:
            if not self._is_repeatable:
                await session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            await session.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
            yield session

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        """A transaction at READ COMMITTED: COMMIT at the end, ROLLBACK on any exception.

        Raises CommitUnknown where the connection broke during COMMIT.
        """
        async with self._lent() as session:
            if self._is_repeatable:
                await session.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
            session.put_before(("START TRANSACTION", ()))
            yield session
            try:
                await session.execute("COMMIT")
            except SyncError as problem:
                raise CommitUnknown() from problem

    async def run(self, work: Callable[[Session], Awaitable[T]], *, attempts: int) -> T:
        """Run `work` in a transaction, all of it again after a deadlock, a lock timeout, or where what it was built on has moved.
        Raises SyncError `busy` at the end.

        Source: MySQL manual, "How to Minimize and Handle Deadlocks": always be prepared to re-issue a transaction.
        """
        for attempt in range(1, attempts + 1):
            try:
                async with self.transaction() as session:
                    session.attempt = attempt
                    return await work(session)
            except (DeadlockFound, LockWaitTimeout, MovedOn) as problem:
                log.info("tx_run_again", code=problem.code, attempt=attempt)
            if attempt < attempts:
                pause = min(BACKOFF_SECONDS * 2**attempt, BACKOFF_SECONDS_MAX)
                await asyncio.sleep(pause * (0.5 + random.random()))
        raise busy()

    @asynccontextmanager
    async def _lent(self) -> AsyncIterator[Session]:
        """A connection that goes back with nothing open: what was not committed is rolled back."""
        connection = await self._pool.acquire()
        session = Session(connection, self.seen, is_prepared=self._is_repeatable)
        is_good = False
        try:
            yield session
            is_good = not connection.get_transaction_status() or await _rolled_back(session)
        except Exception:
            is_good = not session.is_lost and await _rolled_back(session)
            raise
        finally:
            self._pool.release(connection, is_good=is_good)


async def _rolled_back(session: Session) -> bool:
    session.drop_before()
    try:
        await session.execute("ROLLBACK")
    except Exception as problem:
        log.warning("rollback_failed", error=type(problem).__name__)
        return False
    return True


def inserting(sql: str, rows: Sequence[Sequence[Any]]) -> list[Statement]:
    """Return statements that insert rows, many in each; `sql` has `{rows}` where they stand."""
    statements: list[Statement] = []
    for start in range(0, len(rows), ROWS_PER_STATEMENT_MAX):
        part = rows[start : start + ROWS_PER_STATEMENT_MAX]
        marks = f"({', '.join('%s' for _ in part[0])})"
        statements.append((sql.format(rows=", ".join(marks for _ in part)), [value for row in part for value in row]))
    return statements
