"""A record's history in the change log: from its newest change back along prev_version, with who made each one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pymysql.connections import Connection
from pymysql.cursors import DictCursor

from cdc.pruned import read_stretch_at

_READ_COMPANIES = "SELECT DISTINCT company_id FROM sync_live"
_READ_NEWEST = """
SELECT company_id, version, is_deleted FROM sync_live WHERE company_id IN ({companies}) AND table_name = %s AND record_id = %s
"""
_READ_CHANGE = """
SELECT c.company_id, c.version, c.operation, c.data, c.sealed, c.`before`, c.timestamp, c.tx, c.origin, c.origin_device_id,
       c.is_exact, c.device_id, c.local_id, c.prev_version, t.gtid, t.server_id, t.binlog_file, t.binlog_pos, t.statement,
       o.user_id, o.login_id, o.request_id, o.push_id, u.full_name AS user_name
FROM sync_changes c
LEFT JOIN sync_tx t ON t.tx = c.tx
LEFT JOIN sync_origins o ON o.id = c.origin_id
LEFT JOIN users u ON u.id = o.user_id
WHERE c.company_id = %s AND c.version = %s
"""
_COMPANIES_PER_QUERY_MAX = 1000


@dataclass(frozen=True, slots=True)
class Line:
    """A record's changes in one company's feed. `is_broken_at` is a prev_version that the change log lacks, `is_pruned_at` one that
    retention took out.
    """

    company_id: int
    is_deleted: bool
    changes: tuple[dict[str, Any], ...]
    is_broken_at: int | None
    is_pruned_at: int | None


def read_history(
    connection: Connection[Any], table: str, record_id: int, *, company_id: int | None = None, changes_max: int
) -> list[Line]:
    """The newest `changes_max` changes of a record, oldest first, for each company that has or had it.

    A change is a dict of the columns above: `data`, `sealed` and `before` are JSON text.
    """
    lines = []
    for company, version, is_deleted in _newest(connection, table, record_id, company_id):
        changes: list[dict[str, Any]] = []
        broken: int | None = None
        pruned: int | None = None
        following: int | None = version
        while following is not None and len(changes) < changes_max:
            change = _read_change(connection, company, following)
            if change is None:
                if read_stretch_at(connection, following) is None:
                    broken = following
                else:
                    pruned = following
                break
            changes.append(change)
            following = change["prev_version"]
        lines.append(Line(company, bool(is_deleted), tuple(reversed(changes)), broken, pruned))
    return lines


def _newest(connection: Connection[Any], table: str, record_id: int, company_id: int | None) -> Iterator[tuple[int, int, int]]:
    with connection.cursor() as cursor:
        if company_id is None:
            cursor.execute(_READ_COMPANIES)
            companies = [int(row[0]) for row in cursor.fetchall()]
        else:
            companies = [company_id]
        for part in _parts(companies):
            places = ",".join(["%s"] * len(part))
            cursor.execute(_READ_NEWEST.format(companies=places), (*part, table, record_id))
            yield from cursor.fetchall()


def _parts(companies: list[int]) -> Iterable[list[int]]:
    return (companies[start : start + _COMPANIES_PER_QUERY_MAX] for start in range(0, len(companies), _COMPANIES_PER_QUERY_MAX))


def _read_change(connection: Connection[Any], company_id: int, version: int) -> dict[str, Any] | None:
    with connection.cursor(DictCursor) as cursor:
        cursor.execute(_READ_CHANGE, (company_id, version))
        found: dict[str, Any] | None = cursor.fetchone()
    return found
