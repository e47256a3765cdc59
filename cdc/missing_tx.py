"""Rows of sync_tx that are gone: their numbers and versions follow from the recorded neighbours, or nothing is claimed.

Transactions are numbered without gaps in binlog order, and so are versions. A run of missing ones is exact when its neighbours
leave room for just as many numbers and versions as the binlog has transactions and changes there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, cast

from pymysql.connections import Connection

from cdc.entries import Entry, PendingTx, Redelivery
from cdc.expected import complete_tx
from cdc.reread import Part, read_parts
from cdc.span import resolve
from cdc.state import State
from cdc.stored import TxRow, read_txs, read_txs_between
from schema.settings import MySQLAddress, Settings
from schema.versions import EMPTY_HEAD, epoch_of

_COUNT_FOREIGN_CHANGES = "SELECT COUNT(*) FROM sync_changes WHERE version BETWEEN %s AND %s AND tx <> %s"


@dataclass(slots=True)
class _Missing:
    """A transaction of the run, without its entries, and how many of each kind may have become changes."""

    tx: PendingTx
    changes: int = 0
    redeliveries: int = 0


@dataclass(frozen=True, slots=True)
class _Bound:
    """What follows the run: the next tx's number, and the head before it."""

    next_tx: int
    head: int


def recorded_tx(rows: list[TxRow], tx: PendingTx) -> TxRow | None:
    """The row of this very transaction: a server whose binlog was reset gives a GTID again, at another time."""
    return next((row for row in reversed(rows) if row.gtid == str(tx.gtid) and row.commit_time_us == tx.commit_time_us), None)


class MissingTxs:
    """Looks ahead from a missing transaction to the next recorded one, or to the head."""

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
        return {str(missing.tx.gtid): row for missing, row in zip(run, self._number(run, bound), strict=True)}

    def _look_ahead(self, first: PendingTx, state: State) -> tuple[list[_Missing], _Bound]:
        run: list[_Missing] = []
        with closing(cast("Any", self._transactions(first))) as transactions:
            for found in transactions:
                if not found.tx.is_recorded:
                    continue
                if found.tx.gtid not in state.gtid_set:
                    break
                stored = recorded_tx(read_txs(self._connection, [str(found.tx.gtid)]), found.tx)
                if stored is not None:
                    return run, _Bound(stored.tx, stored.head_before)
                if not self._is_outside(found.tx):
                    run.append(found)
        return run, _Bound(state.tx + 1, state.head)

    def _transactions(self, first: PendingTx) -> Iterator[_Missing]:
        span = resolve(self._connection, self._address, f"{first.file}:{first.start_pos}", None)
        found = _Missing(first)
        for part in read_parts(self._address, self._settings, span):
            if part.is_first:
                found = _Missing(part.tx._replace(entries=()))
            _count(found, part)
            if part.is_last:
                found.tx = part.tx._replace(entries=(), is_recorded=part.tx.is_recorded or not part.is_first)
                yield found

    def _number(self, run: list[_Missing], bound: _Bound) -> list[TxRow | None]:
        """One row for each of the run, or None for all."""
        unknown: list[TxRow | None] = [None] * len(run)
        number = bound.next_tx - len(run)
        taken = read_txs_between(self._connection, number - 1, bound.next_tx - 1)
        if number == 1 and not taken:
            head = EMPTY_HEAD
        elif [row.tx for row in taken] == [number - 1]:
            head = taken[0].last_version
        else:
            return unknown
        counts = _counts(run, bound.head - head)
        if counts is None or epoch_of(head) != epoch_of(bound.head):
            return unknown
        rows: list[TxRow | None] = []
        for place, (missing, count) in enumerate(zip(run, counts, strict=True)):
            row = complete_tx(missing.tx, number + place, head, count)
            if self._has_foreign_changes(row):
                return unknown
            head += count
            rows.append(row)
        return rows

    def _has_foreign_changes(self, row: TxRow) -> bool:
        with self._connection.cursor() as cursor:
            cursor.execute(_COUNT_FOREIGN_CHANGES, (row.head_before + 1, row.last_version, row.tx))
            return bool(cursor.fetchone() != (0,))


def _count(missing: _Missing, part: Part) -> None:
    missing.changes += sum(isinstance(entry, Entry) for entry in part.tx.entries)
    missing.redeliveries += sum(isinstance(entry, Redelivery) for entry in part.tx.entries)


def _counts(run: list[_Missing], versions: int) -> list[int] | None:
    """How many versions each has: a redelivery of a record that the log did not know had none, so all or none must fit."""
    for counts in ([m.changes + m.redeliveries for m in run], [m.changes for m in run]):
        if sum(counts) == versions:
            return counts
    return None
