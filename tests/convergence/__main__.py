"""`python -m tests.convergence --seeds 1000 --from 5000`: convergence runs by seed, as many as wanted; `--seed 17` replays one."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import uvloop

from tests.convergence.lab import open_lab
from tests.convergence.run import RunFailed, run_seeds
from tests.convergence.witness import Answers
from tests.servers import Stack


def main() -> int:
    """Exit code 0 where all converged, 1 where one did not."""
    parser = argparse.ArgumentParser(prog="python -m tests.convergence", description=__doc__)
    parser.add_argument("--seeds", type=int, default=300, help="how many seeds (300)")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--seed", type=int, help="replay this seed only")
    parser.add_argument("--failures", type=int, default=1, help="stop after so many failed seeds (1)")
    parser.add_argument("--lanes", type=int, default=3, help="how many at a time (3)")
    args = parser.parse_args()
    seeds = [args.seed] if args.seed is not None else range(args.first, args.first + args.seeds)
    with tempfile.TemporaryDirectory() as directory, Stack(Path(directory)) as stack:
        return uvloop.run(_run(stack, list(seeds), args.failures, args.lanes))


async def _run(stack: Stack, seeds: list[int], failures_max: int, lanes: int) -> int:
    failures: list[RunFailed] = []
    done = 0
    counts: Counter[str] = Counter()
    started = time.monotonic()

    def take(outcome: Answers | RunFailed) -> bool:
        nonlocal done
        done += 1
        if isinstance(outcome, RunFailed):
            print(outcome, flush=True)
            failures.append(outcome)
        else:
            counts.update(outcome.counts)
        if done % 50 == 0 or done == len(seeds):
            seconds = (time.monotonic() - started) / done
            print(
                f"{done} of {len(seeds)} seeds, {len(failures)} failed, {seconds:.2f} s each; verdicts {dict(counts)}", flush=True
            )
        return len(failures) < failures_max

    with stack.database() as database:
        async with open_lab(stack, database) as lab:
            await run_seeds(lab, seeds, lanes, take)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
