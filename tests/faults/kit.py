"""What the stories share: changed settings, tailers that die, who holds the lease, and the end at which all must add up."""

from __future__ import annotations

import itertools
import json
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from cli.embedded import MySQLServer
from cli.embedded.process import Child
from schema.settings import Settings
from tests.ledger import Ledger, Tally, Writer, tally
from tests.servers import Database, Stack, clean_environ
from tests.sql_client import SqlClient

ROOT = Path(__file__).resolve().parent.parent.parent
CATCH_UP_SECONDS = 90
_numbers = itertools.count(1)
_MORE_CHANGES_PER_SECOND = 300
_PATIENCE_SECONDS = 5


def with_settings(database: Database, **changes: Any) -> Database:
    """The same database under changed settings, for our commands too."""
    settings = replace(database.settings, **changes)
    config = Path(database.environ["SYNC_CONFIG"]).with_suffix(f".{next(_numbers)}.toml")
    write_settings(config, settings)
    return Database(settings, {"SYNC_CONFIG": str(config)})


def write_settings(config: Path, settings: Settings) -> None:
    """As a settings file."""
    config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in asdict(settings).items()))


def new_seed() -> random.Random:
    """A chance whose seed is printed, so that a failure can be had again."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    return random.Random(seed)


def tail_that_dies(stack: Stack, database: Database, point: str, count: int) -> Child:
    """A standby that kills itself at a named point (`tests.faults.dying_tail.POINTS`)."""
    return _tail_that_ends("KILL", stack, database, point, count)


def tail_that_stops(stack: Stack, database: Database, point: str) -> Child:
    """A standby that stops itself when it first passes a named point."""
    return _tail_that_ends("STOP", stack, database, point, 1)


def _tail_that_ends(signal: str, stack: Stack, database: Database, point: str, count: int) -> Child:
    command = [sys.executable, "-m", "tests.faults.dying_tail", signal, point, str(count), "tail", "--standby"]
    environ = {**clean_environ(), **database.environ, "PYTHONPATH": str(ROOT)}
    child = Child("tail", command, log=stack.directory / f"dying-tail-{next(_numbers)}.log", env=environ)
    child.start()
    return child


def holder(sql: SqlClient) -> str | None:
    """The pid of the tailer that holds the lease, as the lock and sync_lease say together."""
    rows = sql.rows(
        "SELECT holder FROM sync_lease WHERE connection_id = IS_USED_LOCK(%s)", f"matrix-sync.tail.{sql.settings.admin().database}"
    )
    return str(rows[0][0]).rpartition(" ")[2] if rows else None


def is_held_by(sql: SqlClient, child: Child) -> bool:
    """Whether this one, and no other, is the active tailer."""
    return holder(sql) == str(child.pid)


class Pace:
    """As many changes for each fault as for any other, and more where one waits for its moment."""

    def __init__(self, times: int, changes: int) -> None:
        self._per_fault = changes / times
        self._began = time.monotonic()
        self.done = 0

    def count(self, done: int) -> None:
        """So many faults are over."""
        if done != self.done:
            self.done, self._began = done, time.monotonic()

    def changes_allowed(self) -> float:
        waited = time.monotonic() - self._began
        return self._per_fault * (self.done + 1) + _MORE_CHANGES_PER_SECOND * max(0.0, waited - _PATIENCE_SECONDS)


@contextmanager
def writing(
    database: Database, company: int, ledger: Ledger, chance: random.Random, *, writers: int = 2, **more: Any
) -> Iterator[None]:
    """Writers at work; at the end they have stopped."""
    threads = [Writer(database.settings, company, ledger, chance, **more) for _ in range(writers)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.end()


def assert_nothing_is_wrong(
    database: Database, ledger: Ledger, company: int, server: MySQLServer | None, *, seconds: float = CATCH_UP_SECONDS
) -> Tally:
    """Wait until the tailer has passed everything, and count."""
    with SqlClient(database.settings) as sql:
        sql.wait_for_tailer(seconds)
    found = tally(database.settings, ledger, company, server)
    print(found)
    assert found.faults == 0, str(found)
    assert found.transactions > 0
    return found
