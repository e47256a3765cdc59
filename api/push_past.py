"""What is known of the records of a push from before it, read at its start: by kind, not by change.

It is read in the packet that locks the rows, before they are locked, so that others wait less: it is of the past, and all that this
device did is there, since its pushes are one after the other. What others did is told by the rows, read under lock.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from api.db import Outcome, Session, Statement
from api.deliveries import Deliveries
from api.identity import Install
from api.push_request import LocalKey, PushedChange
from api.push_rows import target_id
from api.record_past import Key, RecordPast, Row, find_pasts, flat, in_parts, marks_of, read_pasts
from schema.tables import TABLES

_READ_TRIES = """
SELECT table_name, record_id, fingerprint, id, status, code, is_change, edited_at_us FROM sync_pushed
    FORCE INDEX (sync_pushed_record)
WHERE company_id = %s AND (table_name, record_id) IN ({keys}) AND device_id = %s AND fingerprint IN ({marks}) ORDER BY id
"""
_READ_LATER = """
SELECT w.record_id, p.id, p.fingerprint, p.edited_at_us
FROM (VALUES {rows}) AS w (record_id, after_id)
JOIN LATERAL (
    SELECT id, fingerprint, edited_at_us FROM sync_pushed FORCE INDEX (sync_pushed_record)
    WHERE company_id = %s AND table_name = %s AND record_id = w.record_id AND device_id = %s AND is_change AND id > w.after_id
    ORDER BY id LIMIT %s
) AS p ORDER BY p.id
"""
_READ_FIRST_SENT = """
SELECT table_name, record_id, payload FROM sync_pushed FORCE INDEX (sync_pushed_record)
WHERE company_id = %s AND (table_name, record_id) IN ({keys}) AND device_id = %s AND is_maker = 1 ORDER BY id DESC
"""
_READ_REDELIVERED = """
SELECT DISTINCT table_name, record_id FROM sync_redeliveries
WHERE company_id = %s AND device_id = %s AND (table_name, record_id) IN ({keys})
"""
LATER_MAX = 1000


@dataclass(frozen=True, slots=True)
class Try:
    """The same change of this device as it was kept before. `id` rises with time."""

    id: int
    status: str
    code: str | None
    is_change: bool
    edited_at_us: int | None


@dataclass(frozen=True, slots=True)
class LaterChange:
    """A change of this device that took effect after an earlier try."""

    id: int
    fingerprint: bytes
    edited_at_us: int | None


@dataclass(frozen=True, slots=True)
class PushPast:
    """`records`: those with a past. `tries`: by record and fingerprint, oldest first. `later`: what changed a record after the
    first of its tries that did. `first_sent`: what the device sent when it made a record. `redelivered`: what it was given anew.
    """

    records: Mapping[Key, RecordPast] = field(default_factory=dict)
    tries: Mapping[tuple[Key, bytes], Sequence[Try]] = field(default_factory=dict)
    later: Mapping[Key, Sequence[LaterChange]] = field(default_factory=dict)
    first_sent: Mapping[Key, Row] = field(default_factory=dict)
    redelivered: frozenset[Key] = frozenset()

    def of(self, table: str, record_id: int) -> RecordPast:
        """A record's past; an empty one where it has none, or was made by this push."""
        return self.records.get((table, record_id), RecordPast())

    def later_than(self, key: Key, try_id: int) -> list[LaterChange]:
        """What changed a record after one of its tries, at most LATER_MAX changes."""
        return [change for change in self.later.get(key, ()) if change.id > try_id][:LATER_MAX]


@dataclass(frozen=True, slots=True)
class PastQuestion:
    """What is asked of the past of a push's records. `windows`: the cursors at which the device may have seen a record, by table;
    `cursors`: at which their images are asked for, by record.
    """

    install: Install
    windows: Mapping[str, tuple[int, ...]]
    cursors: Mapping[Key, Collection[int]]
    records: Mapping[tuple[str, str], Statement]
    tries: Sequence[Statement]
    first_sent: Sequence[Statement]
    redelivered: Sequence[Statement]

    @property
    def statements(self) -> list[Statement]:
        """All of it, for one packet."""
        return [*self.records.values(), *self.tries, *self.first_sent, *self.redelivered]


