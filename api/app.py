"""The HTTP application: its routes, its middleware, and the resources it opens and closes. No CORS: no foreign page may ask."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress

import aiohttp
from aiohttp import web
from isal import isal_zlib

from api import conflicts, data, health, signin
from api.auth import AUTH, LISTENER, Authenticator
from api.cache import Cache
from api.db import Database
from api.delivery_store import DELIVERIES, DeliveryStore
from api.errors import frame
from api.head_watch import HEADS, HeadWatch
from api.heads import LAG, Lag
from api.id_floors import keep_id_floors
from api.keys import (
    CACHE,
    DATABASE,
    DEVICE_LIMIT,
    DRAINING,
    FEED,
    METRICS,
    PASSWORDS,
    SETTINGS,
    SIGNIN_LIMITS,
    USER_LIMIT,
)
from api.limits import Buckets, SignInLimits
from api.metrics import Metrics
from api.pages import PAGES, Pages
from api.passwords import Passwords
from api.past import SeenHead
from api.pull import handle_pull
from api.push import handle_push
from api.quiet import QUIET, Quiet
from api.recent import Recent
from api.retry import handle_retry
from api.safe_cursor import STOPS, Stops
from api.scope import SCOPES, Scopes
from api.standing import STANDINGS, Standings
from api.status import handle_status
from api.stream import handle_stream
from api.tokens import check_secret
from api.waiting import WAITER, Waiter
from api.witnessed import remember_witnessed_head
from schema.leases import tailer_lock
from schema.settings import Settings

SERVER = "matrix-sync"
# It logs the lines of a broken request as they came, tokens too. What fails in a handler, `api.errors` logs.
logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)


def create_app(settings: Settings, *, worker: int = 0) -> web.Application:
    """Return the application; it opens its connections when it starts. Raises StartError for settings it cannot serve with."""
    check_secret(settings.jwt_secret)
    address = settings.api()
    aiohttp.set_zlib_backend(isal_zlib)
    app = web.Application(middlewares=[frame], client_max_size=settings.body_bytes_max)
    pool_size, wait_ms_max = settings.mysql_pool_size, settings.mysql_pool_wait_ms_max
    app[SETTINGS] = settings
    seen = SeenHead()
    app[DATABASE] = Database(address, pool_size=pool_size, wait_ms_max=wait_ms_max, seen=seen)
    app[FEED] = Database(address, pool_size=pool_size, wait_ms_max=wait_ms_max, raw_text=True, seen=seen)
    app[CACHE] = Cache(settings.redis_url, database=address.database, timeout_ms=settings.redis_timeout_ms)
    app[PASSWORDS] = Passwords(settings.password_hashers_max)
    app[AUTH] = Authenticator(settings, app[DATABASE], app[CACHE])
    app[SCOPES] = Scopes(app[DATABASE])
    app[USER_LIMIT] = Buckets(settings.user_requests_per_second)
    app[DEVICE_LIMIT] = Buckets(settings.device_requests_per_second)
    app[SIGNIN_LIMITS] = SignInLimits(app[CACHE], settings.signin_attempts_per_minute)
    app[METRICS] = Metrics(worker)
    app[DELIVERIES] = DeliveryStore(app[DATABASE])
    app[STANDINGS] = Standings(app[FEED])
    app[QUIET] = Quiet()
    recent = Recent(app[FEED], bytes_max=settings.page_cache_bytes_max // 2)
    app[PAGES] = Pages(app[FEED], recent, bytes_max=settings.page_cache_bytes_max // 2)
    app[WAITER] = Waiter(app[DATABASE])
    app[STOPS] = Stops()
    held_max = settings.pulls_held_per_device_max
    app[HEADS] = HeadWatch(app[DATABASE], app[CACHE], held_max=held_max, on_hint=app[WAITER].hinted)
    app[LAG] = Lag(app[DATABASE], tailer_lock(address.database))
    app.add_routes(routes())
    app[DRAINING] = asyncio.Event()
    app.on_shutdown.append(_drain)
    app.cleanup_ctx.extend([_stores, remember_witnessed_head, keep_id_floors, _revocations])
    app.on_response_prepare.append(_sign)
    return app


def routes() -> list[web.RouteDef]:
    """Return every route of the API."""
    return [
        web.get("/api/health", health.handle_health),
        web.get("/api/ready", health.handle_ready),
        web.get("/metrics", health.handle_metrics),
        web.post("/api/auth/register", signin.handle_register),
        web.post("/api/auth/login", signin.handle_login),
        web.post("/api/auth/refresh", signin.handle_refresh),
        web.post("/api/auth/logout", signin.handle_logout),
        web.get("/api/auth/user", signin.handle_user),
        web.post("/api/sync/pull", handle_pull),
        web.get("/api/sync/stream", handle_stream),
        web.post("/api/sync/push", handle_push),
        web.get("/api/sync/status", handle_status),
        web.get("/api/sync/conflicts", conflicts.handle_conflicts),
        web.get("/api/sync/rejected", conflicts.handle_rejected),
        web.post("/api/sync/resolve", conflicts.handle_resolve),
        web.post("/api/sync/retry", handle_retry),
        *data.routes(),
    ]


async def _drain(app: web.Application) -> None:
    app[DRAINING].set()
    app[HEADS].wake_all()


async def _stores(app: web.Application) -> AsyncIterator[None]:
    """MySQL and Redis may be away when a worker starts: it answers 503 until they are back."""
    app[HEADS].start()
    yield
    await app[HEADS].close()
    await app[WAITER].close()
    await app[LAG].close()
    await app[STANDINGS].close()
    await app[PAGES].close()
    await app[DELIVERIES].close()
    await app[DATABASE].close()
    await app[FEED].close()
    await app[CACHE].close()
    app[PASSWORDS].close()


async def _revocations(app: web.Application) -> AsyncIterator[None]:
    app[LISTENER] = asyncio.create_task(app[AUTH].listen())
    yield
    app[LISTENER].cancel()
    with suppress(asyncio.CancelledError):
        await app[LISTENER]


async def _sign(request: web.Request, response: web.StreamResponse) -> None:
    """The server says its name, not its versions, and no answer is kept by a cache on the way."""
    response.headers["Server"] = SERVER
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers["X-Content-Type-Options"] = "nosniff"
