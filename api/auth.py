"""Who asks: the bearer token of a request, verified, its sign-in checked in MySQL at least every few seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from api import sessions
from api.batch import Batch
from api.cache import Cache
from api.db import Database
from api.kept import keep
from api.keys import DEVICE_LIMIT, USER_LIMIT
from api.sessions import invalid_token
from api.tokens import AccessToken, verify_access
from schema.settings import Settings

REVOKED = "revoked"
"""Channel of revoked sign-ins: the session id in hexadecimal."""
TOKENS_MAX = 20_000


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks: the person, the sign-in, and the device where the token is bound to one."""

    login_id: int
    session_id: bytes
    device_id: str | None


class Authenticator:
    """Verifies tokens, once each while it is in memory, and asks MySQL for their sign-ins every `token_cache_seconds`, which bounds
    how late a revocation takes effect without Redis; with Redis every worker hears of it at once.
    """

    def __init__(self, settings: Settings, database: Database, cache: Cache, clock: Callable[[], float] = time.monotonic) -> None:
        self._secret = settings.jwt_secret
        self._seconds = settings.token_cache_seconds
        self._states = Batch(database, sessions.read_states)
        self._cache = cache
        self._clock = clock
        self._known: dict[str, tuple[float, AccessToken]] = {}

    async def identify(self, token: str) -> Identity:
        """Return who holds the token. Raises SyncError: 401 `invalid_token` or `device_revoked`, 503."""
        checked_until, access = self._known.get(token, (0.0, None))
        if access is None:
            access = verify_access(self._secret, token)
            if access is None:
                raise invalid_token()
        if checked_until <= self._clock():
            self._known.pop(token, None)
            checked_until = self._clock() + self._seconds
            state = await self._states.get(access.session_id)
            sessions.demand_standing(state, access.login_id, access.device_id)
            keep(self._known, token, (checked_until, access), most=TOKENS_MAX)
        if access.expires_at <= time.time():
            raise invalid_token()
        return Identity(access.login_id, access.session_id, access.device_id)

    async def revoked(self, session_id: bytes) -> None:
        """Forget a sign-in that was just revoked, here and on every worker."""
        self._forget(session_id.hex())
        await self._cache.publish(REVOKED, session_id.hex().encode())

    async def listen(self) -> None:
        """Hear of revoked sign-ins for ever; what may have been missed is as good as revoked."""
        async for message in self._cache.subscribe(REVOKED):
            if message is None:
                self._known.clear()
            else:
                self._forget(message.decode(errors="replace"))

    def _forget(self, session_hex: str) -> None:
        for token in [token for token, (_, access) in self._known.items() if access.session_id.hex() == session_hex]:
            del self._known[token]


AUTH = web.AppKey("auth", Authenticator)
LISTENER = web.AppKey("revocations", asyncio.Task)


async def authenticate(request: web.Request) -> Identity:
    """Return who asks. Raises SyncError: 401, 429 above the limits of the user or of the token's device, 503."""
    identity = await request.app[AUTH].identify(bearer_of(request))
    request.app[USER_LIMIT].take(identity.login_id)
    if identity.device_id is not None:
        request.app[DEVICE_LIMIT].take(identity.device_id)
    return identity


def bearer_of(request: web.Request) -> str:
    """Return the request's token. Raises SyncError 401 where there is none."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise invalid_token()
    return token.strip()