def ask_past(
    install: Install,
    changes: Iterable[PushedChange],
    records: Mapping[LocalKey, int],
    deliveries: Deliveries,
    last_version: int | None,
    *,
    has_redeliveries: bool,
) -> PastQuestion:
    """Return what asks for all that changes may need to know of records that exist, or once did; `records`: by their local ids.

    `has_redeliveries`: the device was given rows anew.
    """
    cursors: dict[Key, set[int]] = defaultdict(set)
    fingerprints: set[bytes] = set()
    inserted: set[Key] = set()
    windows = {table: deliveries.base_cursors(table, last_version) for table in TABLES.keys() & {c.table for c in changes}}
    for change in changes:
        if change.table not in windows:
            continue
        for record_id in {target_id(change, records), change.record_id} - {None}:
            assert record_id is not None
            key = (change.table, record_id)
            cursors[key].update(windows[change.table] if change.base_version is None else (change.base_version,))
            if change.timestamp is not None:
                fingerprints.add(change.fingerprint)
            if change.operation == "INSERT":
                inserted.add(key)
    keys = sorted(cursors)
    return PastQuestion(
        install,
        windows,
        cursors,
        find_pasts(install.company_id, install.device_id, cursors),
        _find_tries(install, keys, fingerprints),
        _find_first_sent(install, sorted(inserted)),
        _find_redelivered(install, keys) if has_redeliveries and (deliveries.tables or last_version) else [],
    )


async def read_push_past(session: Session, asked: PastQuestion, outcomes: Sequence[Outcome]) -> PushPast:
    """Return what is known from before the push, given what the statements of `asked` gave."""
    if not asked.cursors:
        return PushPast()
    left = iter(outcomes)
    records = await read_pasts(session, asked.cursors, {name: next(left) for name in asked.records})
    kinds = (asked.tries, asked.first_sent, asked.redelivered)
    tried, first_sent, redelivered = ([row for _ in statements for row in next(left).rows] for statements in kinds)
    tries = _tries_found(tried)
    return PushPast(
        records=records,
        tries=tries,
        later=await _read_later(session, asked.install, tries),
        # The oldest comes last.
        first_sent={(table, record_id): orjson.loads(payload) for table, record_id, payload in first_sent},
        redelivered=frozenset((table, record_id) for table, record_id in redelivered),
    )


def _find_tries(install: Install, keys: Sequence[Key], fingerprints: Collection[bytes]) -> list[Statement]:
    marks = ", ".join("%s" for _ in fingerprints)
    return [
        (_READ_TRIES.format(keys=marks_of(part), marks=marks), (install.company_id, *flat(part), install.device_id, *fingerprints))
        for part in in_parts(keys if fingerprints else ())
    ]


def _tries_found(rows: Iterable[tuple[Any, ...]]) -> dict[tuple[Key, bytes], list[Try]]:
    tries: dict[tuple[Key, bytes], list[Try]] = defaultdict(list)
    for table, record_id, fingerprint, *known in rows:
        tries[(table, record_id), bytes(fingerprint)].append(Try(*known))
    return tries


def _find_first_sent(install: Install, keys: Sequence[Key]) -> list[Statement]:
    return [
        (_READ_FIRST_SENT.format(keys=marks_of(part)), (install.company_id, *flat(part), install.device_id))
        for part in in_parts(keys)
    ]


def _find_redelivered(install: Install, keys: Sequence[Key]) -> list[Statement]:
    return [
        (_READ_REDELIVERED.format(keys=marks_of(part)), (install.company_id, install.device_id, *flat(part)))
        for part in in_parts(keys)
    ]


async def _read_later(
    session: Session, install: Install, tries: Mapping[tuple[Key, bytes], Sequence[Try]]
) -> dict[Key, list[LaterChange]]:
    after: dict[str, dict[int, int]] = defaultdict(dict)
    for ((table, record_id), _), same in tries.items():
        for earlier in same:
            if earlier.is_change:
                after[table][record_id] = min(earlier.id, after[table].get(record_id, earlier.id))
    statements: list[Statement] = []
    for table, wanted in after.items():
        sql = _READ_LATER.format(rows=", ".join("ROW(%s, %s)" for _ in wanted))
        params: list[Any] = [value for pair in wanted.items() for value in pair]
        statements.append((sql, [*params, install.company_id, table, install.device_id, 2 * LATER_MAX]))
    later: dict[Key, list[LaterChange]] = defaultdict(list)
    for table, outcome in zip(after, await session.run(*statements), strict=True):
        for record_id, *known in outcome.rows:
            later[table, record_id].append(LaterChange(*known))
    return later
