"""`python -m tests.guards`: switch each guard off in a copy of the tree, and show which tests turn red.

`--list` only shows the table; `--only WORD` takes the guards with the word in their name, and may be given more than once.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.guards.guard import Guard
from tests.guards.prove import prove
from tests.guards.table import GUARDS
from tests.guards.workspace import Workspace
from tests.servers import Stack, memory_directory

INTERRUPTED = 130


def main() -> int:
    """Exit code 0 where every guard has a test that turns red without it, 1 where one has none, 2 for a name that is none."""
    parser = argparse.ArgumentParser(prog="python -m tests.guards", description=__doc__)
    parser.add_argument("--only", action="append", default=[], metavar="WORD", help="guards with this in their name")
    parser.add_argument("--list", action="store_true", help="show the table and run nothing")
    args = parser.parse_args()
    chosen = [guard for guard in GUARDS if not args.only or any(word in guard.name for word in args.only)]
    if not chosen:
        parser.error(f"no guard is called so: {', '.join(args.only)}")
    if args.list:
        print("\n".join(_listed(guard) for guard in chosen))
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _run(chosen)
    except KeyboardInterrupt:
        print("stopped", flush=True)
        return INTERRUPTED


def _run(guards: Sequence[Guard]) -> int:
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="guards-") as directory, memory_directory() as memory:
        place = Path(directory)
        with Stack(place / "servers", memory=memory) as stack:
            environ = {**os.environ, "MYSQL_URL": stack.mysql_url, "REDIS_URL": stack.redis_url}
            is_good = prove(Workspace(place / "tree", environ), guards, _tell)
    minutes = (time.monotonic() - started) / 60
    _tell(f"{len(guards)} guards in {minutes:.1f} minutes: {'each has its test' if is_good else 'NOT PROVED'}")
    return 0 if is_good else 1


def _tell(text: str) -> None:
    print(text, flush=True)


def _listed(guard: Guard) -> str:
    lines = [f"never: {guard.never}", *(f"in: {file}" for file in guard.files)]
    if guard.why:
        lines.append(f"why so: {guard.why}")
    return "\n    ".join([guard.name, *lines, *(f"red without it: {test}" for test in guard.tests)])


if __name__ == "__main__":
    sys.exit(main())
