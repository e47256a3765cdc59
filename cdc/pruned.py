"""Stretches of versions that retention pruned: what tells them from changes that somebody deleted.

A stretch keeps the chain hash before its first version and the one at its last, so the hashes of what is left still prove each
other over it. Stretches that come to lie side by side become one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pymysql.connections import Connection

from cdc.sql import insert_rows, literal_bytes

VERSIONS_PER_QUERY_MAX = 1000
_T = TypeVar("_T")

_READ_FROM = """
SELECT first_version, last_version, chain_before, chain_after FROM sync_pruned
WHERE last_version >= %s AND first_version <= %s ORDER BY first_version LIMIT %s
"""
_READ_BESIDE = """
SELECT first_version, last_version, chain_before, chain_after FROM sync_pruned WHERE last_version IN ({lasts})
UNION SELECT first_version, last_version, chain_before, chain_after FROM sync_pruned WHERE first_version IN ({firsts})
"""
_READ_CHAINS = "SELECT last_version, chain_after FROM sync_pruned WHERE last_version IN ({lasts})"
_DELETE = "DELETE FROM sync_pruned WHERE first_version IN ({firsts})"
_INSERT = "INSERT INTO sync_pruned (first_version, last_version, chain_before, chain_after) VALUES "


@dataclass(frozen=True, slots=True)
class Stretch:
    """Versions `first` to `last`, all pruned. `chain_before` is None where the change before it was missing already."""

    first: int
    last: int
    chain_before: bytes | None
    chain_after: bytes


def read_stretches(connection: Connection[Any], first: int, last: int, *, count_max: int = 1_000_000) -> list[Stretch]:
    """The stretches that share a version with `first` to `last`, in order, at most `count_max`."""
    with connection.cursor() as cursor:
        cursor.execute(_READ_FROM, (first, last, count_max))
        return [Stretch(*row) for row in cursor.fetchall()]


def read_stretch_at(connection: Connection[Any], version: int) -> Stretch | None:
    """The stretch that a version was pruned with."""
    return next(iter(read_stretches(connection, version, version, count_max=1)), None)


def read_pruned_chains(connection: Connection[Any], versions: Iterable[int]) -> dict[int, bytes]:
    """The chain hashes at those of the versions that end a stretch."""
    found: dict[int, bytes] = {}
    for part in _parts(sorted(set(versions))):
        with connection.cursor() as cursor:
            cursor.execute(_READ_CHAINS.format(lasts=_list(part)))
            found.update(cursor.fetchall())
    return found


def record_stretches(connection: Connection[Any], new: Sequence[Stretch]) -> None:
    """Store new stretches, in order, joined with those that stand beside them. In the caller's transaction."""
    for part in _parts(new):
        beside = _read_beside(connection, part)
        if beside:
            with connection.cursor() as cursor:
                cursor.execute(_DELETE.format(firsts=_list(stretch.first for stretch in beside)))
        insert_rows(connection.query, _INSERT, map(_literal, join(sorted([*part, *beside], key=lambda stretch: stretch.first))))


def join(stretches: Iterable[Stretch]) -> list[Stretch]:
    """Stretches in order, each with the ones that go on where it ends."""
    joined: list[Stretch] = []
    for stretch in stretches:
        if joined and joined[-1].last + 1 == stretch.first:
            before = joined.pop()
            stretch = Stretch(before.first, stretch.last, before.chain_before, stretch.chain_after)
        joined.append(stretch)
    return joined


def _read_beside(connection: Connection[Any], part: Sequence[Stretch]) -> list[Stretch]:
    lasts, firsts = _list(stretch.first - 1 for stretch in part), _list(stretch.last + 1 for stretch in part)
    with connection.cursor() as cursor:
        cursor.execute(_READ_BESIDE.format(lasts=lasts, firsts=firsts))
        return [Stretch(*row) for row in cursor.fetchall()]


def _literal(stretch: Stretch) -> str:
    before = literal_bytes(stretch.chain_before) if stretch.chain_before is not None else "NULL"
    return f"({stretch.first},{stretch.last},{before},{literal_bytes(stretch.chain_after)})"


def _list(versions: Iterable[int]) -> str:
    return ",".join(map(str, versions))


def _parts(items: Sequence[_T]) -> Iterable[Sequence[_T]]:
    return (items[start : start + VERSIONS_PER_QUERY_MAX] for start in range(0, len(items), VERSIONS_PER_QUERY_MAX))
