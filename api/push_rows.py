"""The rows a push works on: locked once, in one order, and kept up to date while its changes are applied.

Table by table in the order of the declarations, in each first the rows to be changed FOR UPDATE, then the rows that are only
referred to FOR SHARE: two pushes that meet seldom deadlock.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec.structs import replace

from api.db import Outcome, Session, Statement
from api.new_ids import NewId, settle
from api.push_plan import DOCUMENT_HEADS
from api.push_request import LocalKey, PushedChange, read_id
from api.references import References, candidate_ids
from api.scope import heads_of
from api.writes import lock_rows, locking_rows, rows_found, share_rows, sharing_ids
from schema.tables import TABLES, Table

Row = dict[str, Any]


class _Before(msgspec.Struct, frozen=True):
    """What was known of a record before a `put`."""

    table: str
    record_id: int
    row: Row | None
    said: Row | None
    first_said: Row | None
    made_as: LocalKey | None


class PushRows:
    """Locked rows as wire values, and what this push has said of them; both can be taken back to a mark, as a savepoint does."""

    def __init__(self, session: Session, company_id: int, references: References) -> None:
        self._session = session
        self._company_id = company_id
        self.references = references
        self._rows: dict[str, dict[int, Row]] = defaultdict(dict)
        self._said: dict[tuple[str, int], Row] = {}
        self._first_said: dict[tuple[str, int], Row] = {}
        self._undo: list[_Before] = []
        self._shared: dict[str, dict[int, Row]] = defaultdict(dict)

    def mark(self) -> int:
        """Return a mark for `undo_to`."""
        return len(self._undo)

    def undo_to(self, mark: int) -> None:
        """Forget what was put since `mark`."""
        while len(self._undo) > mark:
            before = self._undo.pop()
            key = (before.table, before.record_id)
            _restore(self._rows[before.table], before.record_id, before.row)
            _restore(self._said, key, before.said)
            _restore(self._first_said, key, before.first_said)
            if before.row is None:
                self.references.existing[before.table].discard(before.record_id)
            if before.made_as is not None:
                self.references.records.pop(before.made_as, None)

    def get(self, table: Table, record_id: int | None) -> Row | None:
        """Return a locked row, None where the company has none of that id."""
        return self._rows[table.name].get(record_id) if record_id is not None else None

    def put(self, table: Table, record_id: int, row: Row, said: Mapping[str, Any], *, made_as: LocalKey | None = None) -> None:
        """Take over a row as it is now and what the device said of it; `made_as`: the local id that stands for it from here on."""
        key = (table.name, record_id)
        before_row, before_said = self._rows[table.name].get(record_id), self._said.get(key)
        self._undo.append(_Before(*key, before_row, before_said, self._first_said.get(key), made_as))
        self._rows[table.name][record_id] = row
        self._said[key] = {**(before_said or {}), **said}
        if before_row is None:
            self._first_said[key] = dict(said)
        self.references.existing[table.name].add(record_id)
        if made_as is not None:
            self.references.records[made_as] = record_id

    def settle(self, ids: Mapping[int, int]) -> None:
        """Put the ids that MySQL gave new rows in the place of what stood for them."""
        if not ids:
            return
        for number, before in enumerate(self._undo):
            table, key = before.table, (before.table, before.record_id)
            now = (self._rows[table].get(before.record_id), self._said.get(key), self._first_said.get(key))
            for values in (*now, before.row, before.said, before.first_said):
                settle(table, values, ids)
            if type(before.record_id) is NewId:
                record_id = ids[before.record_id]
                _move(self._rows[table], before.record_id, record_id)
                _move(self._said, key, (table, record_id))
                _move(self._first_said, key, (table, record_id))
                self._undo[number] = replace(before, record_id=record_id)
        records = self.references.records
        records.update({key: ids[record_id] for key, record_id in records.items() if type(record_id) is NewId})
        for existing in self.references.existing.values():
            new = existing & ids.keys()
            existing -= new
            existing |= {ids[record_id] for record_id in new}

    def named(self) -> dict[LocalKey, int]:
        """Return what the local ids that this push gave a meaning stand for."""
        return {before.made_as: before.record_id for before in self._undo if before.made_as is not None}

    def said(self, table: Table, record_id: int) -> Row:
        """Return what this push has said of a record so far, in wire form."""
        return self._said.get((table.name, record_id), {})

    def first_said(self, table: Table, record_id: int) -> Row | None:
        """Return what this push said when it made a record; None where the record is older."""
        return self._first_said.get((table.name, record_id))

    def all_of(self, name: str) -> list[Row]:
        """Return the rows of a table that this push has locked or made, as they stand in it."""
        return list(self._rows[name].values())

    async def heads(self, table: Table, row: Row | None, values: Mapping[str, Any]) -> dict[int, Row]:
        """Return the document rows that a row is part of, as it was and as it will be."""
        name, ids = heads_of(table.name, row, values)
        return {head_id: row for head_id in ids if (row := await self.find(TABLES[name], head_id)) is not None}

    async def find(self, table: Table, record_id: int) -> Row | None:
        """Return a row as it stands in this push, read FOR SHARE where the push does not touch it."""
        known = self.get(table, record_id) or self._shared[table.name].get(record_id)
        if known is None:
            await self._share(table.name, {record_id})
        return known or self._shared[table.name].get(record_id)

    async def read_again(self, wanted: Mapping[str, Iterable[int]]) -> dict[tuple[str, int], Row]:
        """Return rows as they stand now, with the times MySQL set."""
        found: dict[tuple[str, int], Row] = {}
        for name in TABLES:
            if wanted.get(name):
                rows = await lock_rows(self._session, TABLES[name], self._company_id, wanted[name])
                found.update({(name, record_id): row for record_id, row in rows.items()})
        return found

    async def take(self, asked: LockQuestion, outcomes: Sequence[Outcome]) -> None:
        """Take over the rows that were just locked; of documents whose parts are among them, those that were not are read."""
        heads: dict[str, set[int]] = defaultdict(set)
        for (name, lock, _), outcome in zip(asked.listed, outcomes, strict=True):
            table = TABLES[name]
            self.references.existing[name].update(row[0] for row in outcome.rows)
            if lock == "FOR UPDATE":
                self._rows[name] = rows_found(table, outcome)
                for column, target in table.references.items():
                    if target in DOCUMENT_HEADS:
                        heads[target].update(row[column] for row in self._rows[name].values() if row[column] is not None)
            elif name in DOCUMENT_HEADS:
                self._shared[name] = rows_found(table, outcome)
        for name, ids in heads.items():
            await self._share(name, ids - self._rows[name].keys() - self._shared[name].keys())

    async def _share(self, name: str, ids: Iterable[int]) -> None:
        """Read rows FOR SHARE."""
        self._shared[name].update(await share_rows(self._session, TABLES[name], self._company_id, ids))


@dataclass(frozen=True, slots=True)
class LockQuestion:
    """The statements that lock rows, in the order of locks, each with its table and its lock."""

    listed: Sequence[tuple[str, str, Statement]]

    @property
    def statements(self) -> list[Statement]:
        """All of them, for one packet."""
        return [statement for _, _, statement in self.listed]


def ask_locks(company_id: int, changes: Iterable[PushedChange], records: Mapping[LocalKey, int]) -> LockQuestion:
    """Return what locks all that changes may touch or refer to. Of what is only referred to ids are read, but of documents all."""
    listed = [change for change in changes if change.table in TABLES]
    targets: dict[str, set[int]] = defaultdict(set)
    for change in listed:
        for record_id in (change.record_id, target_id(change, records)):
            if record_id is not None:
                targets[change.table].add(record_id)
    parents = candidate_ids(listed, records)
    asked: list[tuple[str, str, Statement]] = []
    for name, table in TABLES.items():
        if name in targets:
            asked.append((name, "FOR UPDATE", locking_rows(table, company_id, targets[name], "FOR UPDATE")))
        others = parents[name] - targets[name] if name in parents else None
        if others and name in DOCUMENT_HEADS:
            asked.append((name, "FOR SHARE", locking_rows(table, company_id, others, "FOR SHARE")))
        elif others:
            asked.append((name, "FOR SHARE", sharing_ids(table, company_id, others)))
    return LockQuestion(asked)


def references_of(changes: Iterable[PushedChange], records: Mapping[LocalKey, int]) -> References:
    """Return what the references of a push start from; `records`: what its local ids stood for before it."""
    inserted = ((c.table, c.local_id) for c in changes if c.operation == "INSERT" and c.local_id is not None and c.table in TABLES)
    return References(frozenset(inserted), dict(records))


def target_id(change: PushedChange, records: Mapping[LocalKey, int]) -> int | None:
    """Return a change's record: `record_id`, else `data.id`, else what its local id stands for. An INSERT ignores `data.id`."""
    if change.operation != "INSERT":
        if change.record_id is not None:
            return change.record_id
        server_id = read_id(change.data.get("id"))
        if server_id is not None:
            return server_id
    return records.get((change.table, change.local_id)) if change.local_id is not None else None


def _move(kept: dict[Any, Row], before: Any, after: Any) -> None:
    if before in kept:
        kept[after] = kept.pop(before)


def _restore(kept: dict[Any, Row], key: Any, before: Row | None) -> None:
    if before is None:
        kept.pop(key, None)
    else:
        kept[key] = before
