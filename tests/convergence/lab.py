"""The servers that all runs share: one database, one tailer as a child, and two workers of the API in this process.

The patient worker waits for the tailer after a push, as in production. The hasty one does not wait, so that its answers say
`pending`, and has small pages, so that naive devices come away with a part.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from threading import Lock

from api.scope import SCOPES
from cli.embedded import RedisServer
from cli.embedded.process import Child
from schema.settings import Settings
from tests.api.conftest import Api, Person
from tests.api.tills import open_api
from tests.convergence.people import Staff, hire
from tests.device import Line
from tests.oracle import Oracle
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

FAST = {"user_requests_per_second": 1_000_000, "device_requests_per_second": 1_000_000, "signin_attempts_per_minute": 1_000_000}
WAIT_SECONDS = 60
SMALL_PAGES = {"push_wait_ms_max": 0, "page_changes_default": 5, "page_changes_max": 8}


@dataclass
class Lab:
    """What runs share. Runs may go on side by side, each with a Desk of its own."""

    settings: Settings
    tailer: Child
    patient: Api
    hasty: Api
    redis: RedisServer | None
    pauses: int = 0
    redis_stops: int = 0
    checked_version: int = 1
    checking: Lock = field(default_factory=Lock)

    @contextmanager
    def desk(self) -> Iterator[Desk]:
        """Connections and people for runs that come one after the other."""
        with SqlClient(self.settings) as sql, SqlClient(self.settings) as admin:
            yield Desk(self, sql, admin, Oracle(admin))

    def pause(self) -> None:
        """Stop the tailer until every pause was taken back."""
        self.pauses += 1
        self.tailer.pause()

    def resume(self) -> None:
        """Take back one pause."""
        self.pauses -= 1
        if self.pauses == 0:
            self.tailer.resume()

    def kill(self) -> None:
        """kill -9, and start again."""
        self.tailer.kill()
        self.tailer.start()

    def stop_redis(self) -> None:
        """Until every stop was taken back. Does nothing where Redis is not ours."""
        self.redis_stops += 1
        if self.redis is not None and self.redis_stops == 1:
            self.redis.stop()

    def start_redis(self) -> None:
        """Take back one stop."""
        self.redis_stops -= 1
        if self.redis is not None and self.redis_stops == 0:
            self.redis.start()

    def forget_roles(self) -> None:
        """Roles and capabilities were changed by plain SQL: let the two seconds pass that a worker may keep them."""
        for worker in (self.patient, self.hasty):
            worker.app[SCOPES].forget()

    def worker(self, *, is_hasty: bool) -> Person:
        """Nobody in particular, at one of the workers."""
        return (self.hasty if is_hasty else self.patient).nobody

    def at(self, line: Line, *, is_hasty: bool) -> Line:
        """The same device at one of the workers."""
        nobody = self.worker(is_hasty=is_hasty)
        return replace(line, http=nobody.http, url=nobody.url)


@dataclass
class Desk:
    """`sql` is a plain writer, `admin` reads for the checks."""

    lab: Lab
    sql: SqlClient
    admin: SqlClient
    oracle: Oracle

    def hire(self, clerk_role: str) -> Staff:
        """Two new companies and their people."""
        return hire(self.admin, self.lab.patient.nobody, self.lab.settings.jwt_secret, clerk_role)

    async def wait_for_tailer(self) -> None:
        """Wait until all that was committed is in the change log."""
        await asyncio.to_thread(self.admin.wait_for_tailer, WAIT_SECONDS)


@asynccontextmanager
async def open_lab(stack: Stack, database: Database) -> AsyncIterator[Lab]:
    """The servers on a migrated database, stopped at the end."""
    async with AsyncExitStack() as undo:
        tailer = stack.spawn("tail", "--standby", environ=database.environ)
        undo.callback(tailer.stop)
        patient = await undo.enter_async_context(open_api(database, **{**FAST, "push_wait_ms_max": WAIT_SECONDS * 1000}))
        hasty = await undo.enter_async_context(open_api(database, **FAST, **SMALL_PAGES))
        yield Lab(database.settings, tailer, patient, hasty, stack.redis)
