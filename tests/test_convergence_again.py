"""The other half of the seeds of `tests/test_convergence.py`, in a file of its own so that two processes share them."""

from __future__ import annotations

from tests.convergence.suite import SEEDS, converge
from tests.servers import Database, Stack


def test_every_device_ends_with_the_servers_rows_on_other_seeds_too(stack: Stack, database: Database) -> None:
    converge(stack, database, range(SEEDS // 2, SEEDS))
