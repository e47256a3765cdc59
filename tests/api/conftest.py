"""The application in this process on a real port, against the session's MySQL and Redis. One database a file of tests."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from api.app import create_app
from schema.settings import Settings
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

PASSWORD = "correct horse battery"
_numbers = itertools.count(1)


@dataclass
class Reply:
    """One answer: its status, headers and JSON."""

    status: int
    headers: Any
    body: dict[str, Any]

    @property
    def code(self) -> str:
        return str(self.body.get("code"))


@dataclass
class Person:
    """Somebody who is signed in: asks with a token, or without one where it is empty."""

    http: aiohttp.ClientSession
    url: str
    token: str = ""
    refresh_token: str = ""
    email: str = ""
    user: dict[str, Any] = field(default_factory=dict)

    @property
    def company_id(self) -> int:
        return int(self.user["companies"][0]["id"])

    @property
    def login_id(self) -> int:
        return int(self.user["id"])

    async def ask(self, method: str, path: str, json: Any = None, *, headers: dict[str, str] | None = None, **more: Any) -> Reply:
        sent = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        if json is not None:
            more["json"] = json
        async with self.http.request(method, self.url + path, headers={**sent, **(headers or {})}, **more) as response:
            raw = await response.read()
            is_json = response.content_type == "application/json"
            return Reply(response.status, response.headers, await response.json() if raw and is_json else {"raw": raw})

    async def get(self, path: str, **more: Any) -> Reply:
        return await self.ask("GET", path, **more)

    async def post(self, path: str, json: Any = None, **more: Any) -> Reply:
        return await self.ask("POST", path, json, **more)

    async def patch(self, path: str, json: Any, **more: Any) -> Reply:
        return await self.ask("PATCH", path, json, **more)

    async def delete(self, path: str, **more: Any) -> Reply:
        return await self.ask("DELETE", path, **more)

    def with_token(self, token: str) -> Person:
        return dataclasses.replace(self, token=token)


@dataclass
class Api:
    """A running application and ways in."""

    app: web.Application
    settings: Settings
    nobody: Person

    async def register(self, **more: Any) -> Person:
        """A new person with a company of their own."""
        email = f"person{next(_numbers)}@example.com"
        body = {"name": "A Person", "email": email, "password": PASSWORD, **more}
        return self.signed_in(email, await self.nobody.post("/api/auth/register", body))

    async def login(self, email: str, **more: Any) -> Person:
        return self.signed_in(email, await self.nobody.post("/api/auth/login", {"email": email, "password": PASSWORD, **more}))

    def signed_in(self, email: str, reply: Reply) -> Person:
        assert reply.status in (200, 201), reply.body
        body = reply.body
        return dataclasses.replace(
            self.nobody, token=body["token"], refresh_token=body["refresh_token"], email=email, user=body["user"]
        )


StartApi = Callable[..., Awaitable[Api]]


@pytest.fixture(scope="module")
def shared(stack: Stack) -> Iterator[Database]:
    """A database that the tests of one file share: each registers companies of its own."""
    with stack.database() as database:
        yield database


@pytest.fixture
def admin(shared: Database) -> Iterator[SqlClient]:
    """An administrator's SQL client on the shared database."""
    with SqlClient(shared.settings) as client:
        yield client


@pytest.fixture
async def start_api(shared: Database) -> AsyncIterator[StartApi]:
    """Starts the application with settings changed by keywords, and stops it at the end."""
    async with AsyncExitStack() as undo:

        async def start(**changed: Any) -> Api:
            settings = dataclasses.replace(shared.settings, **{"push_wait_ms_max": 0, **changed})
            app = create_app(settings)
            server = TestServer(app)
            await server.start_server(access_log=None)
            undo.push_async_callback(server.close)
            http = await undo.enter_async_context(aiohttp.ClientSession())
            return Api(app, settings, Person(http, str(server.make_url("")).rstrip("/")))

        yield start


@pytest.fixture
async def api(start_api: StartApi) -> Api:
    """The application as it is configured by default."""
    return await start_api()
