"""`matrix-sync tail` that kills itself, with SIGKILL, when it passes a named point for the n-th time; or stops, with SIGSTOP.

`python -m tests.faults.dying_tail KILL POINT N tail …` (or `STOP`): the points are put around the program's own functions here, so
the program itself carries none.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

POINTS: dict[str, tuple[str, str, bool]] = {
    "before the lease": ("cdc.lease", "Candidate.take", False),
    "after the lease": ("cdc.lease", "Candidate.take", True),
    "before the trim": ("cdc.checkpoint", "trim_above_head", False),
    "before the stream": ("cdc.source", "BinlogSource.events", False),
    "a transaction read": ("cdc.builder", "TxBuilder.end", True),
    "before the append": ("cdc.appender", "append", False),
    "before a packet": ("cdc.together", "Together._send", False),
    "a packet sent": ("cdc.together", "Together._send", True),
    "before the live rows": ("cdc.live", "LiveRecords.store", False),
    "before the state moves": ("cdc.state", "move_state", False),
    "before the commit": ("cdc.together", "Together.commit", False),
    "after the commit": ("cdc.together", "Together.commit", True),
    "a part of a large transaction": ("cdc.log", "LargeTx.append_part", True),
    "before a large transaction shows": ("cdc.log", "LargeTx.finish", False),
    "before the announcement": ("cdc.announce", "Announcer.publish", False),
    "before the witness is kept": ("cdc.announce", "Announcer.keep_witness", False),
}
"""Module, function or method, and whether the process dies after it (else before)."""
EARLY = ("before the lease", "after the lease", "before the trim", "before the stream")
"""Points that are passed once in a life."""
WAITED_FOR: dict[str, tuple[str, str, bool]] = {"before the rows of a load": ("cdc.load", "_send", False)}
"""Points at which MySQL waits for the process, and which only large batches pass."""


def arm(end: signal.Signals, point: str, count: int) -> None:
    """Have the `count`-th passing of a point send this process a signal."""
    module, path, is_after = (POINTS | WAITED_FOR)[point]
    owner: Any = importlib.import_module(module)
    *classes, name = path.split(".")
    for one in classes:
        owner = getattr(owner, one)
    original: Callable[..., Any] = getattr(owner, name)
    left = count

    def dying(*arguments: Any, **more: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0 and not is_after:
            os.kill(os.getpid(), end)
        result = original(*arguments, **more)
        if left == 0 and is_after:
            os.kill(os.getpid(), end)
        return result

    setattr(owner, name, dying)


if __name__ == "__main__":
    arm(signal.Signals[f"SIG{sys.argv[1]}"], sys.argv[2], int(sys.argv[3]))
    from cli.main import main

    sys.argv[1:] = sys.argv[4:]
    main()
