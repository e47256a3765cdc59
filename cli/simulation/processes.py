"""What the server's processes use, where they run on this machine (Linux, proc_pid_stat(5))."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_PARENT, _TICKS, _PAGES = 1, slice(11, 15), 21
"""Fields after the name: ppid; utime, stime, and cutime, cstime of children that ended and were waited for; rss."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Of a process and all below it."""

    resident_bytes: int
    cpu_seconds: float


def usage_of(pids: Mapping[str, int]) -> dict[str, Usage]:
    """By name; a process that is gone, or cannot be seen, is left out."""
    if not pids:
        return {}
    stats = dict(_read_stats())
    children: dict[int, list[int]] = {}
    for pid, fields in stats.items():
        children.setdefault(int(fields[_PARENT]), []).append(pid)
    return {name: _sum(pid, stats, children) for name, pid in pids.items() if pid in stats}


def _read_stats() -> Iterator[tuple[int, list[str]]]:
    with suppress(OSError):
        for entry in _PROC.iterdir():
            if entry.name.isdecimal():
                with suppress(OSError):  # it ended meanwhile
                    yield int(entry.name), (entry / "stat").read_text().rpartition(")")[2].split()


def _sum(pid: int, stats: Mapping[int, list[str]], children: Mapping[int, list[int]]) -> Usage:
    fields = stats[pid]
    below = [_sum(child, stats, children) for child in children.get(pid, ())]
    return Usage(
        int(fields[_PAGES]) * _PAGE_BYTES + sum(usage.resident_bytes for usage in below),
        sum(int(ticks) for ticks in fields[_TICKS]) / _TICKS_PER_SECOND + sum(usage.cpu_seconds for usage in below),
    )
