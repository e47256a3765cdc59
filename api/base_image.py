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
SELECT /*+ SET_VAR(cte_max_recursion_depth = 1000000) */ version, prev_version FROM chain ORDER BY version DESC
"""
_READ_IMAGES = "SELECT version, data, sealed FROM sync_changes WHERE company_id = %s AND version IN ({marks})"
_READ_IMAGES_FROM = "SELECT images_from FROM sync_retention WHERE id = 1"
_READ_PUSHED = """
SELECT p.payload, t.first_version, p.is_maker FROM sync_pushed p LEFT JOIN sync_tx t ON t.origin_id = p.origin_id
WHERE p.company_id = %s AND p.table_name = %s AND p.record_id = %s AND p.device_id = %s
    AND p.operation <> 'DELETE' AND p.is_change
ORDER BY p.id DESC LIMIT %s
"""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Pushed:
    """An earlier change of this device to the record that took effect: `values` as it sent them; `version` where its tx begins in
    the change log, None while the tailer has not passed it; `is_maker`: it made the record.

    What was refused does not count: a refused edit sent again, alone or in a whole row, meets the same verdict.
    """

    values: dict[str, Any]
    version: int | None
    is_maker: bool = False

    def is_since(self, image_version: int) -> bool:
        """Whether the image does not hold it yet."""
        return self.version is None or self.version > image_version


@dataclass(frozen=True, slots=True)
class Record:
    """Which record of which company, and the device that asks."""

    company_id: int
    table: Table
    record_id: int
    device_id: str


@dataclass(frozen=True, slots=True)
class Base:
    """`row`: what the device believed; None where no image that old is kept. `version`: of the image it rests on, 0 for none."""

    row: Row | None
    version: int


async def find_base(
    session: Session,
    record: Record,
    columns: Mapping[str, Column],
    server: Row,
    sent: Row,
    cursors: Sequence[int] | int,
    said: Row,
    *,
    held_since: int,
    is_new: bool,
) -> Base:
    """Return the base of a change to `record`, whose row is `server` now and of which the device says `sent`.

    `cursors`: the device's base version, or, newest first, the cursors it may have seen the record at; empty for a device that was
    never given anything; `held_since`: the head, at least, when the oldest was answered.
    `said`: what the push under way has said of the record before this change; `is_new`: it made the record.
    """
    pushed = await _read_pushed(session, record)
    if said:
        pushed.append(Pushed(dict(said), None, is_new))
    if isinstance(cursors, int):
        place = await _image_at(session, record, cursors)
        if place is None:
            return Base(None, 0)
        version, image = place
        return Base(_believed(record.table, image, [p for p in pushed if p.is_since(version)]), version)
    if not cursors:
        return Base({**server, **_overlay(pushed)}, 0)
    images = await _images_at(session, record, cursors)
    if None in images and held_since < await _read_images_from(session):
        return Base(None, 0)  # it may have held one that is pruned: that this was not the base can't be told
    candidates = []
    for version, image in filter(None, images):
        row = _believed(record.table, image, [p for p in pushed if p.is_since(version)])
        if row is not None:
            candidates.append((row, version))
    return _likeliest(candidates, columns, sent)


def _likeliest(candidates: Sequence[tuple[Row, int]], columns: Mapping[str, Column], sent: Row) -> Base:
    """Of bases, newest first, the one that differs from `sent` in the fewest columns, but at least one; else the newest."""
    best: Base | None = None
    fewest = 0
    for row, version in candidates:
        count = sum(not is_same(columns[n], v, row.get(n)) for n, v in sent.items() if n in columns and n in row)
        if count and (best is None or count < fewest):
            best, fewest = Base(row, version), count
    if best is not None:
        return best
    return Base(*candidates[0]) if candidates else Base(None, 0)


def _believed(table: Table, image: Row | None, pushed: Sequence[Pushed]) -> Row | None:
    """The image with the device's own pushes over it. Without one, pushes make a row only where one of them made the record: what
    it did not send then had its default. An edit alone says nothing of the other columns.
    """
    if image is None and not any(push.is_maker for push in pushed):
        return None
    known = image if image is not None else {column.name: column.default for column in table.own}
    return {**known, **_overlay(pushed)}


def _overlay(pushed: Sequence[Pushed]) -> dict[str, Any]:
    return {name: value for push in pushed for name, value in push.values.items()}


async def _image_at(session: Session, record: Record, version: int) -> tuple[int, Row | None] | None:
    return (await _images_at(session, record, (version,)))[0]


async def _images_at(session: Session, record: Record, cursors: Sequence[int]) -> list[tuple[int, Row | None] | None]:
    """Per cursor, the newest image at or before it and its version; (0, None) where the record is newer, None where it is
    pruned.
    """
    key = (record.company_id, record.table.name, record.record_id)
    chain = await session.fetch_all(_READ_CHAIN, (*key, record.company_id, min(cursors)))
    versions = [version for version, _ in chain]
    is_pruned = bool(chain) and chain[-1][1] is not None  # history goes on before the oldest image that is kept
    places = [next((version for version in versions if version <= cursor), 0) for cursor in cursors]
    images = await _read_images(session, record.company_id, sorted({place for place in places if place}))
    return [None if is_pruned and not place else (place, images.get(place)) for place in places]


async def _read_images_from(session: Session) -> int:
    row = await session.fetch_one(_READ_IMAGES_FROM)
    return int(row[0]) if row else 0


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
    return [Pushed(orjson.loads(payload), version, bool(is_maker)) for payload, version, is_maker in reversed(rows)]
