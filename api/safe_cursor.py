"""What a device has not been given, and so the cursor a push may answer: never beyond the first of it (contract §1.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from api.db import Session
from api.deliveries import Deliveries
from api.heads import Head
from api.question import Question, Rows, ask
from api.scope import Scope
from schema.tables import TABLES
from schema.versions import EMPTY_HEAD, epoch_of

_NOT_GIVEN = """
FROM sync_changes
WHERE company_id = %s AND version > %s AND version <= %s AND (for_device IS NULL OR for_device = %s)
    AND ({tables})
"""
_OF_TABLES = "(version > %s AND table_name IN ({names}) AND NOT (is_exact AND origin_device_id <=> %s AND version > %s))"

STOPS_MAX = 10_000
Floor = tuple[int, int]
"""Up to where a table was given, and from where on its own exact changes are no news to the device (`TableDelivery.again`)."""


class Stops:
    """The first change that each device was found not to have been given.

    The change log only grows at its end: while what a device was given is the same, so is the first change that it was not. So for
    a device that pushes again and again nothing is asked.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[int, str, int], tuple[Mapping[str, Floor], int]] = {}

    def find(self, key: tuple[int, str, int], given: Mapping[str, Floor]) -> int | None:
        """Return the version of the first change not given; `key`: company, device, epoch."""
        known, version = self._found.get(key, ({}, 0))
        return version if version and known == given else None

    def note(self, key: tuple[int, str, int], given: Mapping[str, Floor], version: int) -> None:
        """Keep what was found."""
        if len(self._found) >= STOPS_MAX:
            self._found.clear()
        self._found[key] = (given, version)


STOPS = web.AppKey("stops", Stops)


async def read_safe_cursor(session: Session, scope: Scope, device_id: str, deliveries: Deliveries, head: Head) -> int:
    """Return what `ask_safe_cursor` asks for."""
    return await ask(session, ask_safe_cursor(scope, device_id, deliveries, head))


def ask_safe_cursor(
    scope: Scope,
    device_id: str,
    deliveries: Deliveries,
    head: Head,
    last_version: int | None = None,
    *,
    own: range = range(0),
    stops: Stops | None = None,
) -> Question[int]:
    """Ask for the version before the first change, up to the head, that this device was not given and did not make exactly so.

    Tables it never asked for do not hold it back once it has pulled. A device that never pulled stays before the first foreign row
    after `last_version`, the cursor its push brought along, which is believed as far as this change log knows it. One that may have
    missed deletions that are gone stays below `min_version`: its next pull is told to start again.

    `own`: versions that are known to be this device's own changes, stored as it sent them. Where they are all that came since it
    was given everything, nothing is asked.
    """
    is_known = last_version is not None and last_version <= head.version and epoch_of(last_version) == head.epoch
    given = {name: (table.sure, table.again) for name, table in deliveries.tables.items() if name in scope.readable}
    late = {name: given[name] for name in deliveries.late(head.min_version) if name in given}
    if not given:
        believed = last_version if last_version is not None and is_known else 0
        given = {name: (believed, 0) for name in TABLES if name in scope.readable}
        late = given if 0 < believed < head.min_version else {}
    if late and len(late) == len(given):
        return Question.known(max(min(version for version, _ in late.values()), EMPTY_HEAD))
    given = {name: floor for name, floor in given.items() if name not in late}
    if not given:
        return Question.known(head.version)
    if own and own[-1] == head.version and all(version >= own[0] - 1 and again < own[0] for version, again in given.values()):
        return Question.known(head.version)
    stops, key = stops or Stops(), (scope.company_id, device_id, head.epoch)
    stop = stops.find(key, given)
    if stop is not None:
        return Question.known(stop - 1)

    def cursor(found: Rows) -> int:
        if not found:
            return head.version
        version = int(found[0][0])
        stops.note(key, given, version)
        return version - 1

    not_given, params = _not_given(scope, device_id, given, head)
    return Question((f"SELECT version {not_given} ORDER BY version LIMIT 1", params), cursor)


async def count_not_given(session: Session, scope: Scope, device_id: str, given: Mapping[str, Floor], head: Head) -> int:
    """Return how many changes, up to the head, a device has yet to be given that was given each table up to a version."""
    if not given:
        return 0
    not_given, params = _not_given(scope, device_id, given, head)
    row = await session.fetch_one(f"SELECT COUNT(*) {not_given}", params)
    return int(row[0]) if row else 0


def _not_given(scope: Scope, device_id: str, given: Mapping[str, Floor], head: Head) -> tuple[str, list[Any]]:
    """The FROM and WHERE, and their parameters, of the changes that are beyond `given` and not the device's own exact ones."""
    alike: dict[Floor, list[str]] = {}
    for name, floor in given.items():
        alike.setdefault(floor, []).append(name)
    conditions, params = [], []
    for (version, again), names in alike.items():
        conditions.append(_OF_TABLES.format(names=", ".join("%s" for _ in names)))
        params += [version, *names, device_id, again]
    lowest = min(version for version, _ in alike)
    return _NOT_GIVEN.format(tables=" OR ".join(conditions)), [scope.company_id, lowest, head.version, device_id, *params]
