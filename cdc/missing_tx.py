"""Rows of sync_tx that are gone: their numbers and versions follow from the recorded neighbours, or nothing is claimed.

Transactions are numbered without gaps in binlog order, and so are versions. A run of missing ones is exact when its neighbours
leave room for just as many numbers and versions as the binlog has transactions and changes there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, cast

from pymysql.connections import Connection

from cdc.entries import Entry, PendingTx
from cdc.expected import complete_tx
from cdc.reread import Part, read_parts
from cdc.span import resolve
from cdc.state import State
from cdc.stored import TxRow, read_tx_with_changes_before, read_txs, read_txs_between
from schema.settings import MySQLAddress, Settings
from schema.versions import EMPTY_HEAD, epoch_of

_COUNT_FOREIGN_CHANGES = "SELECT COUNT(*) FROM sync_changes WHERE version BETWEEN %s AND %s AND tx <> %s"


@dataclass(slots=True)
class _Found:
    """A transaction of the run; `stored` where it is recorded, without versions."""

    tx: PendingTx
    changes: int = 0
    redeliveries: int = 0
    stored: TxRow | None = None


@dataclass(frozen=True, slots=True)
class _Bound:
    """What follows the run: the next tx's number, and the last version below it."""

    next_tx: int
    last_version: int


def recorded_tx(rows: list[TxRow], tx: PendingTx) -> TxRow | None:
    """The row of this very transaction: a server whose binlog was reset gives a GTID again, at another time."""
    return next((row for row in reversed(rows) if row.gtid == str(tx.gtid) and row.commit_time_us == tx.commit_time_us), None)


class MissingTxs:
    """Looks ahead from a missing transaction to the next recorded one with versions, or to the head."""

    def __init__(
        self,
        connection: Connection[Any],
        address: MySQLAddress,
        settings: Settings,
        is_outside: Callable[[PendingTx], bool],
    ) -> None:
        self._connection = connection
        self._address = address
        self._settings = settings
        self._is_outside = is_outside

    def resolve(self, first: PendingTx, state: State) -> dict[str, TxRow | None]:
        """The rows of the run that `first` begins, by GTID; None where they cannot be told exactly."""
        run, bound = self._look_ahead(first, state)
        rows = self._number(run, bound)
        return {str(found.tx.gtid): row for found, row in zip(run, rows, strict=True) if found.stored is None}

    def _look_ahead(self, first: PendingTx, state: State) -> tuple[list[_Found], _Bound]:
        run: list[_Found] = []
        with closing(cast("Any", self._transactions(first))) as transactions:
            for found in transactions:
                if not found.tx.is_recorded:
                    continue
                if found.tx.gtid not in state.gtid_set:
                    break
                found.stored = recorded_tx(read_txs(self._connection, [str(found.tx.gtid)]), found.tx)
                if found.stored is None and self._is_outside(found.tx):
                    continue
                if found.stored is not None and found.stored.first_version is not None:
                    return run, _Bound(found.stored.tx, found.stored.first_version - 1)
                run.append(found)
        return run, _Bound(state.tx + 1, state.head)

    def _transactions(self, first: PendingTx) -> Iterator[_Found]:
        span = resolve(self._connection, self._address, f"{first.file}:{first.start_pos}", None)
        found = _Found(first)
        for part in read_parts(self._address, self._settings, span):
            if part.is_first:
                found = _Found(replace(part.tx, entries=()))
            _count(found, part)
            if part.is_last:
                found.tx = replace(part.tx, entries=(), is_recorded=part.tx.is_recorded or not part.is_first)
                yield found

    def _number(self, run: list[_Found], bound: _Bound) -> list[TxRow | None]:
        """One row for each of the run, or None for all."""
        unknown: list[TxRow | None] = [None] * len(run)
        tx = bound.next_tx - len(run)
        taken = {row.tx for row in read_txs_between(self._connection, tx, bound.next_tx - 1)}
        before = read_tx_with_changes_before(self._connection, tx)
        version = before.last_version if before and before.last_version else EMPTY_HEAD
        is_continued = tx == 1 or bool(read_txs_between(self._connection, tx - 1, tx - 1))
        counts = _counts(run, bound.last_version - version)
        if taken != {found.stored.tx for found in run if found.stored}:
            return unknown  # another transaction has a number of theirs
        if not is_continued or counts is None or epoch_of(version) != epoch_of(bound.last_version):
            return unknown
        rows: list[TxRow | None] = []
        for number, (found, count) in enumerate(zip(run, counts, strict=True), tx):
            versions = (version + 1, version + count) if count else None
            version += count
            row = complete_tx(found.tx, number, epoch_of(version), versions)
            if found.stored is not None and (found.stored.tx, found.stored.count()) != (number, count):
                return unknown
            if versions and self._has_foreign_changes(row):
                return unknown
            rows.append(row)
        return rows

    def _has_foreign_changes(self, row: TxRow) -> bool:
        with self._connection.cursor() as cursor:
            cursor.execute(_COUNT_FOREIGN_CHANGES, (row.first_version, row.last_version, row.tx))
            return bool(cursor.fetchone() != (0,))


def _count(found: _Found, part: Part) -> None:
    changes = sum(isinstance(entry, Entry) for entry in part.tx.entries)
    found.changes += changes
    found.redeliveries += len(part.tx.entries) - changes


def _counts(run: list[_Found], versions: int) -> list[int] | None:
    """How many versions each has: a redelivery of a record that the log did not know had none, so all or none must fit."""
    for counts in ([f.changes + f.redeliveries for f in run], [f.changes for f in run]):
        if sum(counts) == versions:
            return counts
    return None
