"""The newest image of each record as the change log holds it, by ranges of a table's ids or by ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pymysql.connections import Connection

_READ = """
SELECT l.company_id, l.record_id, l.version, l.is_deleted, c.data, c.sealed
FROM sync_live l LEFT JOIN sync_changes c ON c.company_id = l.company_id AND c.version = l.version
WHERE l.table_name = %s AND {which} ORDER BY l.record_id, l.company_id
"""
_READ_RANGE = _READ.format(which="l.record_id BETWEEN %s AND %s")
_READ_IDS = _READ.format(which="l.record_id IN %s")
_READ_BOUND = """
SELECT record_id FROM sync_live WHERE table_name = %s AND record_id >= %s ORDER BY record_id LIMIT 1 OFFSET %s
"""


@dataclass(frozen=True, slots=True)
class NewestImage:
    """A record's newest change. `data` is None where sync_live names a change that is gone."""

    company_id: int
    record_id: int
    version: int
    is_deleted: bool
    data: str | None
    sealed: str | None


def read_newest_range(connection: Connection[Any], table: str, first: int, last: int) -> list[NewestImage]:
    """Records whose id is in [first, last], of every company, deleted ones too. A row that moved has one in each company."""
    return _read(connection, _READ_RANGE, (table, first, last))


def read_newest_ids(connection: Connection[Any], table: str, ids: Sequence[int]) -> list[NewestImage]:
    """The same by ids; none of them is no question."""
    return _read(connection, _READ_IDS, (table, list(ids))) if ids else []


def read_bound(connection: Connection[Any], table: str, first: int, count: int) -> int | None:
    """The last of the first `count` ids from `first` on that the change log knows; None where it knows fewer."""
    with connection.cursor() as cursor:
        cursor.execute(_READ_BOUND, (table, first, count - 1))
        row = cursor.fetchone()
    return int(row[0]) if row else None


def _read(connection: Connection[Any], query: str, params: tuple[Any, ...]) -> list[NewestImage]:
    with connection.cursor() as cursor:
        cursor.execute(query, params)
        return [
            NewestImage(c, r, version, bool(deleted), data, sealed) for c, r, version, deleted, data, sealed in cursor.fetchall()
        ]
