"""What the stories of a lost past share: a MySQL of their own, which they restore, reset and purge."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from cli.embedded import MySQLServer
from tests.servers import Stack


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
