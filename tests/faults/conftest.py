"""What the stories share: a MySQL of their own, a ledger a test, and tailers that are gone at its end."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.embedded import MySQLServer
from cli.embedded.process import Child
from tests.ledger import Ledger
from tests.servers import Database, Stack

StartTail = Callable[..., Child]


@pytest.fixture(scope="session")
def machine(stack: Stack) -> Iterator[MySQLServer]:
    """A MySQL that may be killed, restored, reset and purged."""
    with stack.private_mysql("machine") as mysql:
        yield mysql


@pytest.fixture
def collected() -> Iterator[None]:
    """PyMySQL leaves the unix socket open for the garbage collector where nobody listens at it."""
    yield
    gc.collect()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """What writers were told."""
    noted = Ledger(tmp_path / "ledger")
    yield noted
    noted.close()


@pytest.fixture
def start_tail(stack: Stack) -> Iterator[StartTail]:
    """Starts `matrix-sync tail` with words and a database; killed at the end."""
    children: list[Child] = []

    def start(database: Database, *words: str, **environ: str) -> Child:
        children.append(stack.spawn("tail", *words, environ={**database.environ, **environ}))
        return children[-1]

    yield start
    for child in children:
        child.kill()
