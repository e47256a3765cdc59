"""What a device believed a row to be when it made a change (contract §3, Base).

The newest image in the change log at or before the base version, overlaid with what this device itself pushed to the record since.
Without a base version the candidates are the images at the cursors the device was answered; the one from which its data differs
in the fewest columns, but at least one, is the base, the newest on a tie: a whole row edited before the last pull is not mistaken
for an edit of what that pull brought, and no clock is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from api.db import Session
from schema.columns import Column
from schema.tables import Table
from schema.values import is_same

PUSHES_MAX = 200
_READ_CHAIN = """
WITH RECURSIVE chain (version, prev_version) AS (
    SELECT c.version, c.prev_version FROM sync_live l JOIN sync_changes c ON c.company_id = l.company_id AND c.version = l.version
    WHERE l.company_id = %s AND l.table_name = %s AND l.record_id = %s
    UNION ALL
    SELECT c.version, c.prev_version FROM chain JOIN sync_changes c ON c.company_id = %s AND c.version = chain.prev_version
    WHERE chain.version > %s
)
SELECT /*+ SET_VAR(cte_max_recursion_depth = 1000000) */ version FROM chain ORDER BY version DESC
"""
_READ_IMAGES = "SELECT version, data, sealed FROM sync_changes WHERE company_id = %s AND version IN ({marks})"
_READ_PUSHED = """
SELECT p.payload, p.is_change, p.told_version, t.first_version, t.last_version
FROM sync_pushed p LEFT JOIN sync_tx t ON t.origin_id = p.origin_id
WHERE p.company_id = %s AND p.table_name = %s AND p.record_id = %s AND p.device_id = %s
    AND p.operation <> 'DELETE' AND p.status <> 'rejected'
ORDER BY p.id DESC LIMIT %s
"""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Pushed:
    """One earlier change of this device to the record: `values` as it sent them, `head_after` where it stands (None: not in L)."""

    values: dict[str, Any]
    is_change: bool
    told_version: int | None
    first_version: int | None
    head_after: int | None


@dataclass(frozen=True, slots=True)
class Record:
    """Which record of which company, and the device that asks."""

    company_id: int
    table: Table
    record_id: int
    device_id: str


async def find_base(
    session: Session, record: Record, columns: Mapping[str, Column], server: Row, sent: Row, cursors: Sequence[int] | int
) -> Row | None:
    """Return the base of a change to `record`, whose row is `server` now and of which the device says `sent`.

    `cursors`: the device's base version, or, newest first, the cursors it may have seen the record at; empty for a device that was
    never given anything. None: no image that old is kept, so every difference counts as changed by both.
    """
    pushed = await _read_pushed(session, record)
    if isinstance(cursors, int):
        version, image = await _image_at(session, record, cursors)
        return _believed(image, [p for p in pushed if _is_since_version(p, version, cursors)])
    if not cursors:
        return {**server, **_overlay(pushed)}
    images = await _images_at(session, record, cursors)
    candidates = []
    for cursor, (version, image) in zip(cursors, images, strict=True):
        base = _believed(image, [p for p in pushed if _is_since_cursor(p, version, cursor)])
        if base is not None:
            candidates.append(base)
    return _likeliest(candidates, columns, sent)


def _likeliest(candidates: Sequence[Row], columns: Mapping[str, Column], sent: Row) -> Row | None:
    """Of bases, newest first, the one that differs from `sent` in the fewest columns, but at least one; else the newest."""
    best: Row | None = None
    fewest = 0
    for base in candidates:
        count = sum(not is_same(columns[n], v, base.get(n)) for n, v in sent.items() if n in columns and n in base)
        if count and (best is None or count < fewest):
            best, fewest = base, count
    return best if best is not None else next(iter(candidates), None)


def _believed(image: Row | None, pushed: Sequence[Pushed]) -> Row | None:
    """The image with the device's own pushes over it; with neither there is nothing the device can have known."""
    if image is None and not pushed:
        return None
    return {**(image or {}), **_overlay(pushed)}


def _overlay(pushed: Sequence[Pushed]) -> dict[str, Any]:
    return {name: value for push in pushed for name, value in push.values.items()}


def _is_since_version(pushed: Pushed, image_version: int, base_version: int) -> bool:
    """After the device took over the server's row at `base_version`. What was refused was told with the row that stands."""
    if pushed.head_after is None:
        return True
    if pushed.is_change and pushed.first_version is not None:
        return pushed.first_version > image_version
    return pushed.told_version is None or pushed.told_version > base_version


def _is_since_cursor(pushed: Pushed, image_version: int, cursor: int) -> bool:
    """After the device's cursor: its own copy holds what it sent until a pull brings the server's row."""
    if pushed.head_after is None:
        return True
    if pushed.is_change and pushed.first_version is not None:
        return pushed.first_version > image_version
    return pushed.head_after > cursor


async def _image_at(session: Session, record: Record, version: int) -> tuple[int, Row | None]:
    return (await _images_at(session, record, (version,)))[0]


async def _images_at(session: Session, record: Record, cursors: Sequence[int]) -> list[tuple[int, Row | None]]:
    """Per cursor, the newest image at or before it and its version; (0, None) where none is kept."""
    key = (record.company_id, record.table.name, record.record_id)
    rows = await session.fetch_all(_READ_CHAIN, (*key, record.company_id, min(cursors)))
    versions = [row[0] for row in rows]
    places = [next((version for version in versions if version <= cursor), 0) for cursor in cursors]
    images = await _read_images(session, record.company_id, sorted({place for place in places if place}))
    return [(place, images.get(place)) for place in places]


async def _read_images(session: Session, company_id: int, versions: Sequence[int]) -> dict[int, Row]:
    if not versions:
        return {}
    sql = _READ_IMAGES.format(marks=", ".join("%s" for _ in versions))
    rows = await session.fetch_all(sql, (company_id, *versions))
    return {version: {**orjson.loads(data), **(orjson.loads(sealed) if sealed else {})} for version, data, sealed in rows}


async def _read_pushed(session: Session, record: Record) -> list[Pushed]:
    """What the device pushed to the record, oldest first."""
    params = (record.company_id, record.table.name, record.record_id, record.device_id, PUSHES_MAX)
    rows = await session.fetch_all(_READ_PUSHED, params)
    return [Pushed(orjson.loads(payload), bool(is_change), *rest) for payload, is_change, *rest in reversed(rows)]
