"""`If-Match: <version>`: the row under lock must still be what the change log shows at that version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web

from api.db import Session
from api.past import Forks
from api.requests import malformed
from schema.columns import ID_MAX
from schema.errors import SyncError
from schema.tables import RESERVED, Table
from schema.values import is_same

STEPS_MAX = 1000
_NEWEST = "SELECT version FROM sync_live WHERE company_id = %s AND table_name = %s AND record_id = %s"
_CHANGE = "SELECT data, sealed, prev_version, for_device FROM sync_changes WHERE company_id = %s AND version = %s"


def read_if_match(request: web.Request) -> int | None:
    """Return the version of the header, None where it is absent or `*`. Raises SyncError 400."""
    text = request.headers.get("If-Match")
    if text is None or text.strip() == "*":
        return None
    digits = text.strip().removeprefix("W/").strip('"')
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 16 and int(digits) <= ID_MAX):
        raise malformed("If-Match must be one version")
    return int(digits)


async def check_unchanged(session: Session, table: Table, company_id: int, row: Mapping[str, Any], version: int) -> None:
    """Raise SyncError 412 unless `row`, read under lock, is the record's image at `version`.

    A tailer that lags does not matter: what it has not logged yet makes the row differ from the image.
    """
    image = await image_at(session, table, company_id, row["id"], version)
    if image is not None and await Forks(session).is_replaced(version):
        image = None
    if image is None or not _is_same_row(table, image, row):
        raise SyncError(412, "precondition_failed", "the record was changed since that version")


async def image_at(session: Session, table: Table, company_id: int, record_id: int, version: int) -> dict[str, Any] | None:
    """Return the wire values of the record's newest change at or before `version`; None where there is none near enough."""
    newest = await session.fetch_one(_NEWEST, (company_id, table.name, record_id))
    at: int | None = newest[0] if newest else None
    for _ in range(STEPS_MAX):
        change = await session.fetch_one(_CHANGE, (company_id, at)) if at is not None else None
        if change is None or at is None:
            return None
        data, sealed, previous, for_device = change
        if at <= version and for_device is None:
            return {**orjson.loads(data), **(orjson.loads(sealed) if sealed else {})}
        at = previous
    return None


def _is_same_row(table: Table, image: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    """Compare the table's own columns by their type, and whether the row is deleted; not the times, which MySQL sets."""
    if (image.get("deleted_at") is None) != (row.get("deleted_at") is None):
        return False
    return all(
        is_same(column, image[name], row[name])
        for name, column in table.by_name.items()
        if name not in RESERVED and name in image and name in row
    )
