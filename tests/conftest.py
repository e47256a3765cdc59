"""Fixtures: one private MySQL and Redis a session, one fresh database a test, our own processes as children."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from pymysql.connections import Connection

from schema.connect import open_connection
from tests.servers import Database, Stack, memory_directory
from tests.sql_client import SqlClient

# CI tries the same examples each time, so that it judges the change and not the luck; everywhere else they are new ones.
hypothesis.settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")


LONGEST_FIRST = (
    "tests/cli/test_up.py",
    "tests/test_convergence.py",
    "tests/test_convergence_again.py",
    "tests/cdc/test_source.py",
    "tests/faults/test_stopped_leader.py",
    "tests/cli/test_simulate.py",
    "tests/faults/test_restored_backup.py",
    "tests/cli/test_embedded.py",
    "tests/cdc/test_tailer.py",
    "tests/faults/test_mysql_restart.py",
    "tests/cli/test_replay.py",
    "tests/api/sync/test_lost_past.py",
    "tests/test_docs.py",
    "tests/faults/test_failover.py",
    "tests/test_bench.py",
)
"""Where several processes share the files (`make test`), none is left with one of these at the end, alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bring the longest files to the front; the order within a file stays."""
    places = {path: place for place, path in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(places)))


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The session's servers."""
    directory: Path = tmp_path_factory.mktemp("stack")
    with memory_directory() as memory, Stack(directory, memory=memory) as servers:
        yield servers


@pytest.fixture
def database(stack: Stack) -> Iterator[Database]:
    """A fresh, migrated database."""
    with stack.database() as fresh:
        yield fresh


@pytest.fixture
def sql(database: Database) -> Iterator[SqlClient]:
    """An administrator's SQL client, as any external tool is one."""
    with SqlClient(database.settings) as client:
        yield client


@pytest.fixture
def connection(database: Database) -> Iterator[Connection[Any]]:
    """The tailer's own account."""
    with open_connection(database.settings.tailer()) as session:
        yield session


@pytest.fixture
def tailer(stack: Stack, database: Database) -> Iterator[Any]:
    """A running `matrix-sync tail`."""
    child = stack.spawn("tail", environ=database.environ)
    yield child
    child.stop()
