"""What was pushed and did not take effect (contract §4): `GET /api/sync/conflicts`, `GET …/rejected`, `POST …/resolve`.

Nothing pushed is dropped: a refused change is an open conflict until a person decides, a rejected one stays with its code.
Resolving writes a normal change with an origin of its own; the first resolution wins, later ones are told it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import orjson
from aiohttp import web

from api.answers import json_answer
from api.auth import authenticate
from api.db import DataRefused, DuplicateKey, ForeignKeyFailed, Session
from api.keys import DATABASE, SETTINGS
from api.origins import open_origin
from api.push_answer import visible_columns
from api.rejected import list_rejected
from api.requests import malformed, read_company_id, read_device_id, read_json_object, request_id
from api.resolution import CONFLICT_COLUMNS, resolve_conflict
from api.scope import Scope, forbidden, scope_of
from api.settling import settle
from schema.changes import OriginKind
from schema.errors import SyncError
from schema.values import rfc3339

PAGE_ROWS_MAX = 200
CHOICES = ("server", "client", "merged")
_LIST = f"""
SELECT {CONFLICT_COLUMNS} FROM sync_conflicts
WHERE company_id = %s AND status = %s AND id > %s AND (%s IS NULL OR device_id = %s) ORDER BY id LIMIT %s
"""


async def handle_conflicts(request: web.Request) -> web.Response:
    """List conflicts, oldest first, `?status=open|resolved&after=ID&limit=N`; who may not resolve sees their device's own."""
    scope, device_id = await _asker(request)
    status = request.query.get("status", "open")
    if status not in ("open", "resolved"):
        raise malformed("status must be open or resolved")
    after, limit = _page(request)
    only = None if scope.may_resolve_conflicts else device_id or ""
    async with request.app[DATABASE].read() as session:
        rows = await session.fetch_all(_LIST, (scope.company_id, status, after, only, only, limit + 1))
    shown = [_shown(scope, row) for row in rows[:limit]]
    return json_answer({"success": True, "conflicts": shown, "has_more": len(rows) > limit})


async def handle_rejected(request: web.Request) -> web.Response:
    """List what was rejected and not mended since, oldest first; who may not resolve, or names a device, sees that device's own."""
    scope, device_id = await _asker(request)
    if device_id is None and not scope.may_resolve_conflicts:
        raise malformed("device_id is needed: text of 1 to 128 bytes")
    after, limit = _page(request)
    async with request.app[DATABASE].read() as session:
        found = await list_rejected(session, scope.company_id, device_id, after, limit + 1)
    return json_answer({"success": True, "rejected": found[:limit], "has_more": len(found) > limit})


async def handle_resolve(request: web.Request) -> web.Response:
    """Resolve one conflict: `server` keeps the row, `client` writes what was sent, `merged` writes `data`."""
    identity = await authenticate(request)
    body = await read_json_object(request)
    choice, conflict_id, data = body.get("choice"), body.get("conflict_id"), body.get("data")
    if choice not in CHOICES:
        raise malformed("choice must be server, client or merged")
    if isinstance(conflict_id, bool) or not isinstance(conflict_id, int):
        raise malformed("conflict_id must be a number")
    if choice == "merged" and not isinstance(data, dict):
        raise malformed("data must be an object where choice is merged")
    scope = await scope_of(request, identity, read_company_id(body.get("company_id")), read_device_id(body.get("device_id")))
    if not scope.may_resolve_conflicts:
        raise forbidden("this user may not resolve conflicts")

    async def work(session: Session) -> tuple[int | None, dict[str, Any]]:
        kind = OriginKind.DEVICE if scope.device_id else OriginKind.API
        origin = partial(open_origin, kind=kind, scope=scope, request_id=request_id(request))
        return await resolve_conflict(session, scope, conflict_id, choice, data if choice == "merged" else None, origin)

    try:
        origin_id, answer = await request.app[DATABASE].run(work, attempts=request.app[SETTINGS].push_attempts_max)
    except (DuplicateKey, ForeignKeyFailed, DataRefused) as problem:
        raise SyncError(
            409, "not_applicable", "the row cannot be written so as things are now: resolve with other data"
        ) from problem
    if origin_id is not None:
        passed = await settle(request, origin_id, scope.company_id)
        if passed is not None and passed.first_version is not None:
            answer["server_version"] = passed.head_after  # the row's last change in the transaction that resolved it
    return json_answer({"success": True, **answer})


async def _asker(request: web.Request) -> tuple[Scope, str | None]:
    identity = await authenticate(request)
    device_id = read_device_id(request.query.get("device_id")) or identity.device_id
    return await scope_of(request, identity, read_company_id(request.query.get("company_id")), device_id), device_id


def _page(request: web.Request) -> tuple[int, int]:
    values = []
    for name, default in (("after", "0"), ("limit", str(PAGE_ROWS_MAX))):
        text = request.query.get(name, default)
        if not (text.isascii() and text.isdecimal() and len(text) <= 16):
            raise malformed(f"{name} must be a whole number")
        values.append(int(text))
    return values[0], max(1, min(values[1], PAGE_ROWS_MAX))


def _shown(scope: Scope, row: tuple[Any, ...]) -> dict[str, Any]:
    """A row of CONFLICT_COLUMNS as JSON, with what this role may see."""
    (conflict_id, device_id, user_id, table, record_id, local_id, operation, type_, code, fields, base, client, server, *rest) = row
    status, resolution, resolved_by, resolved_at, created_at = rest
    sides = {"base": base, "client_data": client, "server_data": server}
    return {
        "conflict_id": conflict_id,
        "device_id": device_id,
        "user_id": user_id,
        "table": table,
        "record_id": record_id,
        "local_id": local_id,
        "operation": operation,
        "type": type_,
        "code": code,
        "fields": orjson.loads(fields) if fields else [],
        **{name: visible_columns(scope, table, orjson.loads(side)) if side else None for name, side in sides.items()},
        "status": status,
        "resolution": resolution,
        "resolved_by": resolved_by,
        "resolved_at": rfc3339(resolved_at) if resolved_at else None,
        "created_at": rfc3339(created_at),
    }
