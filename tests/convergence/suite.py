"""The seeds that run with every test: two files share them, so that two processes do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import uvloop

from tests.convergence.lab import open_lab
from tests.convergence.run import RunFailed, run_seeds
from tests.convergence.script import Extra
from tests.convergence.witness import ACKNOWLEDGED, STATUSES, Answers
from tests.servers import Database, Stack

SEEDS = 110
LANES = 3
REACHED = (*STATUSES, *Extra, "resolved", "voided", "412", "period_locked", "immutable", "unbalanced", "forbidden")
"""What no hundred seeds may lack, else they try less than they say."""


def converge(stack: Stack, database: Database, seeds: Sequence[int]) -> None:
    """Run seeds on the loop that the API runs on in production. Raises AssertionError with the trace of the first that fails."""
    counts: Counter[str] = Counter()
    failed: list[RunFailed] = []

    def take(outcome: Answers | RunFailed) -> bool:
        if isinstance(outcome, RunFailed):
            failed.append(outcome)
        else:
            counts.update(outcome.counts)
        return not failed

    async def run() -> None:
        async with open_lab(stack, database) as lab:
            await run_seeds(lab, seeds, LANES, take)

    uvloop.run(run())
    assert not failed, f"{failed[0]}\nreplay: python -m tests.convergence --seed {failed[0].seed}"
    assert not [name for name in REACHED if not counts[name]], counts
    assert sum(counts[name] for name in ACKNOWLEDGED) > len(seeds)
