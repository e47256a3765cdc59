"""Keeps deliveries in MySQL, written before the answer leaves; the rows of many devices go in one commit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

from aiohttp import web

from api.db import Database, DatabaseError, DataRefused, DeadlockFound, LockWaitTimeout, Session, Statement
from api.deliveries import Deliveries, decode, encode
from api.scope import Scope
from schema.errors import SyncError
from schema.logs import get_logger
from schema.tables import TABLES

log = get_logger(__name__)

ROWS_PER_COMMIT_MAX = 200
ATTEMPTS = 3
STATES_MAX = 4_096
WITH_RESTRICTED = frozenset(table.name for table in TABLES.values() if table.restricted)
Key = tuple[int, str]
"""company_id, device_id."""
Update = Callable[[Deliveries], Deliveries]

_LOCK = "SELECT company_id, device_id, state FROM sync_deliveries WHERE (company_id, device_id) IN ({keys}) FOR UPDATE"
# In strict mode NULL is an error in a column that is NOT NULL, and a statement that ends in one has changed nothing.
_REPLACE = "UPDATE sync_deliveries SET state = IF(state = %s, %s, NULL){pulled} WHERE company_id = %s AND device_id = %s"
_PULLED = ", last_pull_at = CURRENT_TIMESTAMP(6)"
# A row of values has the connection's collation, by which nothing would be found in the table's key.
_REPLACE_MANY = """
UPDATE (VALUES {rows}) AS k (company_id, device_id, known, new, is_pull) STRAIGHT_JOIN sync_deliveries d
    ON d.company_id = k.company_id AND d.device_id = k.device_id COLLATE utf8mb4_0900_bin
SET d.state = IF(d.state = k.known COLLATE utf8mb4_0900_bin, k.new, NULL),
    d.last_pull_at = IF(k.is_pull, CURRENT_TIMESTAMP(6), d.last_pull_at)
"""
_STORE = """
INSERT INTO sync_deliveries (company_id, device_id, state, last_pull_at) VALUES {rows} AS new
ON DUPLICATE KEY UPDATE state = new.state, last_pull_at = COALESCE(new.last_pull_at, sync_deliveries.last_pull_at)
"""


@dataclass(frozen=True, slots=True)
class Found:
    """What a request found stored, as it is stored, and what it makes of that."""

    known: bytes
    new: Deliveries


@dataclass(slots=True)
class _Waiting:
    key: Key
    update: Update
    is_pull: bool
    found: Found | None
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class DeliveryStore:
    """One writer a worker; `update` returns when its row is durable."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queue: list[_Waiting] = []
        self._writer: asyncio.Task[None] | None = None

    async def update(self, company_id: int, device_id: str, update: Update, *, is_pull: bool, found: Found | None = None) -> bool:
        """Apply `update` to the stored state under its row's lock; `found`: what comes of it where nobody wrote meanwhile.

        False where MySQL refuses: then it counts as not given.
        """
        waiting = _Waiting((company_id, device_id), update, is_pull, found)
        self._queue.append(waiting)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_all())
        try:
            await asyncio.shield(waiting.done)
        except (SyncError, DatabaseError) as problem:
            log.warning("delivery_not_recorded", code=getattr(problem, "code", type(problem).__name__))
            return False
        return True

    async def close(self) -> None:
        """Wait for what is under way."""
        if self._writer is not None:
            await self._writer

    async def _write_all(self) -> None:
        while self._queue:
            part, self._queue = self._queue[:ROWS_PER_COMMIT_MAX], self._queue[ROWS_PER_COMMIT_MAX:]
            try:
                if not await self._replace(part):
                    await self._database.run(lambda session, part=part: _store(session, part), attempts=ATTEMPTS)  # type: ignore[misc]
            except Exception as problem:
                for waiting in part:
                    if not waiting.done.done():
                        waiting.done.set_exception(problem)
                        waiting.done.exception()  # the caller may have gone away
            else:
                for waiting in part:
                    if not waiting.done.done():
                        waiting.done.set_result(None)

    async def _replace(self, part: list[_Waiting]) -> bool:
        """Store what requests made of the states that they found, if all of these stand as they were; else none of them is stored,
        but those whose rows are there where another one's is gone.
        """
        asked = [(waiting.key, waiting.found, waiting.is_pull) for waiting in part if waiting.found is not None]
        rows = sorted((*key, found.known.decode(), encode(found.new), is_pull) for key, found, is_pull in asked)
        if len({row[:2] for row in rows}) < len(part):
            return False
        async with self._database.read() as session:
            try:
                return (await session.execute(*_replacing(rows))).rows == len(rows)
            except (DataRefused, DeadlockFound, LockWaitTimeout):
                return False


def _replacing(rows: list[tuple[int, str, str, str, bool]]) -> Statement:
    """What replaces states; of each company, device, the known one, the new one, and whether a pull makes it."""
    if len(rows) == 1:
        company_id, device_id, known, new, is_pull = rows[0]
        return _REPLACE.format(pulled=_PULLED if is_pull else ""), (known, new, company_id, device_id)
    marks = ", ".join("ROW(%s, %s, %s, %s, %s)" for _ in rows)
    return _REPLACE_MANY.format(rows=marks), [value for row in rows for value in row]


@lru_cache(maxsize=STATES_MAX)
def decoded(state: bytes | None) -> Deliveries:
    """Return a stored state; the same text gives the same object."""
    return decode(state)


def replace_deliveries(company_id: int, device_id: str, known: str, new: Deliveries) -> Statement:
    """Return what stores a state in the place of `known`, as that was read: a guard of the transaction (`Session.put_guard`)."""
    return _replacing([(company_id, device_id, known, encode(new), False)])


def seen_by(scope: Scope, deliveries: Deliveries) -> Deliveries:
    """Return a state as a request of this scope finds it: what it may not read any more, or sees more of, counts as never given."""
    return deliveries.seen_by(scope.readable, WITH_RESTRICTED, sees_restricted=scope.may_see_restricted)


DELIVERIES = web.AppKey("deliveries", DeliveryStore)


async def _store(session: Session, part: list[_Waiting]) -> None:
    keys = sorted({waiting.key for waiting in part})
    sql = _LOCK.format(keys=", ".join("(%s, %s)" for _ in keys))
    rows = await session.fetch_all(sql, [value for key in keys for value in key])
    states = {(company_id, device_id): decoded(state.encode()) for company_id, device_id, state in rows}
    pulled = set()
    for waiting in part:
        states[waiting.key] = waiting.update(states.get(waiting.key, Deliveries()))
        if waiting.is_pull:
            pulled.add(waiting.key)
    values = ", ".join(f"(%s, %s, %s, {'CURRENT_TIMESTAMP(6)' if key in pulled else 'NULL'})" for key in keys)
    session.put_before((_STORE.format(rows=values), [value for key in keys for value in (*key, encode(states[key]))]))
