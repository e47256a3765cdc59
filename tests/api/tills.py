"""Companies with devices for the tests of sync, and an application that a whole file of tests shares."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestServer

from api.app import create_app
from tests.api.conftest import Api, Person
from tests.device import Line
from tests.servers import Database
from tests.sql_client import SqlClient

PATIENT_MS = 15_000
"""How long a push may wait for the tailer on a busy machine."""
_numbers = itertools.count(1)


@asynccontextmanager
async def open_api(database: Database, **changed: Any) -> AsyncIterator[Api]:
    """The application in this process on a real port, with settings changed by keywords."""
    app = create_app(dataclasses.replace(database.settings, **{"push_wait_ms_max": PATIENT_MS, **changed}))
    server = TestServer(app)
    await server.start_server(access_log=None)
    try:
        async with aiohttp.ClientSession() as http:
            yield Api(app, database.settings, Person(http, str(server.make_url("")).rstrip("/")))
    finally:
        await server.close()


def till(person: Person, device_id: str | None = None, *, company_id: int | None = None) -> Line:
    """A device of this person."""
    return Line(person.http, person.url, person.token, device_id or f"till-{next(_numbers)}", company_id)


async def shop(api: Api, count: int = 2) -> tuple[Person, list[Line]]:
    """A new company's owner and some devices."""
    owner = await api.register()
    return owner, [till(owner) for _ in range(count)]


async def drained(line: Line) -> int:
    """The cursor of a device that has pulled everything."""
    return (await line.pull_all())[1]


def newest(changes: list[dict[str, Any]]) -> dict[tuple[str, int], dict[str, Any]]:
    """A feed as the state it leaves, by table and id."""
    return {(change["table"], change["record_id"]): change for change in changes}


async def until_a_lock_is_waited_for(admin: SqlClient) -> None:
    """Return once a transaction waits for the lock of another."""
    for _ in range(500):
        if admin.rows("SELECT 1 FROM performance_schema.data_lock_waits"):
            return
        await asyncio.sleep(0.02)
    pytest.fail("the push waits for nobody")
