"""What a pull has to know before it reads: the head, and what its device was given. One statement serves all that ask at a time.

The statement is sent after the request came. So what it reads is never older than what a push, on whichever worker or machine, was
answered before: read your writes needs no memory that workers share. Under load it costs a request next to nothing, and one that
finds nothing new costs nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import orjson
from aiohttp import web

from api.batch import Batch
from api.db import Database, Session
from api.deliveries import Deliveries
from api.delivery_store import decoded
from api.heads import Head, not_ready
from api.newest import read_newest

COMPANIES_MAX = 50_000
Key = tuple[int, str]
"""company_id, device_id."""

_NEWEST = "SELECT MAX(version) FROM sync_changes WHERE company_id = %s AND version <= (SELECT head FROM sync_state WHERE id = 1)"
_READ_ONE = f"""
SELECT s.epoch, s.head, s.min_version, d.state,
    EXISTS (SELECT 1 FROM sync_redeliveries WHERE company_id = %s AND device_id = %s), ({_NEWEST})
FROM sync_state s LEFT JOIN sync_deliveries d ON d.company_id = %s AND d.device_id = %s WHERE s.id = 1
"""
# For one alone it would take half as long again: MySQL makes a table of what JSON_TABLE gives.
_READ = f"""
SELECT s.epoch, s.head, s.min_version, d.state,
    EXISTS (SELECT 1 FROM sync_redeliveries r WHERE r.company_id = k.company_id AND r.device_id = k.device_id), ({_NEWEST})
FROM sync_state s
JOIN JSON_TABLE(%s, '$[*]' COLUMNS (
    place FOR ORDINALITY,
    company_id BIGINT UNSIGNED PATH '$[0]',
    device_id VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin PATH '$[1]'
)) k
LEFT JOIN sync_deliveries d ON d.company_id = k.company_id AND d.device_id = k.device_id
WHERE s.id = 1 ORDER BY k.place
"""


class Standing(msgspec.Struct, frozen=True):
    """As of one moment after the request came. `newest`: the company's newest change up to the head, 0 where it has none.

    `deliveries` are what `state` says, as it is stored; None where nothing is. `has_redeliveries`: a push of this device may have
    asked for rows that are for it alone.
    """

    head: Head
    deliveries: Deliveries
    state: bytes | None
    has_redeliveries: bool
    newest: int


class Standings:
    """One reader a worker, and the newest change of each company as of the head that it was asked at."""

    def __init__(self, feed: Database) -> None:
        self._batch = Batch(feed, self._read)
        self._head = 0
        self._newest: dict[int, int] = {}

    async def read(self, company_id: int, device_id: str) -> Standing:
        """Return how a device stands. Raises SyncError 503: MySQL is away, the log has not begun, or its past was replaced."""
        return await self._batch.get((company_id, device_id))

    async def close(self) -> None:
        """Wait for what is under way."""
        await self._batch.close()

    async def _read(self, session: Session, keys: Sequence[Key]) -> list[Standing]:
        first = keys[0][0]
        if len(keys) == 1:
            rows = await session.fetch_all(_READ_ONE, (*keys[0], first, *keys[0]))
        else:
            rows = await session.fetch_all(_READ, (first, orjson.dumps(keys).decode()))
        if not rows:
            raise not_ready()
        head = Head(*rows[0][:3])
        session.confirm_head(head.version)
        newest = self._newest_at(head.version)
        newest[first] = rows[0][5] or 0
        unknown = {company_id for company_id, _ in keys} - newest.keys()
        newest.update(await read_newest(session, unknown, head.version))
        return [
            Standing(head, decoded(state), state, bool(has_redeliveries), newest[company_id])
            for (company_id, _), (_, _, _, state, has_redeliveries, _) in zip(keys, rows, strict=True)
        ]

    def _newest_at(self, head: int) -> dict[int, int]:
        """Return what is known of companies' newest changes up to `head`, to be added to: that stays as it is."""
        if head != self._head or len(self._newest) > COMPANIES_MAX:
            self._head, self._newest = head, {}
        return self._newest


STANDINGS = web.AppKey("standings", Standings)
