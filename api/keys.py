"""What a handler finds on the application and on the request, typed. AUTH and SCOPES stand beside their classes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from api.cache import Cache
from api.db import Database
from api.limits import Buckets, SignInLimits
from api.metrics import Metrics
from api.passwords import Passwords
from schema.settings import Settings

SETTINGS = web.AppKey("settings", Settings)
DATABASE = web.AppKey("database", Database)
FEED = web.AppKey("feed", Database)
CACHE = web.AppKey("cache", Cache)
PASSWORDS = web.AppKey("passwords", Passwords)
USER_LIMIT = web.AppKey("user_limit", Buckets)
DEVICE_LIMIT = web.AppKey("device_limit", Buckets)
SIGNIN_LIMITS = web.AppKey("signin_limits", SignInLimits)
METRICS = web.AppKey("metrics", Metrics)
DRAINING = web.AppKey("draining", asyncio.Event)
"""Set when the worker is told to stop: a held pull answers at once, readiness says no."""

REQUEST_ID = web.RequestKey("request_id", str)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
