"""What was pushed, is neither applied nor in conflict, and waits for somebody (contract §3).

A change that was sent again counts once, by its newest try, and no more once it took effect: an INSERT when its local id stands for
a record, mended or not; any other change when the very same one was taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from api.db import Session
from schema.values import rfc3339

_WAITING = """
FROM (SELECT MAX(id) AS id, COUNT(*) AS attempts FROM sync_pushed
      WHERE company_id = %s AND status = 'rejected' AND (%s IS NULL OR device_id = %s) GROUP BY device_id, fingerprint) newest
JOIN sync_pushed p ON p.id = newest.id
LEFT JOIN record_identities i ON i.company_id = p.company_id AND i.device_id = p.device_id AND i.install_id = p.install_id
    AND i.table_name = CONVERT(p.table_name USING ascii) AND i.local_id = p.local_id
WHERE NOT (p.operation = 'INSERT' AND COALESCE(i.origin_id > p.origin_id, FALSE))
AND NOT EXISTS (SELECT 1 FROM sync_pushed later
    WHERE later.company_id = p.company_id AND later.table_name = p.table_name
    AND later.record_id = COALESCE(p.record_id, i.record_id) AND later.device_id = p.device_id
    AND later.id > p.id AND later.fingerprint = p.fingerprint AND later.status <> 'rejected')
"""
_COUNT = f"SELECT COUNT(*) {_WAITING}"
_LIST = f"""
SELECT p.id, p.device_id, p.table_name, p.local_id, p.record_id, p.operation, p.payload, p.base_version, p.code, p.message,
    newest.attempts, (SELECT o.created_at FROM sync_origins o WHERE o.id = p.origin_id)
{_WAITING} AND p.id > %s ORDER BY p.id LIMIT %s
"""
_READ = f"""
SELECT p.table_name, p.local_id, p.record_id, p.operation, p.payload, p.base_version, p.code, p.edited_at_us, p.fingerprint,
    p.origin_id, p.group_name
{_WAITING} AND p.install_id = %s {{chosen}} ORDER BY p.id LIMIT %s
"""
_CHOSEN = """
AND (p.id IN ({marks}) OR (p.origin_id, p.group_name) IN
    (SELECT chosen.origin_id, chosen.group_name FROM sync_pushed chosen WHERE chosen.id IN ({marks})))
"""


class Kept(NamedTuple):
    """A rejected change as it is kept."""

    table: str
    local_id: str | None
    record_id: int | None
    operation: str
    payload: str
    base_version: int | None
    code: str
    edited_at_us: int | None
    fingerprint: bytes
    origin_id: int
    group_name: str | None


_NAMES = ("id", "device_id", "table", "local_id", "record_id", "operation", "data", "base_version", "code", "message", "attempts")


async def count_rejected(session: Session, company_id: int, device_id: str) -> int:
    """How many changes of a device wait."""
    row = await session.fetch_one(_COUNT, (company_id, device_id, device_id))
    return int(row[0]) if row else 0


async def list_rejected(session: Session, company_id: int, device_id: str | None, after: int, limit: int) -> list[dict[str, Any]]:
    """The changes that wait, of one device or of all, oldest first, as they were sent last; `id` goes on from here as `after`."""
    rows = await session.fetch_all(_LIST, (company_id, device_id, device_id, after, limit))
    return [_shown(row) for row in rows]


async def read_rejected(
    session: Session, company_id: int, device_id: str, install_id: str, ids: Sequence[int] | None, limit: int
) -> list[Kept]:
    """What waits of one install of a device, oldest first, explicit groups whole; `ids`: only these, and their groups."""
    if ids is not None and not ids:
        return []
    chosen = _CHOSEN.format(marks=", ".join("%s" for _ in ids)) if ids is not None else ""
    params = (company_id, device_id, device_id, install_id, *(ids or ()), *(ids or ()), limit + 1)
    rows = [Kept(*row) for row in await session.fetch_all(_READ.format(chosen=chosen), params)]
    if len(rows) <= limit:
        return rows
    left_out = rows[limit]
    is_apart = left_out.group_name is None
    return [row for row in rows[:limit] if is_apart or (row.origin_id, row.group_name) != (left_out.origin_id, left_out.group_name)]


def _shown(row: tuple[Any, ...]) -> dict[str, Any]:
    shown = dict(zip(_NAMES, row, strict=False))
    return {**shown, "data": orjson.loads(shown["data"]), "rejected_at": rfc3339(row[-1])}
