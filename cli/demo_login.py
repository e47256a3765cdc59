"""The demo login of `matrix-sync up`, made through the public API as any client would."""

from __future__ import annotations

import http.client
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from cli.home import Home
from schema.errors import StartError

_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class DemoLogin:
    """A registered login and its company."""

    email: str
    password: str
    company_id: int


def ready_status(api_url: str) -> int | None:
    """What `GET /api/ready` answers: 200, or 503 while something is missing; None while nobody answers."""
    try:
        return _request(api_url, "GET", "/api/ready")[0]
    except (OSError, http.client.HTTPException):
        return None


def ensure_demo_login(home: Home, api_url: str) -> DemoLogin:
    """Sign in with the login kept in `home`, or register it and keep it. Raises StartError if the API refuses both."""
    kept = home.demo()
    status, answer = _request(api_url, "POST", "/api/auth/login", kept)
    if status != 200:
        status, answer = _register(api_url, kept)
    if status not in (200, 201):  # somebody's already, on a MySQL that several homes use
        kept["email"] = f"demo-{secrets.token_hex(3)}@example.com"
        status, answer = _register(api_url, kept)
    if status not in (200, 201):
        message = f"the API does not take the demo login: {status} {answer.get('code', '')}"
        raise StartError("no_demo_login", message, hint=f"see {home.logs / 'serve.log'}")
    home.keep_demo(kept)
    return DemoLogin(kept["email"], kept["password"], int(answer["user"]["companies"][0]["id"]))


def _register(api_url: str, demo: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
    return _request(api_url, "POST", "/api/auth/register", {"name": "Demo", "company_name": "Demo Company", **demo})


def _request(api_url: str, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection(urlsplit(api_url).netloc, timeout=_TIMEOUT_S)
    try:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        response = connection.getresponse()
        content = response.read()
        is_json = response.headers.get_content_type() == "application/json"
        return response.status, json.loads(content) if is_json else {}
    finally:
        connection.close()
