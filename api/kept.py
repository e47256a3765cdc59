"""What a worker remembers, bounded: the oldest goes first."""

from __future__ import annotations

from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def keep(kept: dict[K, V], key: K, value: V, *, most: int) -> None:
    """Remember a value as the newest, of at most `most`."""
    if len(kept) >= most:
        kept.pop(next(iter(kept)))
    kept.pop(key, None)
    kept[key] = value
