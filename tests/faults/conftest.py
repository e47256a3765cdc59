"""A ledger a test, and tailers that are gone at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.embedded.process import Child
from tests.ledger import Ledger
from tests.servers import Database, Stack

StartTail = Callable[..., Child]


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
