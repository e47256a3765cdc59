"""Devices of both habits, plain SQL, people at desks, and all that goes wrong on the way: at rest they hold the server's rows.

Each seed is a short random run (`tests.convergence.script`), checked against plain SELECTs (`tests.convergence.checks`). The seeds
of the suite, half of them here, are the first of many: `python -m tests.convergence --seeds 1000 --from 300` runs more, `--seed 17`
replays one.
"""

from __future__ import annotations

from tests.convergence.script import write_script
from tests.convergence.suite import SEEDS, converge
from tests.servers import Database, Stack


def test_every_device_ends_with_the_servers_rows_and_no_acknowledged_write_is_lost(stack: Stack, database: Database) -> None:
    converge(stack, database, range(SEEDS // 2))


def test_a_seed_always_writes_the_same_script() -> None:
    assert [write_script(seed) for seed in range(50)] == [write_script(seed) for seed in range(50)]
