"""What the change log and the device's earlier pushes say of records: read for all records of a push at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from api.db import Outcome, Session, Statement

PUSHES_MAX = 200
KEYS_PER_QUERY_MAX = 500
_READ_NEWEST = """
SELECT l.table_name, l.record_id, l.version, c.version, c.prev_version, c.data, c.sealed
FROM sync_live l LEFT JOIN sync_changes c ON c.company_id = l.company_id AND c.version = l.version
WHERE l.company_id = %s AND (l.table_name, l.record_id) IN ({keys})
"""
_READ_OLDER = """
WITH RECURSIVE chain (place, lowest, version, prev_version) AS (
    SELECT w.place, w.lowest, c.version, c.prev_version
    FROM (VALUES {rows}) AS w (place, lowest, version) JOIN sync_changes c ON c.company_id = %s AND c.version = w.version
    UNION ALL
    SELECT chain.place, chain.lowest, c.version, c.prev_version
    FROM chain JOIN sync_changes c ON c.company_id = %s AND c.version = chain.prev_version WHERE chain.version > chain.lowest
)
SELECT /*+ SET_VAR(cte_max_recursion_depth = 1000000) */ place, version, prev_version FROM chain ORDER BY place, version DESC
"""
_READ_IMAGES = "SELECT version, data, sealed FROM sync_changes WHERE company_id = %s AND version IN ({marks})"
_READ_IMAGES_FROM = "SELECT images_from FROM sync_retention WHERE id = 1"
_READ_PUSHED = """
SELECT w.record_id, p.payload, t.first_version, p.is_maker
FROM (VALUES {rows}) AS w (record_id)
JOIN LATERAL (
    SELECT p.id, p.origin_id, p.payload, p.is_maker FROM sync_pushed p
    WHERE p.company_id = %s AND p.table_name = %s AND p.record_id = w.record_id AND p.device_id = %s
        AND p.operation <> 'DELETE' AND p.is_change
    ORDER BY p.id DESC LIMIT %s
) AS p
LEFT JOIN sync_tx t ON t.origin_id = p.origin_id
ORDER BY p.id
"""

Row = Mapping[str, Any]
Key = tuple[str, int]
"""table, record_id."""


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
class RecordPast:
    """One record. `newest`: its newest version, None for one the change log has never seen. `chain`: its versions, newest first,
    each with the one before it, down to the lowest that was asked for. `images_from`: from there on the state of every version can
    be told; known where one cannot. `pushed`: what this device pushed to it, oldest first.
    """

    newest: int | None = None
    chain: tuple[tuple[int, int | None], ...] = ()
    images: Mapping[int, Row] = field(default_factory=dict)
    images_from: int = 0
    pushed: Sequence[Pushed] = ()

    def version_at(self, cursor: int) -> int | None:
        """The newest version at or before a cursor; 0 where the record is newer, None where it is pruned."""
        found = next((version for version, _ in self.chain if version <= cursor), 0)
        is_pruned = bool(self.chain) and self.chain[-1][1] is not None  # history goes on before the oldest image that is kept
        return None if is_pruned and not found else found

    def image_at(self, cursor: int) -> tuple[int, Row | None] | None:
        """That version and its image; (0, None) where the record is newer, None where it is pruned."""
        version = self.version_at(cursor)
        return None if version is None else (version, self.images.get(version))


async def read_pasts(
    session: Session, company_id: int, device_id: str, wanted: Mapping[Key, Collection[int]]
) -> dict[Key, RecordPast]:
    """Return the past of each record that has one; `wanted`: the cursors at which its images are asked for, or none."""
    # What was pushed first: what the tailer passes in between is then overlaid on an image that holds it, which changes nothing.
    asked = _find_pushed(company_id, device_id, wanted)
    outcomes = await session.run(*asked.values(), *_find_newest(company_id, wanted))
    pushed = _pushed_found(dict(zip(asked, outcomes, strict=False)))
    pasts, images = _newest_found(outcomes[len(asked) :])
    await _read_older(session, company_id, wanted, pasts)
    places = {key: {past.version_at(cursor) for cursor in wanted[key]} for key, past in pasts.items()}
    missing = {place for found in places.values() for place in found if place and place not in images}
    images |= await _read_images(session, company_id, sorted(missing))
    images_from = await _read_images_from(session) if any(None in found for found in places.values()) else 0
    return {
        key: replace(
            pasts.get(key, RecordPast()),
            images={place: images[place] for place in places.get(key, ()) if place and place in images},
            images_from=images_from,
            pushed=pushed.get(key, ()),
        )
        for key in pasts.keys() | pushed.keys()
    }


def _find_newest(company_id: int, keys: Collection[Key]) -> list[Statement]:
    return [(_READ_NEWEST.format(keys=marks_of(part)), (company_id, *flat(part))) for part in in_parts(sorted(keys))]


def _newest_found(outcomes: Iterable[Outcome]) -> tuple[dict[Key, RecordPast], dict[int, Row]]:
    """The newest version of each, and its image."""
    pasts: dict[Key, RecordPast] = {}
    images: dict[int, Row] = {}
    for outcome in outcomes:
        for table, record_id, newest, version, older, data, sealed in outcome.rows:
            pasts[table, record_id] = RecordPast(newest, ((version, older),) if version is not None else ())
            if version is not None:
                images[version] = _image(data, sealed)
    return pasts, images


async def _read_older(
    session: Session, company_id: int, wanted: Mapping[Key, Collection[int]], pasts: dict[Key, RecordPast]
) -> None:
    """Lead each chain on to its lowest cursor, where that is before the newest version."""
    behind = [key for key, past in pasts.items() if past.chain and wanted[key] and past.chain[0][0] > min(wanted[key])]
    behind = [key for key in behind if pasts[key].chain[0][1] is not None]
    for part in in_parts(behind):
        params = [value for place, key in enumerate(part) for value in (place, min(wanted[key]), pasts[key].chain[0][1])]
        sql = _READ_OLDER.format(rows=", ".join("ROW(%s, %s, %s)" for _ in part))
        found: dict[int, list[tuple[int, int | None]]] = defaultdict(list)
        for place, version, older in await session.fetch_all(sql, (*params, company_id, company_id)):
            found[place].append((version, older))
        for place, older_ones in found.items():
            past = pasts[part[place]]
            pasts[part[place]] = replace(past, chain=(*past.chain, *older_ones))


async def _read_images(session: Session, company_id: int, versions: Sequence[int]) -> dict[int, Row]:
    if not versions:
        return {}
    sql = _READ_IMAGES.format(marks=", ".join("%s" for _ in versions))
    rows = await session.fetch_all(sql, (company_id, *versions))
    return {version: _image(data, sealed) for version, data, sealed in rows}


async def _read_images_from(session: Session) -> int:
    row = await session.fetch_one(_READ_IMAGES_FROM)
    return int(row[0]) if row else 0


def _find_pushed(company_id: int, device_id: str, keys: Collection[Key]) -> dict[str, Statement]:
    """By table, what asks for what the device pushed to each record."""
    ids: dict[str, list[int]] = defaultdict(list)
    for table, record_id in sorted(keys):
        ids[table].append(record_id)
    return {
        table: (_READ_PUSHED.format(rows=", ".join("ROW(%s)" for _ in wanted)), (*wanted, company_id, table, device_id, PUSHES_MAX))
        for table, wanted in ids.items()
    }


def _pushed_found(outcomes: Mapping[str, Outcome]) -> dict[Key, list[Pushed]]:
    """What the device pushed to each record, oldest first."""
    pushed: dict[Key, list[Pushed]] = defaultdict(list)
    for table, outcome in outcomes.items():
        for record_id, payload, version, is_maker in outcome.rows:
            pushed[table, record_id].append(Pushed(orjson.loads(payload), version, bool(is_maker)))
    return pushed


def _image(data: str, sealed: str | None) -> Row:
    return {**orjson.loads(data), **(orjson.loads(sealed) if sealed else {})}


def in_parts(keys: Sequence[Any]) -> list[Sequence[Any]]:
    """Split keys into as many as one statement takes."""
    return [keys[start : start + KEYS_PER_QUERY_MAX] for start in range(0, len(keys), KEYS_PER_QUERY_MAX)]


def marks_of(keys: Sequence[Key]) -> str:
    """The marks of so many keys in a statement."""
    return ", ".join("(%s, %s)" for _ in keys)


def flat(keys: Sequence[Key]) -> list[Any]:
    """The parameters of these keys."""
    return [value for key in keys for value in key]
