"""What a pull has to know before it reads: the head, and what its device was given. One statement serves all that ask at a time.

The statement is sent after the request came. So what it reads is never older than what a push, on whichever worker or machine, was
answered before: read your writes needs no memory that workers share. Under load it costs a request next to nothing, and one that
finds nothing new costs nothing else.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import lru_cache

import orjson
from aiohttp import web

from api.db import Database, Session
from api.deliveries import Deliveries, decode
from api.heads import Head, not_ready

DEVICES_PER_QUERY_MAX = 200
STEP_VERSIONS_MAX = 10_000
"""Behind by more than this, it is not asked whose the changes are: all companies may have some."""
COMPANIES_MAX = 50_000
STATES_MAX = 4_096
Key = tuple[int, str]
"""company_id, device_id."""

_READ = """
SELECT s.epoch, s.head, s.min_version, d.state,
    EXISTS (SELECT 1 FROM sync_redeliveries r WHERE r.company_id = k.company_id AND r.device_id = k.device_id)
FROM sync_state s
JOIN JSON_TABLE(%s, '$[*]' COLUMNS (
    place FOR ORDINALITY,
    company_id BIGINT UNSIGNED PATH '$[0]',
    device_id VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin PATH '$[1]'
)) k
LEFT JOIN sync_deliveries d ON d.company_id = k.company_id AND d.device_id = k.device_id
WHERE s.id = 1 ORDER BY k.place
"""
_READ_NEWEST = """
SELECT company_id, MAX(version) FROM sync_changes WHERE version > %s AND version <= %s GROUP BY company_id
"""


@dataclass(frozen=True, slots=True)
class Standing:
    """As of one moment after the request came. `newest`: the company has no change between it and the head.

    `has_redeliveries`: a push of this device may have asked for rows that are for it alone.
    """

    head: Head
    deliveries: Deliveries
    has_redeliveries: bool
    newest: int


class Standings:
    """One reader a worker, and the newest change of each company as far as the worker has looked."""

    def __init__(self, feed: Database) -> None:
        self._feed = feed
        self._queue: list[tuple[Key, asyncio.Future[Standing]]] = []
        self._reader: asyncio.Task[None] | None = None
        self._head = 0
        self._began = 0
        self._newest: dict[int, int] = {}

    async def read(self, company_id: int, device_id: str) -> Standing:
        """Return how a device stands. Raises SyncError 503: MySQL is away, the log has not begun, or its past was replaced."""
        future: asyncio.Future[Standing] = asyncio.get_running_loop().create_future()
        self._queue.append(((company_id, device_id), future))
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read_all())
        return await future

    async def close(self) -> None:
        """Wait for what is under way."""
        if self._reader is not None:
            await self._reader

    async def _read_all(self) -> None:
        while self._queue:
            part, self._queue = self._queue[:DEVICES_PER_QUERY_MAX], self._queue[DEVICES_PER_QUERY_MAX:]
            try:
                async with self._feed.read() as session:
                    found = await self._read(session, [key for key, _ in part])
            except Exception as problem:
                for _, future in part:
                    if not future.done():
                        future.set_exception(problem)
            else:
                for (_, future), standing in zip(part, found, strict=True):
                    if not future.done():
                        future.set_result(standing)

    async def _read(self, session: Session, keys: list[Key]) -> list[Standing]:
        rows = await session.fetch_all(_READ, (orjson.dumps(keys).decode(),))
        if not rows:
            raise not_ready()
        head = Head(*rows[0][:3])
        session.confirm_head(head.version)
        if head.version != self._head:
            await self._look(session, head.version)
        return [
            Standing(head, _decoded(state), bool(has_redeliveries), self._newest.get(company_id, self._began))
            for (company_id, _), (_, _, _, state, has_redeliveries) in zip(keys, rows, strict=True)
        ]

    async def _look(self, session: Session, head: int) -> None:
        """Learn whose the changes up to `head` are; they are all there, and stay as they are."""
        if self._head < head <= self._head + STEP_VERSIONS_MAX and len(self._newest) < COMPANIES_MAX:
            self._newest.update(await session.fetch_all(_READ_NEWEST, (self._head, head)))
        else:
            self._began, self._newest = head, {}
        self._head = head


STANDINGS = web.AppKey("standings", Standings)


@lru_cache(maxsize=STATES_MAX)
def _decoded(state: bytes | None) -> Deliveries:
    return decode(state)
