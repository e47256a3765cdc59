"""A device that waits: it holds a pull for one table, and sees how long ago each beat of the desk was committed."""

from __future__ import annotations

import asyncio
import time

from cli.demo.client import Refused
from cli.demo.office import CLOSED
from cli.simulation.client import AsyncClient
from cli.simulation.desk import BEAT, Desk
from cli.simulation.figures import Figures

_WAIT_S = 20
_AGAIN_S = 1.0


async def watch_beats(client: AsyncClient, device_id: str, desk: Desk, figures: Figures) -> None:
    """Until the books are closed. A refused pull is counted, and asked again."""
    cursor, seen = 0, 0
    is_closed = False
    while not is_closed:
        body = {"device_id": device_id, "last_version": cursor, "tables": ["settings"], "wait": _WAIT_S}
        try:
            page = await client.post("/api/sync/pull", body)
        except Refused as problem:
            figures.failures[f"{problem.code} while waiting"] += 1
            await asyncio.sleep(_AGAIN_S)
            continue
        now = time.monotonic()
        cursor = page["current_version"]
        for change in page["changes"]:
            is_closed |= change["data"]["name"] == CLOSED
            if change["data"]["name"] == BEAT:
                number = int(change["data"]["value"])
                for beat in desk.beats[seen:number]:  # of several at once the newest is told, and the others are as old as that
                    figures.lagged(max(0.0, now - beat))
                seen = max(seen, number)
