"""The public HTTP API as a good client uses it: one kept connection, patience where the server asks for it, retries of what broke.

A request may arrive twice when an answer was lost on the way. That is what the contract is for: a push has its effect once.
"""

from __future__ import annotations

import http.client
import json
import time
from typing import Any
from urllib.parse import urlsplit

from schema.errors import MatrixError

TIMEOUT_S = 30
ATTEMPTS_MAX = 8
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
ASKED_TO_WAIT = (429, 503)


class Refused(MatrixError):
    """The API refused a request, or did not answer in all attempts. `details` holds the status, where there is one."""


class ApiClient:
    """Not for several threads: a till has one of its own. `waits` counts answers that asked to come again later."""

    def __init__(self, api_url: str) -> None:
        self._netloc = urlsplit(api_url).netloc
        self._connection: http.client.HTTPConnection | None = None
        self.token = ""
        self.waits = 0

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return the JSON of a good answer. Raises Refused."""
        problem = ""
        for attempt in range(ATTEMPTS_MAX):
            pause = min(FIRST_PAUSE_S * 2**attempt, LONGEST_PAUSE_S)
            try:
                status, answer, retry_after = self._ask(path, body)
            except (OSError, http.client.HTTPException) as broken:
                self.close()
                problem = f"no answer: {broken!r}"
            else:
                if status in (200, 201):
                    return answer
                problem = f"{status} {answer.get('code', '')}: {answer.get('message', '')}"
                if status not in ASKED_TO_WAIT:
                    raise Refused("demo_refused", f"POST {path}: {problem}", details={"status": status})
                self.waits += 1
                pause = max(pause, retry_after)
            time.sleep(pause)
        raise Refused("demo_unanswered", f"POST {path} failed {ATTEMPTS_MAX} times: {problem}", hint="see the logs of the server")

    def _ask(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any], float]:
        """Return status, JSON and Retry-After in seconds."""
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self._netloc, timeout=TIMEOUT_S)
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        self._connection.request("POST", path, json.dumps(body, ensure_ascii=False).encode(), headers)
        response = self._connection.getresponse()
        content = response.read()
        is_json = response.headers.get_content_type() == "application/json"
        retry_after = response.headers.get("Retry-After", "")
        return response.status, json.loads(content) if is_json else {}, float(retry_after) if retry_after.isdecimal() else 0.0
