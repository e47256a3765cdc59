"""`GET /api/sync/status`: where a device stands (contract §4)."""

from __future__ import annotations

import time
from typing import Any

from aiohttp import web

from api.answers import json_answer
from api.auth import authenticate
from api.db import Session
from api.deliveries import decode
from api.document_codes import read_or_lease
from api.heads import LAG, read_head
from api.keys import DATABASE, SETTINGS
from api.past import read_lost_cursor
from api.rejected import count_rejected
from api.requests import malformed, read_company_id, read_device_id
from api.safe_cursor import count_not_given, read_safe_cursor
from api.scope import Scope, scope_of
from schema.settings import Settings
from schema.tables import TABLES
from schema.values import rfc3339, rfc3339_from_us

_READ = "SELECT state, last_pull_at FROM sync_deliveries WHERE company_id = %s AND device_id = %s"
_COUNT_CONFLICTS = "SELECT COUNT(*) FROM sync_conflicts WHERE company_id = %s AND device_id = %s AND status = 'open'"
_HASH_LIVE = """
SELECT table_name, COUNT(*),
    BIT_XOR(CAST(CONV(LEFT(SHA2(CONCAT(table_name, ':', record_id, ':', version), 256), 16), 16, 10) AS UNSIGNED))
FROM sync_live WHERE company_id = %s AND NOT is_deleted AND version <= %s GROUP BY table_name
"""


async def handle_status(request: web.Request) -> web.Response:
    """Answer the status of one device. Raises SyncError: 400, 401, 403, 503."""
    identity = await authenticate(request)
    device_id = read_device_id(request.query.get("device_id")) or identity.device_id
    if device_id is None:
        raise malformed("device_id is needed: text of 1 to 128 bytes")
    scope = await scope_of(request, identity, read_company_id(request.query.get("company_id")), device_id)
    lag_ms = await request.app[LAG].read_ms()
    async with request.app[DATABASE].read() as session:
        status = await _read_status(session, scope, device_id)
        if request.query.get("verify") == "1":
            status["verify"] = await _read_verification(session, scope, status["head_version"])
    codes = await read_or_lease(request.app, device_id, [scope.company_id])
    status["document_code"] = codes.get(scope.company_id)
    status |= {"lag_ms": lag_ms, "server_time": rfc3339_from_us(time.time_ns() // 1000), "limits": _limits(request.app[SETTINGS])}
    return json_answer({"success": True, "status": status})


async def _read_status(session: Session, scope: Scope, device_id: str) -> dict[str, Any]:
    head = await read_head(session)
    row = await session.fetch_one(_READ, (scope.company_id, device_id))
    deliveries = decode(row[0] if row else None)
    given = {name: (table.delivered, table.again) for name, table in deliveries.tables.items() if name in scope.readable}
    asked = given or {name: (0, 0) for name in TABLES if name in scope.readable}
    pending = await count_not_given(session, scope, device_id, asked, head)
    last_pull_at = row[1] if row else None
    cursor = await read_lost_cursor(session, head.version, known_epoch=deliveries.epoch, last_version=None)
    is_lost = cursor is not None
    if cursor is None:
        cursor = await read_safe_cursor(session, scope, device_id, deliveries, head)
    return {
        "device_id": device_id,
        "last_sync_version": min((version for version, _ in given.values()), default=0),
        "current_version": cursor,
        "pending_changes": pending,
        "is_synced": bool(given) and pending == 0 and not is_lost,
        "last_sync_at": rfc3339(last_pull_at) if last_pull_at else None,
        "head_version": head.version,
        "epoch": head.epoch,
        "min_version": head.min_version,
        "conflicts_open": await _count_conflicts(session, scope, device_id),
        "rejected": await count_rejected(session, scope.company_id, device_id),
    }


async def _read_verification(session: Session, scope: Scope, version: int) -> dict[str, Any]:
    """Per readable table, how many live records there are at a version, and the XOR of the first 64 bits of
    SHA-256("table:record_id:version") over them, in hexadecimal: what a device can compute from what it holds.
    """
    rows = await session.fetch_all(_HASH_LIVE, (scope.company_id, version))
    found = {table: {"count": count, "hash": f"{value:016x}"} for table, count, value in rows}
    tables = {name: found.get(name, {"count": 0, "hash": "0" * 16}) for name in TABLES if name in scope.readable}
    return {"version": version, "tables": tables}


async def _count_conflicts(session: Session, scope: Scope, device_id: str) -> int:
    row = await session.fetch_one(_COUNT_CONFLICTS, (scope.company_id, device_id))
    return int(row[0]) if row else 0


def _limits(settings: Settings) -> dict[str, int]:
    return {
        "page_changes_default": settings.page_changes_default,
        "page_changes_max": settings.page_changes_max,
        "push_changes_max": settings.push_changes_max,
        "body_bytes_max": settings.body_bytes_max,
    }
