"""What a handler gets from a request: a JSON object that is bounded in size and depth, or texts of a query that are checked."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from aiohttp import web
from aiohttp.http_exceptions import ContentEncodingError, HttpProcessingError

from api.keys import REQUEST_ID, SETTINGS
from schema.columns import ID_MAX
from schema.errors import SyncError

BODY_SECONDS_MAX = 30
DEVICE_ID_BYTES_MAX = 128
_CONTENT_TYPES = frozenset({"application/json", "application/octet-stream"})  # aiohttp gives the second for a missing header
_ENCODINGS = frozenset({"", "identity", "gzip", "x-gzip", "deflate"})
_CHARSETS = frozenset({None, "utf-8", "utf8", "us-ascii"})


def malformed(message: str) -> SyncError:
    """Return the 400 of a body or query that is not what the contract says."""
    return SyncError(400, "malformed", message)


def request_id(request: web.Request) -> str:
    """Return the id that the answer, the log and the origin carry."""
    return request[REQUEST_ID]


async def read_json_object(request: web.Request) -> dict[str, Any]:
    """Return the body as a JSON object; an absent body is an empty one.

    Raises SyncError: 415 for another content type or coding, 413 above `body_bytes_max` before or after decompression,
    400 `bad_json` or `malformed` (not an object, nested too deep), 408 for a body that does not arrive.
    """
    settings = request.app[SETTINGS]
    _check_headers(request, settings.body_bytes_max)
    body = await _read_body(request)
    if not body:
        return {}
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as problem:
        if "depth limit" in str(problem) or "ecursion" in str(problem):
            raise malformed("the body is nested too deep") from None
        raise SyncError(400, "bad_json", f"the body is not JSON in UTF-8: {problem.msg}") from None
    if not isinstance(value, dict):
        raise malformed("the body is not a JSON object")
    if not is_within_depth(value, settings.push_groups_nesting_max):
        raise malformed("the body is nested too deep")
    return value


def is_within_depth(value: Any, depth_max: int) -> bool:
    """Tell whether containers stand at most `depth_max` inside one another."""
    level = [value]
    for _ in range(depth_max):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return True
    return False


def read_device_id(value: Any) -> str | None:
    """Return a body's `device_id`, None where it is absent. Raises SyncError 400: empty, too long, or not text."""
    if value is None:
        return None
    if not isinstance(value, str) or not 1 <= len(value.encode()) <= DEVICE_ID_BYTES_MAX:
        raise malformed("device_id must be text of 1 to 128 bytes")
    return value


def read_company_id(value: Any) -> int | None:
    """Return a `company_id` of a body (a number) or a query (digits), None where it is absent. Raises SyncError 400."""
    if value is None:
        return None
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 16:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= ID_MAX:
        raise malformed("company_id must be a whole number above 0")
    return value


def _check_headers(request: web.Request, body_bytes_max: int) -> None:
    if request.content_type not in _CONTENT_TYPES or request.charset not in _CHARSETS:
        raise SyncError(415, "unsupported_media_type", "send application/json in UTF-8")
    if request.headers.get("Content-Encoding", "").strip().lower() not in _ENCODINGS:
        raise SyncError(415, "unsupported_encoding", "send the body plain or as gzip")
    if (request.content_length or 0) > body_bytes_max:
        raise too_large(body_bytes_max)


def too_large(body_bytes_max: int) -> SyncError:
    """Return the 413."""
    return SyncError(413, "too_large", f"the body is larger than {body_bytes_max} bytes")


async def _read_body(request: web.Request) -> bytes:
    try:
        if request.content.is_eof():
            return await request.read()
        async with asyncio.timeout(BODY_SECONDS_MAX):
            return await request.read()
    except TimeoutError:
        raise SyncError(408, "body_timeout", "the body did not arrive in time") from None
    except (ContentEncodingError, HttpProcessingError, web.RequestPayloadError):
        raise SyncError(400, "bad_body", "the body cannot be read as its headers say") from None
