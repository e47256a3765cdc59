"""Rate limits: wide ones per user and device, counted in each worker, and tight ones on sign-in, counted for all workers.

A device keeps its connection and thereby its worker, so the wide limits need no shared counter; a request costs no Redis call.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
import time
from collections.abc import Callable

from api.cache import Cache
from schema.errors import SyncError

MINUTE = 60
BURST_SECONDS = 5
BUCKETS_MAX = 20_000
EMAIL_FACTOR = 5
ADDRESS_FACTOR = 10
LOCAL_DIVISOR = 4


class Buckets:
    """Token buckets by name: `rate` a second, and a burst of five seconds' worth."""

    def __init__(self, rate: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._buckets: dict[str | int, tuple[float, float]] = {}

    def take(self, name: str | int) -> None:
        """Take one. Raises SyncError 429 with Retry-After where the bucket is empty."""
        now = self._clock()
        capacity = self._rate * BURST_SECONDS
        level, at = self._buckets.pop(name, (float(capacity), now))
        level = min(capacity, level + (now - at) * self._rate)
        if len(self._buckets) >= BUCKETS_MAX:
            self._buckets.pop(next(iter(self._buckets)))
        if level < 1:
            self._buckets[name] = (level, now)
            raise too_many((1 - level) / self._rate)
        self._buckets[name] = (level - 1, now)


class SignInLimits:
    """Failed sign-ins in a minute: per e-mail and address, per e-mail, and per address.

    Counted before the password is looked at, so that many at once do not slip through, and given back when it was right.
    The pair is what is tight: a stranger who fails on purpose must not be able to lock the owner of an e-mail out.
    """

    def __init__(self, cache: Cache, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._cache = cache
        self._per_minute = per_minute
        self._clock = clock
        self._local: dict[str, tuple[int, float]] = {}

    async def take(self, email: str, address: str | None) -> tuple[str, ...]:
        """Count an attempt and return what `give_back` takes. Raises SyncError 429."""
        limits = self._limits(email, network_of(address))
        for name, limit in limits.items():
            shared = await self._cache.count(name, seconds=MINUTE)
            count, allowed = (shared, limit) if shared is not None else (self._count(name), max(1, limit // LOCAL_DIVISOR))
            if count > allowed:
                raise too_many(MINUTE)
        return tuple(limits)

    async def give_back(self, names: tuple[str, ...]) -> None:
        """The attempt was a right one."""
        for name in names:
            count, until = self._local.get(name, (0, 0.0))
            if count > 0:
                self._local[name] = (count - 1, until)
            await self._cache.uncount(name)

    def _limits(self, email: str, network: str) -> dict[str, int]:
        digest = hashlib.sha256(email.encode()).hexdigest()[:32]
        return {
            f"signin:{digest}:{network}": self._per_minute,
            f"signin:{digest}": self._per_minute * EMAIL_FACTOR,
            f"signin-from:{network}": self._per_minute * ADDRESS_FACTOR,
        }

    def _count(self, name: str) -> int:
        now = self._clock()
        count, until = self._local.pop(name, (0, 0.0))
        if until <= now:
            count, until = 0, now + MINUTE
        if len(self._local) >= BUCKETS_MAX:
            self._local.pop(next(iter(self._local)))
        self._local[name] = (count + 1, until)
        return count + 1


def network_of(address: str | None) -> str:
    """Return who an address stands for: an IPv4 address itself, the /64 of an IPv6 one, `local` for a unix socket."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return "local"
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, 64), strict=False).network_address)
    return str(parsed)


def too_many(seconds: float) -> SyncError:
    """Return the 429; Retry-After is whole seconds, at least one."""
    return SyncError(429, "too_many_requests", "too many requests; wait", headers={"Retry-After": str(max(1, math.ceil(seconds)))})
