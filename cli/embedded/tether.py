"""Run a program that ends when its parent does: `python tether.py PARENT_PID COMMAND…`.

A script of its own, executed in place of the child before it becomes the program: a `preexec_fn` is not safe in a
process with threads, and `setpriv --pdeathsig` is not on every machine.
Linux only (prctl(2), PR_SET_PDEATHSIG); elsewhere the program runs untethered.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: int, command: list[str]) -> None:
    """Become `command`; SIGTERM will reach it when the thread that started it is gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it ended before we asked to be told
        sys.exit(1)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and the program would inherit that
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
