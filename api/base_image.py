"""What a device believed a row to be when it made a change (contract §3, Base).

The newest image in the change log at or before the base version, overlaid with what this device itself pushed to the record since.
Without a base version the candidates are the images at the cursors the device was answered; the one from which its data differs
in the fewest columns, but at least one, is the base, the newest on a tie: a whole row edited before the last pull is not mistaken
for an edit of what that pull brought, and no clock is asked. Pure: what is read is in `api.record_past`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from api.record_past import Pushed, RecordPast, Row
from schema.columns import Column
from schema.tables import Table
from schema.values import is_same


@dataclass(frozen=True, slots=True)
class Base:
    """`row`: what the device believed; None where no image that old is kept. `version`: of the image it rests on, 0 for none."""

    row: Row | None
    version: int


def find_base(
    table: Table,
    past: RecordPast,
    columns: Mapping[str, Column],
    server: Row,
    sent: Row,
    cursors: Sequence[int] | int,
    said: Row,
    *,
    held_since: int,
    is_new: bool,
) -> Base:
    """Return the base of a change to a record, whose row is `server` now and of which the device says `sent`.

    `cursors`: the device's base version, or, newest first, the cursors it may have seen the record at; empty for a device that was
    never given anything; `held_since`: the head, at least, when the oldest was answered.
    `said`: what the push under way has said of the record before this change; `is_new`: it made the record.
    """
    pushed = [*past.pushed, Pushed(dict(said), None, is_new)] if said else past.pushed
    if isinstance(cursors, int):
        place = past.image_at(cursors)
        if place is None:
            return Base(None, 0)
        version, image = place
        return Base(_believed(table, image, [p for p in pushed if p.is_since(version)]), version)
    if not cursors:
        return Base({**server, **_overlay(pushed)}, 0)
    images = [past.image_at(cursor) for cursor in cursors]
    if None in images and held_since < past.images_from:
        return Base(None, 0)  # it may have held one that is pruned: that this was not the base can't be told
    candidates = []
    for version, image in filter(None, images):
        row = _believed(table, image, [p for p in pushed if p.is_since(version)])
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
