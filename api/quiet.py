"""Who asked last what it has asked again, and had all there is: it is answered alike as long as nothing has moved."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from api.deliveries import Deliveries
from api.heads import Head
from api.kept import keep
from api.pull_request import PullRequest
from api.scope import Scope
from api.standing import Standing

DEVICES_MAX = 20_000


@dataclass(frozen=True, slots=True)
class _Known:
    pull: PullRequest
    scope: Scope
    deliveries: Deliveries
    head: Head
    after: int


class Quiet:
    """Each device's last pull that was answered with nothing, and of which nothing had to be remembered."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, str], _Known] = {}

    def keep(self, scope: Scope, pull: PullRequest, deliveries: Deliveries, head: Head, after: int) -> None:
        """Such a pull, by a person of one company: where its page began, and how its device stood then."""
        known = _Known(pull, scope, deliveries, head, after)
        keep(self._known, (scope.company_id, pull.device_id), known, most=DEVICES_MAX)

    def began(self, scope: Scope, pull: PullRequest, standing: Standing) -> int | None:
        """Where the page began, if this is the same pull at the same head by a device that stands as it did; None otherwise."""
        known = self._known.get((scope.company_id, pull.device_id))
        if known is None or known.deliveries is not standing.deliveries or known.head != standing.head:
            return None
        return known.after if known.pull == pull and known.scope == scope else None


QUIET = web.AppKey("quiet", Quiet)
