"""Which versions a push's results name: of the changes it made, of an earlier INSERT, of the rows it is told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from api.db import Session
from api.question import Question, Rows
from api.verdicts import Status, Verdict
from api.waiting import Made, Passed

_MADE = """
SELECT table_name, record_id, version, is_exact FROM sync_changes
WHERE company_id = %s AND version BETWEEN %s AND %s AND for_device IS NULL ORDER BY version
"""
_FIRST_TXS = """
SELECT i.table_name, i.record_id, t.first_version, t.last_version
FROM record_identities i JOIN sync_tx t ON t.origin_id = i.origin_id
WHERE i.company_id = %s AND (i.table_name, i.record_id) IN ({keys}) AND t.first_version IS NOT NULL
"""
# A join by these ranges would read the company's whole history for each of them: no plan looks a range up that a row gives.
_MADE_IN = """
SELECT table_name, record_id, version FROM sync_changes
WHERE company_id = %s AND ({ranges}) AND (table_name, record_id) IN ({keys}) ORDER BY version DESC
"""
_NEWEST = """
SELECT l.table_name, l.record_id, l.version, l.is_deleted, c.prev_version FROM sync_live l
JOIN sync_changes c ON c.company_id = l.company_id AND c.version = l.version
WHERE l.company_id = %s AND (l.table_name, l.record_id) IN ({keys})
"""
_OLDER = "SELECT prev_version FROM sync_changes WHERE company_id = %s AND version = %s"
_IMAGE = "SELECT data, sealed FROM sync_changes WHERE company_id = %s AND version = %s"
OLDER_STEPS_MAX = 100

Key = tuple[str, int]
"""table, record_id."""


@dataclass(frozen=True, slots=True)
class Told:
    """The server's row as it stood when the push was decided, and its version."""

    row: Mapping[str, Any] | None
    version: int
    is_deleted: bool


class VersionReader:
    """Reads what the change log says after the tailer passed the push; `passed` None: it has not yet."""

    def __init__(self, session: Session, company_id: int, passed: Passed | None) -> None:
        self._session = session
        self._company_id = company_id
        self._passed = passed

    def ask_made(self) -> Question[list[Made]]:
        """Ask for the changes that the push made."""
        passed = self._passed
        if passed is None or passed.first_version is None:
            return Question.known([])
        if passed.first_version == passed.head_after:
            return Question.known([passed.first_made] if passed.first_made is not None else [])
        return Question((_MADE, (self._company_id, passed.first_version, passed.head_after)), _made)

    async def versions(self, verdicts: Sequence[Verdict], made: Iterable[Made]) -> dict[int, int]:
        """Return versions by the change's place in the push: its own, of what it `made`, or, for a duplicate, of what the first
        INSERT made.
        """
        found = self._own_versions(verdicts, _by_record(made))
        again = {(v.change.table, v.record_id): v.change.seq for v in verdicts if v.status is Status.DUPLICATE and not v.is_change}
        keys = [key for key in again if key[1] is not None]
        if keys:
            first = await self._first_made(keys)
            for verdict in verdicts:
                version = first.get((verdict.change.table, verdict.record_id or 0))
                if verdict.status is Status.DUPLICATE and not verdict.is_change and version is not None:
                    found[verdict.change.seq] = version
        return found

    async def _first_made(self, keys: Sequence[Any]) -> dict[Any, int]:
        """Return the version of each record's first change in the transaction that gave it a local id."""
        found = await self._session.fetch_all(_FIRST_TXS.format(keys=_marks(keys)), (self._company_id, *_flat(keys)))
        spans = sorted({(first, last) for _, _, first, last in found})
        if not spans:
            return {}
        ranges = " OR ".join("version BETWEEN %s AND %s" for _ in spans)
        sql = _MADE_IN.format(ranges=ranges, keys=_marks(keys))
        rows = await self._session.fetch_all(sql, (self._company_id, *_flat(spans), *_flat(keys)))
        named = {(table, record_id, (first, last)) for table, record_id, first, last in found}
        return {
            (table, record_id): version  # the oldest comes last
            for table, record_id, version in rows
            if any((table, record_id, span) in named for span in spans if span[0] <= version <= span[1])
        }

    async def told(self, verdicts: Sequence[Verdict], rows: Mapping[Key, Mapping[str, Any]]) -> dict[Key, Told]:
        """Return the rows to be shown. One that plain SQL removed is told as the change log last saw it."""
        keys = sorted({(v.change.table, v.record_id) for v in verdicts if v.is_told and v.record_id is not None})
        if not keys:
            return {}
        found = await self._session.fetch_all(_NEWEST.format(keys=_marks(keys)), (self._company_id, *_flat(keys)))
        newest = {(table, record_id): (version, is_deleted, older) for table, record_id, version, is_deleted, older in found}
        told = {}
        for key in keys:
            version, _, older = newest.get(key, (0, 0, None))
            if self._passed is not None:
                version = await self._at_or_before(version, older, self._passed.head_after)
            row = rows.get(key)
            if row is None:
                told[key] = Told(await self._image(version), version, is_deleted=True)
            else:
                told[key] = Told(row, version, is_deleted=row["deleted_at"] is not None)
        return told

    @staticmethod
    def _own_versions(verdicts: Sequence[Verdict], made: Mapping[Key, list[int]]) -> dict[int, int]:
        """The n-th change of a record in the push made the n-th change of it in the change log."""
        nth: dict[Key, int] = defaultdict(int)
        found = {}
        for verdict in verdicts:
            key = (verdict.change.table, verdict.record_id or 0)
            if verdict.is_change and nth[key] < len(made.get(key, ())):
                found[verdict.change.seq] = made[key][nth[key]]
                nth[key] += 1
        return found

    async def _at_or_before(self, version: int, older: int | None, limit: int) -> int:
        """Step back from a record's newest version to the one it had at `limit`."""
        for _ in range(OLDER_STEPS_MAX):
            if version <= limit or older is None:
                break
            version = older
            row = await self._session.fetch_one(_OLDER, (self._company_id, version))
            older = row[0] if row else None
        return version

    async def _image(self, version: int) -> dict[str, Any] | None:
        row = await self._session.fetch_one(_IMAGE, (self._company_id, version))
        if row is None:
            return None
        return {**orjson.loads(row[0]), **(orjson.loads(row[1]) if row[1] else {})}


def _made(rows: Rows) -> list[Made]:
    return [Made(table, record_id, version, bool(is_exact)) for table, record_id, version, is_exact in rows]


def _by_record(made: Iterable[Made]) -> dict[Key, list[int]]:
    versions: dict[Key, list[int]] = defaultdict(list)
    for change in made:
        versions[change.table, change.record_id].append(change.version)
    return versions


def _marks(keys: Sequence[Any]) -> str:
    return ", ".join("(%s, %s)" for _ in keys)


def _flat(keys: Sequence[tuple[Any, Any]]) -> list[Any]:
    return [value for key in keys for value in key]
