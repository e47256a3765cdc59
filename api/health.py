"""Is the process alive, can it serve, and what does it count. None of the three needs a token or tells a secret."""

from __future__ import annotations

import datetime as dt
import ipaddress
from typing import Any

from aiohttp import web

from api.answers import json_answer
from api.db import Database
from api.keys import DATABASE, DRAINING, FEED, METRICS, SETTINGS
from schema.errors import SyncError
from schema.leases import tailer_lock
from schema.migrations import read_migrations

_SCHEMA = "SELECT COUNT(*), MAX(id) FROM schema_migrations WHERE statements_done = statements"
_TAILER = """
SELECT l.holder, IS_USED_LOCK(%s) IS NOT NULL, s.head, s.last_commit_at, CURRENT_TIMESTAMP(6)
FROM sync_state s LEFT JOIN sync_lease l ON l.id = 1 WHERE s.id = 1
"""


async def handle_health(request: web.Request) -> web.Response:
    """`GET /api/health`: 200 while the process serves."""
    if request.app[DRAINING].is_set():
        raise SyncError(503, "stopping", "the server is stopping")
    return json_answer({"success": True, "status": "ok"})


async def handle_ready(request: web.Request) -> web.Response:
    """`GET /api/ready`: 200 when MySQL answers, its schema is this program's, and a tailer lives; else 503."""
    if request.app[DRAINING].is_set():
        raise SyncError(503, "stopping", "the server is stopping")
    checks: dict[str, Any] = {"mysql": False, "schema": False, "tailer": False}
    try:
        checks |= await _checks(request.app[DATABASE], request.app[SETTINGS].api().database)
    except SyncError as problem:
        raise SyncError(503, "not_ready", problem.message, details=checks, headers=problem.headers) from problem
    if not all(checks[name] for name in ("mysql", "schema", "tailer")):
        raise SyncError(503, "not_ready", "not everything that is needed is there", details=checks, headers={"Retry-After": "1"})
    return json_answer({"success": True, "status": "ready", "details": checks})


async def handle_metrics(request: web.Request) -> web.Response:
    """`GET /metrics`: Prometheus text, for this machine only."""
    if not _is_local(request.remote):
        raise web.HTTPNotFound
    metrics = request.app[METRICS]
    for name, database in (("text", request.app[DATABASE]), ("feed", request.app[FEED])):
        metrics.set_pool(name, in_use=database.connections_in_use, waiting=database.callers_waiting)
    return web.Response(body=metrics.render(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


async def _checks(database: Database, name: str) -> dict[str, Any]:
    async with database.read() as session:
        schema = await session.fetch_one(_SCHEMA)
        tailer = await session.fetch_one(_TAILER, (tailer_lock(name),))
    wanted = len(read_migrations())
    found: dict[str, Any] = {"mysql": True, "schema": schema == (wanted, wanted)}
    if tailer is not None:
        holder, is_alive, head, last_commit_at, now = tailer
        found |= {"tailer": bool(is_alive), "holder": holder, "head": head, "last_commit_age_ms": _age_ms(last_commit_at, now)}
    return found


def _age_ms(moment: dt.datetime | None, now: dt.datetime) -> int | None:
    return None if moment is None else (now - moment) // dt.timedelta(milliseconds=1)


def _is_local(address: str | None) -> bool:
    """Tell whether a peer is on this machine; a unix socket has no address."""
    try:
        return not address or ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
