"""Read your writes: after a commit, wait until the tailer has passed it, so that the very next pull has it (contract §3)."""

from __future__ import annotations

from aiohttp import web

from api.keys import SETTINGS
from api.waiting import WAITER, Passed


async def settle(request: web.Request, origin_id: int, company_id: int) -> Passed | None:
    """Wait for a transaction of this company for at most `push_wait_ms_max`; None where the tailer has not passed it in time."""
    return await request.app[WAITER].wait(origin_id, request.app[SETTINGS].push_wait_ms_max / 1000, company_id=company_id)
