"""Read your writes: after a commit, wait until the tailer has passed it, so that the very next pull has it (contract §3)."""

from __future__ import annotations

from aiohttp import web


async def settle(request: web.Request, origin_id: int) -> None:
    """Wait for the transaction of `origin_id` for at most `push_wait_ms_max`."""
