"""Versions: `epoch * 2**40 + n`. Which past a number belongs to is part of the number itself (contract §1.2)."""

from __future__ import annotations

from collections.abc import Mapping

EPOCH_SHIFT = 40
N_MAX = (1 << EPOCH_SHIFT) - 1
EPOCH_MAX = (1 << (53 - EPOCH_SHIFT)) - 1
ID_STEP = 1 << 20
"""By how much AUTO_INCREMENT is raised in a new epoch: more ids than a lost past can have given."""
EMPTY_HEAD = 1
"""`current_version` of a server that has no change yet; the first change is version 2."""


def pack(epoch: int, n: int) -> int:
    """Return the version of the `n`-th place in `epoch`. Raises ValueError outside 2**53."""
    if not 0 <= epoch <= EPOCH_MAX or not 0 <= n <= N_MAX:
        raise ValueError(f"no version for epoch {epoch}, n {n}")
    return (epoch << EPOCH_SHIFT) | n


def epoch_of(version: int) -> int:
    """Return the epoch a version was given in."""
    return version >> EPOCH_SHIFT


def n_of(version: int) -> int:
    """Return a version's place inside its epoch."""
    return version & N_MAX


def advance(version: int, count: int) -> int:
    """Return the version `count` changes later. Raises ValueError when the epoch is full."""
    return pack(epoch_of(version), n_of(version) + count)


def is_replaced(version: int, forks: Mapping[int, int]) -> bool:
    """Whether a version is of a past that a later epoch replaced; `forks`: each epoch's, the last version that is still true."""
    return any(epoch > epoch_of(version) and version > fork for epoch, fork in forks.items())
