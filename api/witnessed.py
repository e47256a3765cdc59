"""What a worker takes over at its start from the witnesses outside MySQL: the newest head that anybody was shown.

So a server that was restored while nothing ran accepts no push before the tailer, too, has seen it and begun the new epoch.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from aiohttp import web

from api.db import Database
from api.keys import CACHE, DATABASE, SETTINGS
from schema.errors import MatrixError
from schema.versions import pack
from schema.witness import decode, latest, read_file

AGAIN_SECONDS = 0.2
FIRST_SECONDS_MAX = 2.0
_READ_LOG_ID = "SELECT CAST(started_at AS CHAR) FROM sync_epochs WHERE epoch = 0"


async def remember_witnessed_head(app: web.Application) -> AsyncIterator[None]:
    """Ask before the first request is served where MySQL answers, else as soon as it does."""
    asking = asyncio.create_task(_ask(app))
    await asyncio.wait([asking], timeout=FIRST_SECONDS_MAX)
    yield
    asking.cancel()
    with suppress(asyncio.CancelledError):
        await asking


async def _ask(app: web.Application) -> None:
    name = app[SETTINGS].api().database
    while True:
        log_id = await _read_log_id(app[DATABASE])
        if log_id is not None:
            break
        await asyncio.sleep(AGAIN_SECONDS)
    stored = await app[CACHE].get("witness")
    shared = decode(stored) if stored is not None else None
    found = [w for w in (read_file(app[SETTINGS], name), shared) if w is not None and w.log_id == log_id]
    witness = latest(found)
    if witness is not None:
        app[DATABASE].seen.remember(max(witness.head, pack(witness.epoch, 0)))


async def _read_log_id(database: Database) -> str | None:
    try:
        async with database.read() as session:
            row = await session.fetch_one(_READ_LOG_ID)
    except MatrixError:
        return None
    return str(row[0]) if row is not None else None
