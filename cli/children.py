"""How this program starts its own commands as processes: the same interpreter and package, whatever the directory."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import cli
from cli.embedded.process import Child

STOP_TIMEOUT_S = 15  # `tail` and `serve` drain for at most 10 s


def own_child(words: tuple[str, ...], *, log: Path, env: Mapping[str, str]) -> Child:
    """`matrix-sync tail` and the like as a child, not started yet; its name is the command's."""
    # -P: a directory `cli` where the user happens to be must not be taken for ours.
    command = [sys.executable, "-P", "-m", "cli.main", *words]
    return Child(words[0], command, log=log, env=_environ(env), stop_timeout_s=STOP_TIMEOUT_S)


def _environ(env: Mapping[str, str]) -> dict[str, str]:
    """`env`, with our package found even where it is not installed (a checkout)."""
    root = str(Path(cli.__file__).parent.parent)
    paths = [root, *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
    return {**env, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
