"""The public HTTP API for many devices in one event loop. A request that fails ends its sync; the next one repeats it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import orjson

from cli.demo.client import ASKED_TO_WAIT, ATTEMPTS_MAX, FIRST_PAUSE_S, LONGEST_PAUSE_S, TIMEOUT_S, Refused
from cli.demo.device import Answer
from cli.simulation.figures import Figures

Session = aiohttp.ClientSession


def open_session() -> Session:
    """Connections of all devices, as many as they open."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=TIMEOUT_S), auto_decompress=True
    )


class AsyncClient:
    """One device's. It comes again where it is asked to wait, which is counted and is not part of a request's time.

    `read` makes an answer of its JSON.
    """

    def __init__(self, session: Session, api_url: str, figures: Figures, read: Callable[[bytes], Answer] = orjson.loads) -> None:
        self._session = session
        self._api_url = api_url
        self._figures = figures
        self._read = read
        self.token = ""

    async def post(self, path: str, body: dict[str, Any], *, what: str = "") -> Answer:
        """Return the JSON of a good answer; `what` names the times it is counted with. Raises Refused."""
        for attempt in range(ATTEMPTS_MAX):
            started = time.monotonic()
            status, answer, retry_after = await self._ask(path, body)
            if status in (200, 201):
                if what:
                    self._figures.took(what, time.monotonic() - started)
                return answer
            if status not in ASKED_TO_WAIT:
                problem = f"POST {path}: {status} {answer.get('code', '')}: {answer.get('message', '')}"
                raise Refused("simulate_refused", problem, details={"status": status})
            self._figures.asked_to_wait += 1
            await asyncio.sleep(max(retry_after, min(FIRST_PAUSE_S * 2**attempt, LONGEST_PAUSE_S)))
        raise Refused("simulate_unanswered", f"POST {path}: asked to wait {ATTEMPTS_MAX} times", details={"status": status})

    async def _ask(self, path: str, body: dict[str, Any]) -> tuple[int, Answer, float]:
        """Return status, JSON and Retry-After in seconds. Raises Refused where no answer comes."""
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        try:
            async with self._session.post(self._api_url + path, data=orjson.dumps(body), headers=headers) as response:
                content = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as broken:
            raise Refused(
                "simulate_unanswered", f"POST {path}: no answer: {broken!r}", hint="see the logs of the server"
            ) from broken
        is_json = response.content_type == "application/json"
        retry_after = response.headers.get("Retry-After", "")
        return response.status, self._read(content) if is_json else {}, float(retry_after) if retry_after.isdecimal() else 0.0
