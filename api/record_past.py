"""What the change log and the device's earlier pushes say of records: read for all records of a push at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from api.db import Outcome, Session, Statement

PUSHES_MAX = 200
_NO_OLDER = 1 << 62
"""Above every version: nothing older is asked for."""
KEYS_PER_QUERY_MAX = 500
_READ_CHAIN = """
WITH RECURSIVE chain (record_id, newest, lowest, highest, version, prev_version) AS (
    SELECT l.record_id, l.version, w.lowest, w.highest, c.version, c.prev_version
    FROM (VALUES {rows}) AS w (record_id, lowest, highest)
    JOIN sync_live l ON l.company_id = %s AND l.table_name = %s AND l.record_id = w.record_id
    LEFT JOIN sync_changes c ON c.company_id = l.company_id AND c.version = l.version
    UNION ALL
    SELECT chain.record_id, chain.newest, chain.lowest, chain.highest, c.version, c.prev_version
    FROM chain JOIN sync_changes c ON c.company_id = %s AND c.version = chain.prev_version WHERE chain.version > chain.lowest
)
SELECT /*+ SET_VAR(cte_max_recursion_depth = 1000000) */
    chain.record_id, chain.newest, chain.version, chain.prev_version, i.data, i.sealed
FROM chain LEFT JOIN sync_changes i ON i.company_id = %s AND i.version = chain.version AND chain.version <= chain.highest
ORDER BY chain.record_id, chain.version DESC
"""
_READ_IMAGES_FROM = "SELECT images_from FROM sync_retention WHERE id = 1"
# For the order MySQL would rather read all that the company, or the device, ever pushed.
_READ_PUSHED = """
SELECT w.record_id, p.payload, t.first_version, p.is_maker
FROM (VALUES {rows}) AS w (record_id)
JOIN LATERAL (
    SELECT p.id, p.origin_id, p.payload, p.is_maker FROM sync_pushed p FORCE INDEX (sync_pushed_record)
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


def find_pasts(company_id: int, device_id: str, wanted: Mapping[Key, Collection[int]]) -> dict[tuple[str, str], Statement]:
    """Return, by table and kind, what asks for the past of records, for `read_pasts`; `wanted`: the cursors at which their images
    are asked for, or none.
    """
    by_table: dict[str, dict[int, Collection[int]]] = defaultdict(dict)
    for table, record_id in sorted(wanted):
        by_table[table][record_id] = wanted[table, record_id]
    # What was pushed first: what the tailer passes in between is then overlaid on an image that holds it, which changes nothing.
    pushed = {("pushed", table): _find_pushed(company_id, device_id, table, records) for table, records in by_table.items()}
    return pushed | {("chain", table): _find_chains(company_id, table, records) for table, records in by_table.items()}


async def read_pasts(
    session: Session, wanted: Mapping[Key, Collection[int]], found: Mapping[tuple[str, str], Outcome]
) -> dict[Key, RecordPast]:
    """Return the past of each record that has one, given what the statements of `find_pasts` gave."""
    pushed: dict[Key, list[Pushed]] = {}
    pasts: dict[Key, RecordPast] = {}
    images: dict[int, Row] = {}
    for (kind, table), outcome in found.items():
        if kind == "pushed":
            pushed |= _pushed_found(table, outcome)
        else:
            _take_chains(table, outcome, pasts, images)
    places = {key: {past.version_at(cursor) for cursor in wanted[key]} for key, past in pasts.items()}
    images_from = await _read_images_from(session) if any(None in found for found in places.values()) else 0
    return {
        key: replace(
            pasts.get(key, RecordPast()),
            images={place: images[place] for place in places.get(key, ()) if place in images},
            images_from=images_from,
            pushed=pushed.get(key, ()),
        )
        for key in pasts.keys() | pushed.keys()
    }


def _find_chains(company_id: int, table: str, records: Mapping[int, Collection[int]]) -> Statement:
    """Each record's versions down to the lowest cursor, and the images of those that are not beyond the highest."""
    rows = ", ".join("ROW(%s, %s, %s)" for _ in records)
    params: list[int | str] = []
    for record_id, cursors in records.items():
        params += (record_id, min(cursors, default=_NO_OLDER), max(cursors, default=0))
    return _READ_CHAIN.format(rows=rows), (*params, company_id, table, company_id, company_id)


def _take_chains(table: str, outcome: Outcome, pasts: dict[Key, RecordPast], images: dict[int, Row]) -> None:
    chains: dict[tuple[int, int], list[tuple[int, int | None]]] = defaultdict(list)
    for record_id, newest, version, older, data, sealed in outcome.rows:
        chain = chains[record_id, newest]
        if version is not None:
            chain.append((version, older))
        if data is not None:
            images[version] = _image(data, sealed)
    for (record_id, newest), chain in chains.items():
        pasts[table, record_id] = RecordPast(newest, tuple(chain))


async def _read_images_from(session: Session) -> int:
    row = await session.fetch_one(_READ_IMAGES_FROM)
    return int(row[0]) if row else 0


def _find_pushed(company_id: int, device_id: str, table: str, record_ids: Collection[int]) -> Statement:
    """What the device pushed to each record."""
    rows = ", ".join("ROW(%s)" for _ in record_ids)
    return _READ_PUSHED.format(rows=rows), (*record_ids, company_id, table, device_id, PUSHES_MAX)


def _pushed_found(table: str, outcome: Outcome) -> dict[Key, list[Pushed]]:
    """What the device pushed to each record, oldest first."""
    pushed: dict[Key, list[Pushed]] = defaultdict(list)
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
