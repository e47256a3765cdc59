"""Takes changes out of the change log so that its chain of hashes still proves what is left.

A change whose own hash does not fit is not taken: pruning it would remove the trace of whoever changed it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pymysql.connections import Connection

from cdc.pruned import Stretch, join, read_pruned_chains, record_stretches
from cdc.stored import StoredChange, read_chain, read_these_changes
from schema.errors import StartError
from schema.versions import EMPTY_HEAD, n_of

ROWS_IN_MEMORY_MAX = 100
KEYS_PER_STATEMENT_MAX = 500

_READ_CHAINS = "SELECT version, chain FROM sync_changes WHERE version IN ({versions})"
_DELETE_CHANGES = "DELETE FROM sync_changes WHERE (company_id, version) IN ({keys})"


@dataclass(frozen=True, slots=True)
class Pruned:
    """A change that was taken out."""

    company_id: int
    version: int
    table: str
    record_id: int
    tx: int
    for_device: str | None


def prune_changes(
    connection: Connection[Any], versions: Iterable[int], *, is_forced: bool = False, is_dry: bool = False
) -> list[Pruned]:
    """Delete those of these changes that are there, and record the stretches; in the caller's transaction.

    Raises StartError `chain_broken` where the hash of one does not fit, unless forced. A dry run checks and writes nothing.
    """
    wanted = sorted(set(versions))
    chains = _chains_before(connection, wanted)
    pruned: list[Pruned] = []
    stretches: list[Stretch] = []
    for start in range(0, len(wanted), ROWS_IN_MEMORY_MAX):
        part = wanted[start : start + ROWS_IN_MEMORY_MAX]
        for version, stored in sorted(read_these_changes(connection, part).items()):
            is_next = bool(stretches) and stretches[-1].last == version - 1
            before = stretches[-1].chain_after if is_next else chains.get(version - 1)
            if not is_forced:
                _check(stored, before)
            stretches.append(Stretch(version, version, before, stored.chain))
            row = stored.row
            pruned.append(Pruned(row.company_id, version, row.table, row.record_id, row.tx, row.for_device))
    if pruned and not is_dry:
        _delete(connection, pruned)
        record_stretches(connection, join(stretches))
    return pruned


def _check(stored: StoredChange, before: bytes | None) -> None:
    if before is not None and stored.follows(before):
        return
    version = stored.row.version
    what = "the change before it is missing" if before is None else "its hash does not follow from the one before"
    raise StartError(
        "chain_broken",
        f"version {version} is not pruned: {what}",
        hint="`matrix-sync verify --chain` says what was changed, `matrix-sync replay` puts back what is missing",
        details={"version": version},
    )


def _chains_before(connection: Connection[Any], versions: Sequence[int]) -> dict[int, bytes]:
    """The hash before each version, by the version before it, as far as it is kept."""
    before = sorted({version - 1 for version in versions})
    found: dict[int, bytes] = {}
    for start in range(0, len(before), KEYS_PER_STATEMENT_MAX):
        part = before[start : start + KEYS_PER_STATEMENT_MAX]
        with connection.cursor() as cursor:
            cursor.execute(_READ_CHAINS.format(versions=",".join(map(str, part))))
            found.update(cursor.fetchall())
    found.update(read_pruned_chains(connection, [version for version in before if version not in found]))
    for version in before:
        if version <= EMPTY_HEAD or n_of(version) == 0:
            chain = read_chain(connection, version)
            if chain is not None:
                found[version] = chain
    return found


def _delete(connection: Connection[Any], pruned: Sequence[Pruned]) -> None:
    for start in range(0, len(pruned), KEYS_PER_STATEMENT_MAX):
        part = pruned[start : start + KEYS_PER_STATEMENT_MAX]
        connection.query(_DELETE_CHANGES.format(keys=",".join(f"({one.company_id},{one.version})" for one in part)))
