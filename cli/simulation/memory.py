"""Resident memory of the server's processes, where they run on this machine (Linux, /proc)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_KIB = 1024


def resident_bytes(pids: Mapping[str, int]) -> dict[str, int]:
    """Bytes by name, each with all its children; a process that is gone, or cannot be seen, is left out."""
    if not pids:
        return {}
    children: dict[int, list[int]] = {}
    for pid in _all_pids():
        children.setdefault(_parent_of(pid), []).append(pid)
    found = {name: sum(_bytes_of(member) for member in _family(pid, children)) for name, pid in pids.items()}
    return {name: size for name, size in found.items() if size}


def _all_pids() -> Iterator[int]:
    with suppress(OSError):
        yield from (int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal())


def _parent_of(pid: int) -> int:
    """0 where there is none, or it ended meanwhile."""
    with suppress(OSError):
        after_name = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return int(after_name[1])
    return 0


def _family(pid: int, children: Mapping[int, list[int]]) -> Iterator[int]:
    yield pid
    for child in children.get(pid, ()):
        yield from _family(child, children)


def _bytes_of(pid: int) -> int:
    with suppress(OSError, StopIteration):
        lines = (_PROC / str(pid) / "status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) * _KIB
    return 0
