"""JSON answers, compressed when that was asked for and is worth it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Any

import orjson
import zstandard
from aiohttp import web
from isal import isal_zlib

COMPRESS_BYTES_MIN = 1024
INLINE_BYTES_MAX = 128 * 1024
_GZIP_WINDOW_BITS = 31
_NOT_WANTED = re.compile(r";\s*q=0(?:\.0*)?\s*$")


def json_answer(body: Mapping[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return an answer of ours: compact JSON."""
    return web.Response(body=orjson.dumps(body), status=status, headers=headers, content_type="application/json")


async def compress(request: web.Request, response: web.StreamResponse) -> None:
    """Compress a plain body above 1 KB with what the client accepts; a large one outside the event loop.

    An answer that names its coding already is left as it is.
    """
    if not isinstance(response, web.Response) or "Content-Encoding" in response.headers or response.prepared:
        return
    body = response.body
    if not isinstance(body, bytes) or len(body) < COMPRESS_BYTES_MIN:
        return
    response.headers["Vary"] = "Accept-Encoding"
    coding = choose_coding(request.headers.get("Accept-Encoding", ""))
    if coding is None:
        return
    work = CODINGS[coding]
    response.body = work(body) if len(body) <= INLINE_BYTES_MAX else await asyncio.to_thread(work, body)
    response.headers["Content-Encoding"] = coding


def choose_coding(accepted: str) -> str | None:
    """Return `zstd` or `gzip`, whichever the header names, zstd first; None where it names neither."""
    if not accepted:
        return None
    names = {part.split(";")[0].strip().lower() for part in accepted.split(",") if not _NOT_WANTED.search(part)}
    return next((coding for coding in CODINGS if coding in names), None)


def _zstd(body: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=1).compress(body)


def _gzip(body: bytes) -> bytes:
    return bytes(isal_zlib.compress(body, level=1, wbits=_GZIP_WINDOW_BITS))


CODINGS: Mapping[str, Callable[[bytes], bytes]] = {"zstd": _zstd, "gzip": _gzip}
