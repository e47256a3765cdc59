"""The one middleware around every request: its id, its errors as JSON, compression, the access log and the metrics.

Never a stack trace and never SQL in an answer: what nobody expected is `internal` with the request's id, its stack is in the log.
"""

from __future__ import annotations

import re
import secrets
import time
from typing import Any

from aiohttp import web

from api.answers import compress, json_answer
from api.db_errors import DataRefused, DeadlockFound, DuplicateKey, ForeignKeyFailed, LockWaitTimeout, busy
from api.keys import METRICS, REQUEST_ID, SETTINGS, Handler
from api.requests import too_large
from schema.errors import SyncError
from schema.logs import get_logger

log = get_logger(__name__)
REQUEST_ID_CHARACTERS_MAX = 128
_NOT_IN_A_REQUEST_ID = re.compile(r"[^A-Za-z0-9._:/+=@-]")
_TOP_LEVEL_DETAILS = ("reason", "wipe")
_HTTP_CODES = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    411: "length_required",
    415: "unsupported_media_type",
    417: "expectation_failed",
}


@web.middleware
async def frame(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request its id, turn every error into the contract's JSON, and note what happened."""
    started = time.monotonic()
    request[REQUEST_ID] = choose_request_id(request.headers.get("X-Request-Id"))
    try:
        response = await handler(request)
    except SyncError as error:
        response = error_answer(error)
    except web.HTTPException as error:
        response = _http_answer(request, error)
    except Exception as error:
        response = error_answer(_told(request, error))
    if not response.prepared:
        response.headers["X-Request-Id"] = request[REQUEST_ID]
        await compress(request, response)
    _note(request, response, time.monotonic() - started)
    return response


def choose_request_id(sent: str | None) -> str:
    """Return the client's id without what does not belong into a log line, or one of ours."""
    cleaned = _NOT_IN_A_REQUEST_ID.sub("", sent or "")[:REQUEST_ID_CHARACTERS_MAX]
    return cleaned or secrets.token_hex(8)


def error_answer(error: SyncError) -> web.Response:
    """Return `{success: false, code, message, details?}`; `reason` and `wipe` stand beside them, as the contract shows."""
    body: dict[str, Any] = {"success": False, "code": error.code, "message": error.message}
    details = dict(error.details)
    for name in _TOP_LEVEL_DETAILS:
        if name in details:
            body[name] = details.pop(name)
    if details:
        body["details"] = details
    return json_answer(body, status=error.status, headers=error.headers)


def _told(request: web.Request, error: Exception) -> SyncError:
    """Return what a client hears of an error that no handler turned into an answer."""
    match error:
        case DeadlockFound() | LockWaitTimeout():
            return busy()
        case DuplicateKey():
            return SyncError(409, "duplicate_key", "another record has this value already")
        case ForeignKeyFailed():
            return SyncError(409, "referenced", "another record refers to this one, or is missing")
        case DataRefused():
            return SyncError(422, "bad_value", "a value cannot be stored as it is")
    log.error("request_failed", exc_info=True, request_id=request[REQUEST_ID], route=route_of(request))
    return SyncError(500, "internal", "something went wrong here; the request's id finds it in the log")


def _http_answer(request: web.Request, error: web.HTTPException) -> web.Response:
    """aiohttp's own refusals as ours. Redirects do not exist here."""
    if error.status == 413:
        return error_answer(too_large(request.app[SETTINGS].body_bytes_max))
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    return error_answer(SyncError(error.status, _HTTP_CODES.get(error.status, "http_error"), error.reason, headers=headers))


def route_of(request: web.Request) -> str:
    """Return the route's template; never the path, which is a client's text."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "none"


def _note(request: web.Request, response: web.StreamResponse, seconds: float) -> None:
    route = route_of(request)
    request.app[METRICS].observe(request.method if route != "none" else "any", route, response.status, seconds)
    log.info(
        "request",
        request_id=request[REQUEST_ID],
        method=request.method,
        route=route,
        status=response.status,
        milliseconds=round(seconds * 1000, 1),
    )
