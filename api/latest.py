"""The policy `latest`: was the device's edit made after everything others did to the record since its base? (contract §3, Policies)

An edit counts with the time its device's clock showed, corrected and never later than its arrival; a write that no device pushed,
and a conflict that a person resolved, with its commit time. A tie goes to the higher (device_id, local_id).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from api.db import Session
from schema.values import us_from_rfc3339

_PUSHED_BY_OTHERS = """
SELECT p.edited_at_us, p.device_id, COALESCE(p.local_id, '') FROM sync_pushed p LEFT JOIN sync_tx t ON t.origin_id = p.origin_id
WHERE p.company_id = %s AND p.table_name = %s AND p.record_id = %s AND p.device_id <> %s AND p.is_change
    AND (t.first_version IS NULL OR t.first_version > %s)
ORDER BY p.edited_at_us DESC, p.device_id DESC, COALESCE(p.local_id, '') DESC LIMIT 1
"""
_WRITTEN_OTHERWISE = """
WITH RECURSIVE chain (version, prev_version, origin, tx) AS (
    SELECT c.version, c.prev_version, c.origin, c.tx
    FROM sync_live l JOIN sync_changes c ON c.company_id = l.company_id AND c.version = l.version
    WHERE l.company_id = %s AND l.table_name = %s AND l.record_id = %s
    UNION ALL
    SELECT c.version, c.prev_version, c.origin, c.tx
    FROM chain JOIN sync_changes c ON c.company_id = %s AND c.version = chain.prev_version WHERE chain.prev_version > %s
)
SELECT /*+ SET_VAR(cte_max_recursion_depth = 1000000) */ MAX(t.commit_time_us)
FROM chain JOIN sync_tx t ON t.tx = chain.tx WHERE chain.version > %s
    AND (chain.origin <> 'device' OR NOT EXISTS (SELECT 1 FROM sync_pushed p WHERE p.origin_id = t.origin_id))
"""

_LOGGED = """
SELECT JSON_UNQUOTE(JSON_EXTRACT(c.data, '$.updated_at'))
FROM sync_live l JOIN sync_changes c ON c.company_id = l.company_id AND c.version = l.version
WHERE l.company_id = %s AND l.table_name = %s AND l.record_id = %s
"""
_IS_PUSH_PENDING = """
SELECT 1 FROM sync_pushed p LEFT JOIN sync_tx t ON t.origin_id = p.origin_id
WHERE p.company_id = %s AND p.table_name = %s AND p.record_id = %s AND p.is_change AND t.tx IS NULL LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Record:
    """Which record of which company, and the device that asks."""

    company_id: int
    table: str
    record_id: int
    device_id: str


Edit = tuple[int, str, str]
"""When, by which device, under which local id: the order in which edits win."""


async def is_latest(session: Session, record: Record, base_version: int, row: Mapping[str, Any], edit: Edit) -> bool:
    """Tell whether `edit` is later than all that others did to the record since `base_version`; `row` is the record as it is."""
    key = (record.company_id, record.table, record.record_id)
    others: list[Edit] = []
    pushed = await session.fetch_one(_PUSHED_BY_OTHERS, (*key, record.device_id, base_version))
    if pushed is not None:
        others.append((pushed[0] or 0, pushed[1], pushed[2]))
    written = await session.fetch_one(_WRITTEN_OTHERWISE, (*key, record.company_id, base_version, base_version))
    if written is not None and written[0] is not None:
        others.append((written[0], "", ""))
    if not others or await _is_written_unlogged(session, key, row):
        others.append((_us(row["updated_at"]), "", ""))
    return edit > max(others)


async def _is_written_unlogged(session: Session, key: tuple[int, str, int], row: Mapping[str, Any]) -> bool:
    """Whether the row was written since its newest image, and by no push: by plain SQL, while the tailer lags."""
    logged = await session.fetch_one(_LOGGED, key)
    is_logged = logged is not None and logged[0] is not None and _us(logged[0]) == _us(row["updated_at"])
    return not is_logged and await session.fetch_one(_IS_PUSH_PENDING, key) is None


def _us(value: Any) -> int:
    if isinstance(value, dt.datetime):
        return us_from_rfc3339(value.replace(tzinfo=dt.UTC).isoformat())
    return us_from_rfc3339(value.decode() if isinstance(value, bytes) else value)
