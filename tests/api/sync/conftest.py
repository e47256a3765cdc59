"""What the tests of sync share: an application and a running tailer, one of each for a file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from cli.embedded.process import Child
from tests.api.conftest import Api
from tests.api.tills import open_api
from tests.servers import Database, Stack


@pytest.fixture(scope="module")
def tailer(stack: Stack, shared: Database) -> Iterator[Child]:
    """The change log follows."""
    child = stack.spawn("tail", environ=shared.environ)
    yield child
    child.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(shared: Database, tailer: Child) -> AsyncIterator[Api]:
    """One for the file: each test registers companies of its own."""
    async with open_api(shared) as running:
        yield running
