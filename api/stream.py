"""`GET /api/sync/stream`: the feed of pull as Server-Sent Events, resumed by `Last-Event-ID` (contract §2.8).

    event: change   id: its version        data: the change, as in a pull's `changes`
    event: page     id: the safe cursor    data: `current_version` and what a pull says beside its changes; ends each page
    event: reset    data: code and reason of a pull's 410; the stream ends

A client that keeps the last id, of whichever event, goes on from there. What was written into the stream may not have arrived, so
all its pages count as answers to the one request that opened it: only the next request proves what came.
Source: HTML Living Standard, "Server-sent events".
"""

from __future__ import annotations

import asyncio

import orjson
from aiohttp import web
from msgspec.structs import replace

from api.auth import authenticate
from api.head_watch import HEADS
from api.heads import LAG
from api.keys import REQUEST_ID, SETTINGS
from api.pull import scope_again, wait_for_news
from api.pull_page import FoundPage, encode_changes, find_page, note_given, page_fields
from api.pull_request import PullRequest, parse_pull
from api.requests import malformed, read_device_id
from api.scope import Scope, scope_of
from schema.errors import SyncError

KEEP_ALIVE_SECONDS = 15.0
_HEADERS = {"Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no"}
_KEEP_ALIVE = b": still here\n\n"


async def handle_stream(request: web.Request) -> web.StreamResponse:
    """Send pages as they come, until the client goes away, may read less or more than before, or the worker stops.

    Raises SyncError before the first byte: 400, 401, 403, 410 `reset_required`, 429 for more streams than a device may hold, 503.
    """
    identity = await authenticate(request)
    pull = _parse(request, identity.device_id)
    scope = await scope_of(request, identity, pull.company_id, pull.device_id)
    with request.app[HEADS].held(scope.company_id, pull.device_id) as may_wait:
        if not may_wait:
            raise SyncError(429, "too_many_requests", "this device holds a stream already", headers={"Retry-After": "1"})
        found = await find_page(request.app, scope, pull)
        response = web.StreamResponse(headers={**_HEADERS, "X-Request-Id": request[REQUEST_ID]})
        await response.prepare(request)
        try:
            await _send_pages(request, response, scope, pull, found)
        except SyncError as problem:
            await response.write(_event(b"reset" if problem.status == 410 else b"end", None, orjson.dumps(_told(problem))))
        except ConnectionError:
            return response
        await response.write_eof()
    return response


async def _send_pages(
    request: web.Request, response: web.StreamResponse, scope: Scope, pull: PullRequest, found: FoundPage
) -> None:
    begun_at = found.after
    while True:
        await _send(request, response, scope, pull, found)
        is_new = found.page.has_more or await _news(request, response, scope, pull, found)
        now = await scope_again(request, pull.company_id, pull.device_id)
        if not is_new or now != scope:
            return
        found = replace(await find_page(request.app, scope, pull, start=found.cursor(pull.last_version)), after=begun_at)


async def _news(request: web.Request, response: web.StreamResponse, scope: Scope, pull: PullRequest, found: FoundPage) -> bool:
    """Wait for something new; False where the stream is to end."""
    loop = asyncio.get_running_loop()
    quiet_since = loop.time()
    while True:
        is_new = await wait_for_news(request, scope, found.head.version, loop.time() + KEEP_ALIVE_SECONDS)
        if is_new is None:
            return False
        if is_new or await scope_again(request, pull.company_id, pull.device_id) != scope:
            return True
        if loop.time() - quiet_since >= KEEP_ALIVE_SECONDS:
            quiet_since = loop.time()
            await response.write(_KEEP_ALIVE)


async def _send(request: web.Request, response: web.StreamResponse, scope: Scope, pull: PullRequest, found: FoundPage) -> None:
    """Write one page, which counts as given before it leaves."""
    lag_ms = await request.app[LAG].read_ms()
    await note_given(request.app, scope, pull, found)
    cursor = found.cursor(pull.last_version)
    events = [_event(b"change", version, change) for version, change in encode_changes(scope, pull, found)]
    events.append(_event(b"page", cursor, b'{"current_version":%d,%b' % (cursor, page_fields(scope, found, lag_ms)[1:])))
    await response.write(b"".join(events))


def _event(name: bytes, number: int | None, data: bytes) -> bytes:
    """One event; JSON as we write it has no line breaks."""
    identified = b"id: %d\n" % number if number is not None else b""
    return b"event: %b\n%bdata: %b\n\n" % (name, identified, data)


def _told(problem: SyncError) -> dict[str, str]:
    reason = {"reason": str(problem.details["reason"])} if "reason" in problem.details else {}
    return {"code": problem.code, "message": problem.message, **reason}


def _parse(request: web.Request, device_id: str | None) -> PullRequest:
    query = request.query
    body = {
        "device_id": read_device_id(query.get("device_id")) or device_id,
        "company_id": _number(query.get("company_id"), "company_id"),
        "last_version": _number(request.headers.get("Last-Event-ID") or query.get("last_version") or "0", "last_version"),
        "tables": [name for name in query.get("tables", "").split(",") if name],
        "limit": _number(query.get("limit"), "limit"),
        "no_echo": query.get("no_echo") == "1",
    }
    return parse_pull(body, request.app[SETTINGS])


def _number(text: str | None, name: str) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 16):
        raise malformed(f"{name} must be a whole number")
    return int(text)
