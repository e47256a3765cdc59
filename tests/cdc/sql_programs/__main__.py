"""`python -m tests.cdc.sql_programs --programs 10000 --seed 7`: random SQL programs, as many as wanted, again by seed."""

from __future__ import annotations

import argparse
import logging
import secrets
import sys
import tempfile
import time
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.cdc.sql_programs.lab import open_lab
from tests.cdc.sql_programs.program import PROGRAMS, Program
from tests.servers import Stack


def main() -> int:
    """Exit code 0 where every program's changes came exactly or the tailer halted, 1 where one was silent."""
    parser = argparse.ArgumentParser(prog="python -m tests.cdc.sql_programs", description=__doc__)
    parser.add_argument("--programs", type=int, default=300, help="how many programs (300)")
    parser.add_argument("--seed", type=int, help="the same programs again")
    args = parser.parse_args()
    chosen = secrets.randbits(32) if args.seed is None else args.seed
    logging.disable(logging.CRITICAL)  # each halt that was provoked
    print(f"seed {chosen}", flush=True)
    with tempfile.TemporaryDirectory() as directory, Stack(Path(directory)) as stack, stack.database() as database:
        started = time.monotonic()
        with open_lab(database, Path(directory)) as lab:

            @seed(chosen)
            @settings(
                max_examples=args.programs,
                deadline=None,
                database=None,
                derandomize=False,
                suppress_health_check=list(HealthCheck),
                phases=[Phase.generate],
            )
            @given(PROGRAMS)
            def run(program: Program) -> None:
                lab.run(program)
                if lab.counts["programs"] % 100 == 0:
                    print(f"{dict(lab.counts)}, {(time.monotonic() - started) / lab.counts['programs']:.2f} s each", flush=True)

            try:
                run()
            except AssertionError as wrong:
                print(wrong, *getattr(wrong, "__notes__", ()), sep="\n")
                return 1
            print(f"{dict(lab.counts)} in {time.monotonic() - started:.0f} s: none silent")
    return 0


if __name__ == "__main__":
    sys.exit(main())
