"""What the benches of the API share: servers of a production's size, our commands as real processes, people with devices.

with open_lab() as lab:
    crew = lab.hire(devices=16)
    result, cpu = lab.load([[Ready([post(PULL, token, body)])] for token in crew.tokens], seconds=5)
"""

from __future__ import annotations

import itertools
import re
import secrets
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from api.tokens import AccessToken, sign_access
from cli.embedded.process import Child
from schema.settings import Settings
from tests.bench.load import Result, Talk, run_load
from tests.bench.processes import cpu_seconds
from tests.faults.kit import with_settings
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

PULL = "/api/sync/pull"
PUSH = "/api/sync/push"
PRODUCTION: Mapping[str, str | int] = {
    "innodb-buffer-pool-size": "1536M",
    "loose-innodb-redo-log-capacity": "2G",
    "sync-binlog": 1,
    "innodb-flush-log-at-trx-commit": 1,
}
UNLIMITED: Mapping[str, str | int] = {
    "user_requests_per_second": 10_000_000,
    "device_requests_per_second": 10_000_000,
    "log_level": "warning",
}
_HOURS_OF_A_TOKEN = 24
_START_SECONDS_MAX = 60
_LISTENING = re.compile(r"listening on http://[^:]+:(\d+)")
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Crew:
    """Owners of one company, each signed in on one device: `tokens[i]` speaks for `devices[i]`."""

    company_id: int
    login_ids: tuple[int, ...]
    devices: tuple[str, ...]
    tokens: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cpu:
    """Seconds of CPU, by program."""

    serve: float
    tail: float
    mysqld: float
    redis: float

    @property
    def total(self) -> float:
        """Of all servers."""
        return self.serve + self.tail + self.mysqld + self.redis

    def since(self, before: Cpu) -> Cpu:
        """What was used between the two."""
        return Cpu(self.serve - before.serve, self.tail - before.tail, self.mysqld - before.mysqld, self.redis - before.redis)

    def each(self, count: int) -> str:
        """In µs for each of so many, as text."""
        parts = (("serve", self.serve), ("tail", self.tail), ("mysqld", self.mysqld), ("redis", self.redis))
        return ", ".join(f"{name} {seconds / max(1, count) * 1e6:.0f}" for name, seconds in parts) + " µs each"


@dataclass(slots=True)
class Lab:
    """Running servers; `port` is that of `matrix-sync serve`."""

    stack: Stack
    database: Database
    sql: SqlClient
    tail: Child
    serve: Child
    port: int

    @property
    def settings(self) -> Settings:
        """Those of our commands."""
        return self.database.settings

    def cpu(self) -> Cpu:
        """CPU used by the servers so far; 0 for those that are not ours."""
        return Cpu(
            *(
                cpu_seconds(server.pid if server is not None else None)
                for server in (self.serve, self.tail, self.stack.mysql, self.stack.redis)
            )
        )

    def load(self, lines: Sequence[Sequence[Talk]], seconds: float, *, port: int | None = None) -> tuple[Result, Cpu]:
        """Put a load on the API, or on another server at `port`; what came of it, and the servers' CPU meanwhile."""
        before = self.cpu()
        result = run_load(port or self.port, lines, seconds)
        return result, self.cpu().since(before)

    def hire(self, devices: int = 1, *, role: str = "owner", company_id: int | None = None) -> Crew:
        """A company, a new one unless named, and people in it, made by plain SQL: signing in by password takes too long."""
        number = next(_numbers)
        company_id = company_id or self.sql.company(f"Company {number}")
        first = self._insert(
            "logins (email, full_name, password_hash)",
            [f"'{secrets.token_hex(8)}@example.com', 'A Person', 'none'" for _ in range(devices)],
        )
        logins = tuple(range(first, first + devices))
        names = tuple(f"device-{number}-{i}" for i in range(devices))
        ids = [secrets.token_bytes(16) for _ in range(devices)]
        self._insert("users (company_id, login_id, full_name, role)", [f"{company_id}, {i}, 'A Person', '{role}'" for i in logins])
        self._insert("devices (device_id, login_id)", [f"'{name}', {i}" for name, i in zip(names, logins, strict=True)])
        self._insert(
            "sessions (id, login_id, device_id, refresh_hash, expires_at)",
            [
                f"0x{session.hex()}, {login}, '{name}', 0x{secrets.token_hex(32)}, '2037-01-01'"
                for session, login, name in zip(ids, logins, names, strict=True)
            ],
        )
        now = int(time.time())
        until = now + _HOURS_OF_A_TOKEN * 3600
        tokens = tuple(
            sign_access(self.settings.jwt_secret, AccessToken(login, session, name, until), issued_at=now)
            for login, session, name in zip(logins, ids, names, strict=True)
        )
        return Crew(company_id, logins, names, tokens)

    def caught_up(self, seconds: float = 600) -> int:
        """Wait until the tailer has passed all that was committed; the head."""
        return self.sql.wait_for_tailer(seconds)

    def _insert(self, into: str, rows: Sequence[str]) -> int:
        """Insert rows, each the text of its values, whose AUTO_INCREMENT ids follow on from the first, which is returned."""
        values = ", ".join(f"({row})" for row in rows)
        return self.sql.run(f"INSERT INTO {into} VALUES {values}")


@contextmanager
def open_lab(*, workers: int = 1, **changed: str | int) -> Iterator[Lab]:
    """Start everything, with settings changed by keywords, and stop it at the end. Rate limits are out of the way."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as directory,
        Stack(Path(directory), PRODUCTION) as stack,
        stack.database() as bare,
    ):
        database = with_settings(bare, **{**UNLIMITED, "http_port": 0, "http_workers": workers, **changed})
        tail = stack.spawn("tail", environ=database.environ)
        serve = stack.spawn("serve", environ=database.environ)
        with SqlClient(database.settings) as sql:
            yield Lab(stack, database, sql, tail, serve, _port_of(serve))
        serve.stop()
        tail.stop()


def _port_of(serve: Child) -> int:
    deadline = time.monotonic() + _START_SECONDS_MAX
    while not (found := _LISTENING.search(serve.output())):
        if not serve.is_running or time.monotonic() > deadline:
            raise RuntimeError(f"serve did not start: {serve.last_lines()}")
        time.sleep(0.05)
    return int(found[1])
