"""`POST /api/sync/pull`: a page of the feed, at once or as soon as there is one (contract §2, §2.8)."""

from __future__ import annotations

import asyncio

from aiohttp import web

from api.auth import AUTH, authenticate, bearer_of
from api.head_watch import HEADS
from api.keys import DRAINING, SETTINGS
from api.pull_page import FoundPage, answer_page, find_page
from api.pull_request import PullRequest, parse_pull
from api.requests import read_json_object
from api.scope import SCOPES, Scope, scope_of

CHECK_SECONDS = 2.0
"""How often it is looked whether who waits may still read, and is still there."""


async def handle_pull(request: web.Request) -> web.Response:
    """Answer a page. Raises SyncError: 400, 401, 403, 410 `reset_required`, 413, 503."""
    identity = await authenticate(request)
    pull = parse_pull(await read_json_object(request), request.app[SETTINGS])
    scope = await scope_of(request, identity, pull.company_id, pull.device_id)
    found = await find_page(request.app, scope, pull)
    if pull.wait_seconds and found.is_empty:
        scope, found = await _hold(request, scope, pull, found)
    return web.Response(body=await answer_page(request.app, scope, pull, found), content_type="application/json")


async def _hold(request: web.Request, scope: Scope, pull: PullRequest, found: FoundPage) -> tuple[Scope, FoundPage]:
    """Wait for a page that is not empty. What is read meanwhile is not remembered: only the answer is what the device was given."""
    until = asyncio.get_running_loop().time() + pull.wait_seconds
    with request.app[HEADS].held(scope.company_id, pull.device_id) as may_wait:
        while may_wait and found.is_empty:
            is_new = await wait_for_news(request, scope, found.head.version, until)
            if is_new is None:
                break
            scope, before = await scope_again(request, pull.company_id, pull.device_id), scope
            if is_new or scope != before:
                found = await find_page(request.app, scope, pull)
            if scope != before:
                break
    return scope, found


async def wait_for_news(request: web.Request, scope: Scope, head: int, until: float) -> bool | None:
    """Whether the company may have a change above `head`, asked for at most `CHECK_SECONDS`; None: it is time to answer."""
    left = until - asyncio.get_running_loop().time()
    is_gone = request.transport is None or request.transport.is_closing()
    if left <= 0 or is_gone or request.app[DRAINING].is_set():
        return None
    return await request.app[HEADS].wait(scope.company_id, head, min(left, CHECK_SECONDS))


async def scope_again(request: web.Request, company_id: int | None, device_id: str) -> Scope:
    """What the request may see by now. Raises SyncError 401 or 403 where that is nothing any more."""
    identity = await request.app[AUTH].identify(bearer_of(request))
    return await request.app[SCOPES].find(identity, company_id, device_id)
