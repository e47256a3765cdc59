"""Devices of both habits, plain SQL beside them, and everything that goes wrong on the way: at rest all hold the server's rows.

Each seed is a short random run (`tests.convergence.script`), checked against plain SELECTs (`tests.convergence.checks`). The seeds
here are the first of many: `python -m tests.convergence --seeds 1000 --from 300` runs more, `--seed 17` replays one.
"""

from __future__ import annotations

from collections import Counter

from tests.convergence.lab import open_lab
from tests.convergence.run import RunFailed, run_seeds
from tests.convergence.script import write_script
from tests.convergence.witness import Answers
from tests.servers import Database, Stack

SEEDS = 120
LANES = 3


async def test_every_device_ends_with_the_servers_rows_and_no_acknowledged_write_is_lost(stack: Stack, database: Database) -> None:
    counts: Counter[str] = Counter()
    failed: list[RunFailed] = []

    def take(outcome: Answers | RunFailed) -> bool:
        if isinstance(outcome, RunFailed):
            failed.append(outcome)
        else:
            counts.update(outcome.counts)
        return not failed

    async with open_lab(stack, database) as lab:
        await run_seeds(lab, range(SEEDS), LANES, take)
    assert not failed, f"{failed[0]}\nreplay: python -m tests.convergence --seed {failed[0].seed}"
    assert min(counts[name] for name in ("applied", "merged", "conflict", "noop", "duplicate", "rejected")) > 0, counts


def test_a_seed_always_writes_the_same_script() -> None:
    assert [write_script(seed) for seed in range(50)] == [write_script(seed) for seed in range(50)]
