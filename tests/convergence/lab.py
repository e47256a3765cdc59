"""The servers that all runs share: one database, one tailer as a child, and two workers of the API in this process.

The patient worker waits for the tailer after a push, as in production. The hasty one does not wait, so that its answers say
`pending`, and has small pages, so that naive devices come away with a part.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from threading import Lock

from cli.embedded.process import Child
from schema.settings import Settings
from tests.api.conftest import Api, Person
from tests.api.tills import open_api
from tests.device import Line
from tests.oracle import Oracle
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

FAST = {"user_requests_per_second": 1_000_000, "device_requests_per_second": 1_000_000, "signin_attempts_per_minute": 1_000_000}
WAIT_SECONDS = 60
SMALL_PAGES = {"push_wait_ms_max": 0, "page_changes_default": 5, "page_changes_max": 8}
RUNS_PER_PERSON = 20
_numbers = itertools.count(1)


@dataclass
class Lab:
    """What runs share. Runs may go on side by side, each with a Desk of its own."""

    settings: Settings
    tailer: Child
    patient: Api
    hasty: Api
    pauses: int = 0
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

    def at(self, line: Line, *, is_hasty: bool) -> Line:
        """The same device at one of the workers."""
        nobody = (self.hasty if is_hasty else self.patient).nobody
        return replace(line, http=nobody.http, url=nobody.url)


@dataclass
class Desk:
    """`sql` is a plain writer, `admin` reads for the checks.

    `people`: one works in the first company, one in the second, one in both. They are renewed now and then, since each of their
    companies makes finding their memberships slower.
    """

    lab: Lab
    sql: SqlClient
    admin: SqlClient
    oracle: Oracle
    people: tuple[Person, ...] = ()
    runs_left: int = 0

    async def open_companies(self) -> list[int]:
        """Two new companies with `people` in them."""
        if self.runs_left == 0:
            self.people = tuple([await self.lab.patient.register() for _ in range(3)])
            self.runs_left = RUNS_PER_PERSON
        self.runs_left -= 1
        companies = [self.admin.company(f"Company {next(_numbers)}") for _ in range(2)]
        one, two, both = (person.login_id for person in self.people)
        rows = [(companies[0], one), (companies[1], two), (companies[0], both), (companies[1], both)]
        values = ", ".join(f"({company}, {login}, 'A Person', 'owner')" for company, login in rows)
        self.admin.run(f"INSERT INTO users (company_id, login_id, full_name, role) VALUES {values}")
        return companies

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
        yield Lab(database.settings, tailer, patient, hasty)
