"""The servers that all runs share: one database, one tailer as a child, and two workers of the API in this process.

The patient worker waits for the tailer after a push, as in production. The hasty one does not wait, so that its answers say
`pending`, and has small pages, so that naive devices come away with a part.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace

from cli.embedded.process import Child
from tests.api.conftest import Api, Person
from tests.api.tills import PATIENT_MS, open_api
from tests.device import Line
from tests.oracle import Oracle
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

FAST = {"user_requests_per_second": 1_000_000, "device_requests_per_second": 1_000_000, "signin_attempts_per_minute": 1_000_000}
SMALL_PAGES = {"push_wait_ms_max": 0, "page_changes_default": 5, "page_changes_max": 8}
RUNS_PER_PERSON = 20
_numbers = itertools.count(1)


@dataclass
class Staff:
    """Three people: one in each company, one in both. Renewed now and then, since each of their companies makes sign-in slower."""

    people: tuple[Person, Person, Person]
    runs_left: int = RUNS_PER_PERSON


@dataclass
class Lab:
    """Servers, and who may ask them. `sql` is a plain writer, `admin` reads for the checks."""

    tailer: Child
    patient: Api
    hasty: Api
    sql: SqlClient
    admin: SqlClient
    oracle: Oracle
    checked_version: int = 1
    staff: Staff | None = field(default=None)

    async def open_companies(self) -> tuple[list[int], tuple[Person, Person, Person]]:
        """Two new companies and the people who work there: [first's, second's, both's]."""
        if self.staff is None or self.staff.runs_left == 0:
            one, two, both = [await self.patient.register() for _ in range(3)]
            self.staff = Staff((one, two, both))
        self.staff.runs_left -= 1
        companies = [self.admin.company(f"Company {next(_numbers)}") for _ in range(2)]
        for company, person in zip((*companies, *companies), (*self.staff.people[:2], *[self.staff.people[2]] * 2), strict=True):
            self.admin.run(
                f"INSERT INTO users (company_id, login_id, full_name, role) VALUES ({company}, {person.login_id}, 'P', 'owner')"
            )
        return companies, self.staff.people

    def line(self, person: Person, device_id: str, company_id: int) -> Line:
        """One device's way to the patient worker."""
        return Line(person.http, person.url, person.token, device_id, company_id)

    def at(self, line: Line, *, is_hasty: bool) -> Line:
        """The same to one of the workers."""
        nobody = (self.hasty if is_hasty else self.patient).nobody
        return replace(line, http=nobody.http, url=nobody.url)

    async def wait_for_tailer(self) -> int:
        """Wait until all that was committed is in the change log; returns the head."""
        return await asyncio.to_thread(self.admin.wait_for_tailer, 60)


@asynccontextmanager
async def open_lab(stack: Stack, database: Database) -> AsyncIterator[Lab]:
    """The servers on a migrated database, stopped at the end."""
    async with AsyncExitStack() as undo:
        tailer = stack.spawn("tail", environ=database.environ)
        undo.callback(tailer.stop)
        patient = await undo.enter_async_context(open_api(database, **{**FAST, "push_wait_ms_max": PATIENT_MS}))
        hasty = await undo.enter_async_context(open_api(database, **FAST, **SMALL_PAGES))
        sql, admin = (undo.enter_context(SqlClient(database.settings)) for _ in range(2))
        lab = Lab(tailer, patient, hasty, sql, admin, Oracle(admin))
        await lab.wait_for_tailer()
        yield lab
