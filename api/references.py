"""What a reference in pushed data means: a new row of this push, a server id of this company, or an earlier local id.

Anything else, other companies' ids included, is unresolved: a foreign row answers exactly like one that does not exist.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from api.push_request import LocalKey, PushedChange, read_id
from schema.tables import Table


class Unresolved(Exception):
    """A reference that names nothing; `column` holds it."""

    def __init__(self, column: str) -> None:
        super().__init__(column)
        self.column = column


@dataclass(slots=True)
class References:
    """`inserted`: the local ids this push inserts. `records`: what local ids stand for, growing as this push makes rows.

    `existing`: per table the server ids that were found in the company and locked.
    """

    inserted: frozenset[LocalKey]
    records: dict[LocalKey, int] = field(default_factory=dict)
    existing: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))

    def resolve(self, table: Table, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return `data` with every reference as a server id. Raises Unresolved."""
        resolved = dict(data)
        for column, target in table.client_references.items():
            value = data.get(column)
            if isinstance(value, str | int) and not isinstance(value, bool):
                resolved[column] = self._record(column, target, value)
        return resolved

    def _record(self, column: str, target: str, value: str | int) -> int:
        """Text is a local id first, then a server id; a number a local id of this push, a server id, an earlier local id."""
        key = (target, str(value))
        server_id = read_id(value)
        is_here = server_id is not None and server_id in self.existing[target]
        if key in self.inserted or (isinstance(value, str) and key in self.records):
            found = self.records.get(key)
        else:
            found = server_id if is_here else self.records.get(key)
        if found is None or (found not in self.existing[target]):
            raise Unresolved(column)
        return found


def candidate_ids(changes: Iterable[PushedChange], records: Mapping[LocalKey, int]) -> dict[str, set[int]]:
    """Return per table the server ids that references of these changes may mean, to be looked up and locked."""
    wanted: dict[str, set[int]] = defaultdict(set)
    for change in changes:
        for target, value in change.referenced:
            if (target, value) in records:
                wanted[target].add(records[target, value])
            server_id = read_id(value)
            if server_id is not None:
                wanted[target].add(server_id)
    return wanted
