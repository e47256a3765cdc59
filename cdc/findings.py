"""What a check of the surroundings found: how bad it is, what is wrong, what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """FATAL: the tailer would lose changes, or could not run. WARNING: it runs, with a risk that the message names."""

    FATAL = "fatal"
    WARNING = "warning"
    OK = "ok"


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of a check. `code` is stable, for programs; `remedy` is a command or a setting, empty where all is well."""

    level: Level
    code: str
    message: str
    remedy: str = ""


def fatal(code: str, message: str, remedy: str) -> Finding:
    """A finding that stops the tailer."""
    return Finding(Level.FATAL, code, message, remedy)


def warning(code: str, message: str, remedy: str) -> Finding:
    """A finding an operator should look at."""
    return Finding(Level.WARNING, code, message, remedy)


def ok(code: str, message: str) -> Finding:
    """A check that held."""
    return Finding(Level.OK, code, message)
