"""`?as_of=` of the data endpoints: rows as they were at a version or a time, for as long as history is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from api.data_query import Filter, Page, visible_columns
from api.data_read import not_found
from api.db import Session
from api.requests import malformed
from api.scope import Scope
from schema.columns import ID_MAX, Column
from schema.errors import SyncError
from schema.past import READ_IDS, READ_IMAGES, READ_PLACE, READ_VERSION_AT, images_params, parse_as_of
from schema.tables import Table
from schema.values import is_same
from schema.versions import EMPTY_HEAD, epoch_of

BATCHES_MAX = 20
"""Batches of records that one request looks at: most of them may be younger than the version."""


@dataclass(frozen=True, slots=True)
class PastPage:
    """`next_after`: the record to go on after; while `has_more` is true there may be more, also after an empty page."""

    rows: list[dict[str, Any]]
    next_after: int
    has_more: bool


async def read_version(session: Session, as_of: str) -> int:
    """Return the version that `?as_of=` means. Raises SyncError: 400, 410 `retention` or `epoch`."""
    try:
        version, time_us = parse_as_of(as_of)
    except ValueError:
        raise malformed("as_of must be a version or a time as RFC 3339 writes it") from None
    if time_us is not None:
        found = await session.fetch_one(READ_VERSION_AT, (max(time_us, 0),))
        version = found[0] if found else EMPTY_HEAD
    if version is None or not EMPTY_HEAD <= version <= ID_MAX:
        raise malformed("as_of must be a version, 1 or more")
    row = await session.fetch_one(READ_PLACE, (version,))
    if row is None:
        raise SyncError(503, "not_ready", "the change log has not begun", headers={"Retry-After": "1"})
    head, epoch, images_from, fork = row
    if version > head:
        raise malformed("as_of is beyond the newest change")
    if version < images_from:
        details = {"images_from": images_from}
        raise SyncError(410, "retention", f"history is kept from version {images_from} on", details=details)
    if epoch_of(version) < epoch and fork is not None and version > fork:
        raise SyncError(410, "epoch", "this version belongs to a past that is gone")
    return int(version)


async def read_past_page(session: Session, table: Table, scope: Scope, page: Page, version: int) -> PastPage:
    """Return rows as they were at a version, in order of their ids. Raises SyncError 400 for a filter that can't be asked for."""
    columns = visible_columns(table, scope)
    for condition in page.filters:
        if not condition.is_exact:
            raise SyncError(
                400, "unknown_column", "text can't be asked for together with as_of", details={"name": condition.column.name}
            )
    rows: list[dict[str, Any]] = []
    after = page.after
    for _ in range(BATCHES_MAX):
        ids = [row[0] for row in await session.fetch_all(READ_IDS, (scope.company_id, table.name, after, page.limit))]
        if not ids:
            return PastPage(rows, after, False)
        for record_id, row in await _read_rows(session, table, scope, columns, ids, version):
            is_shown = page.include_deleted or row["deleted_at"] is None
            if is_shown and _fits(row, page.filters):
                rows.append(row)
                if len(rows) == page.limit:
                    return PastPage(rows, record_id, record_id < ids[-1] or len(ids) == page.limit)
        after = ids[-1]
        if len(ids) < page.limit:
            return PastPage(rows, after, False)
    return PastPage(rows, after, True)


async def read_past_record(
    session: Session, table: Table, scope: Scope, record_id: int, version: int, *, include_deleted: bool
) -> tuple[dict[str, Any], int]:
    """Return a row as it was at a version, and the version of that image. Raises SyncError 404."""
    found = await session.fetch_all(READ_IMAGES, images_params(scope.company_id, table.name, record_id, record_id, version))
    rows = [(_row(visible_columns(table, scope), data, sealed), at) for _, at, _, data, sealed in found]
    if not rows or (rows[0][0]["deleted_at"] is not None and not include_deleted):
        raise not_found()
    return rows[0]


async def _read_rows(
    session: Session, table: Table, scope: Scope, columns: Sequence[Column], ids: Sequence[int], version: int
) -> list[tuple[int, dict[str, Any]]]:
    params = images_params(scope.company_id, table.name, ids[0], ids[-1], version)
    found = await session.fetch_all(READ_IMAGES, params)
    return [(record_id, _row(columns, data, sealed)) for record_id, _, _, data, sealed in found]


def _row(columns: Sequence[Column], data: str, sealed: str | None) -> dict[str, Any]:
    """What the role may see of an image. A column that was added later is not in it."""
    image = {**orjson.loads(data), **(orjson.loads(sealed) if sealed else {})}
    return {column.name: image[column.name] for column in columns if column.name in image}


def _fits(row: dict[str, Any], filters: Sequence[Filter]) -> bool:
    return all(is_same(condition.column, row.get(condition.column.name), condition.value) for condition in filters)
