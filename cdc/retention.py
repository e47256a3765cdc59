"""Prunes old history, in small commits, and moves the floors that say what is left.

An image goes when the change that superseded it is old enough: so the state of every version from there on can still be told,
and the newest image of a record never goes. A tombstone goes when it is older than tombstones are kept, and never before the
history before it; with it what the change log knew of the record. Then a cursor below it would miss the deletion, so
`min_version` rises to it in the same commit: a page, which reads floor and rows in one snapshot, sees both or neither.

Retention walks the versions once for images and once for tombstones and remembers how far it came; an idle system writes nothing.
Whoever prunes holds the row of sync_retention; a tailer whose fencing token is no longer the stored one prunes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

from pymysql.connections import Connection

from cdc.change_row import RecordKey
from cdc.prune import Pruned, prune_changes
from cdc.prune_txs import OldTx, prune_pushes, prune_pushes_of, prune_txs, prune_watermarks, read_next_txs, read_txs_of
from cdc.sql import literal
from cdc.stored import read_live
from schema.errors import LeaseLost, StartError

CHANGES_PER_COMMIT = 250
LOCKED = 3572
"""MySQL's error where somebody else prunes just now."""

_LOCK = """
SELECT images_walked, images_from, tombstones_walked, txs_walked, txs_before_us FROM sync_retention WHERE id = 1 FOR UPDATE NOWAIT
"""
_STORE = """
UPDATE sync_retention
SET images_walked = %s, images_from = %s, tombstones_walked = %s, txs_walked = %s, txs_before_us = %s WHERE id = 1
"""
_RAISE_FLOOR = """
UPDATE sync_state SET min_version = GREATEST(min_version, %s) WHERE id = 1 AND (%s IS NULL OR fencing_token = %s)
"""
_READ_CUTOFF = "SELECT last_version FROM sync_tx WHERE commit_time_us <= %s ORDER BY commit_time_us DESC, tx DESC LIMIT 1"
_READ_NEWEST_TX = "SELECT tx FROM sync_state WHERE id = 1"
_WALK = """
SELECT company_id, version, table_name, record_id, operation = 'DELETE', prev_version, for_device
FROM sync_changes FORCE INDEX (sync_changes_version)
WHERE version > %s AND version <= %s ORDER BY version LIMIT %s
"""
_READ_ASKED_AGAIN = """
SELECT DISTINCT company_id, table_name, record_id FROM sync_redeliveries WHERE (company_id, table_name, record_id) IN ({keys})
"""
_DELETE_LIVE = "DELETE FROM sync_live WHERE (company_id, version) IN ({keys}) AND is_deleted"
_DELETE_ASKED_AGAIN = """
DELETE FROM sync_redeliveries WHERE company_id = %s AND device_id = %s AND table_name = %s AND record_id = %s ORDER BY id LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Cutoffs:
    """Versions up to which images that were superseded, and tombstones, are old enough; 0 where they are kept for ever."""

    images: int
    tombstones: int


@dataclass(frozen=True, slots=True)
class Floors:
    """The row of sync_retention: how far the walks came. `images_from` is the first version whose state can be told."""

    images_walked: int
    images_from: int
    tombstones_walked: int
    txs_walked: int
    txs_before_us: int


@dataclass(slots=True)
class Counts:
    """What was pruned. `min_version` is the new floor of cursors where it rose, else 0."""

    images: int = 0
    tombstones: int = 0
    redeliveries: int = 0
    pushes: int = 0
    txs: int = 0
    min_version: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing was."""
        return not any(astuple(self))


@dataclass(frozen=True, slots=True)
class _Walked:
    """A change as the walks see it."""

    company_id: int
    version: int
    table: str
    record_id: int
    is_delete: bool
    prev_version: int | None
    for_device: str | None

    @property
    def key(self) -> RecordKey:
        return self.company_id, self.table, self.record_id


def read_cutoffs(connection: Connection[Any], *, history_before_us: int | None, tombstones_before_us: int | None) -> Cutoffs:
    """The last versions committed at or before these times, in µs since 1970; None keeps for ever."""
    images, tombstones = (_read_cutoff(connection, before) for before in (history_before_us, tombstones_before_us))
    return Cutoffs(images, min(images, tombstones))


class Retention:
    """One run. With a fencing token only as long as it is the stored one; forced it prunes changes whose hash does not fit too."""

    def __init__(
        self,
        connection: Connection[Any],
        cutoffs: Cutoffs,
        *,
        fencing_token: int | None = None,
        is_forced: bool = False,
        is_dry: bool = False,
    ) -> None:
        self._connection = connection
        self._cutoffs = cutoffs
        self._token = fencing_token
        self._is_forced = is_forced
        self._is_dry = is_dry
        self._floors: Floors | None = None
        self.counts = Counts()

    def step(self) -> bool:
        """Prune the next few changes in one MySQL transaction; False where nothing is left to do.

        Raises LeaseLost, StartError `chain_broken`, and pymysql errors, `LOCKED` among them; nothing was written then.
        """
        self._connection.begin()
        try:
            before = self._lock()
            after = self._prune(before)
            if after is None or self._is_dry:
                self._connection.rollback()
            else:
                self._store(before, after)
                self._connection.commit()
        except Exception:
            self._connection.rollback()
            raise
        self._floors = after or before
        return after is not None

    def _lock(self) -> Floors:
        if self._is_dry and self._floors is not None:
            return self._floors
        with self._connection.cursor() as cursor:
            cursor.execute(_LOCK)
            row = cursor.fetchone()
        if row is None:
            raise StartError("no_change_log", "sync_retention is empty", hint="run `matrix-sync migrate`")
        return Floors(*row)

    def _prune(self, floors: Floors) -> Floors | None:
        """Do the next piece of work; None where there is none."""
        if floors.images_walked < self._cutoffs.images:
            return self._prune_images(floors)
        if floors.tombstones_walked < min(self._cutoffs.tombstones, floors.images_walked):
            return self._prune_tombstones(floors)
        return None if self._is_dry else self._prune_txs(floors)

    def _prune_images(self, floors: Floors) -> Floors:
        walked, end = self._walk(floors.images_walked, self._cutoffs.images)
        void = self._void(walked)
        by_successor = {c.prev_version: c.version for c in walked if c.for_device is None and c.prev_version is not None}
        pruned = self._take([*by_successor, *(change.version for change in void)])
        images = [change for change in pruned if change.for_device is None]
        self.counts.images += len(images)
        self.counts.redeliveries += len(pruned) - len(images)
        told_from = max((by_successor[change.version] for change in images), default=0)
        floors = self._forget(pruned, {change.tx for change in pruned}, floors)
        return replace(floors, images_walked=end, images_from=max(floors.images_from, told_from))

    def _prune_tombstones(self, floors: Floors) -> Floors:
        walked, end = self._walk(floors.tombstones_walked, min(self._cutoffs.tombstones, floors.images_walked))
        void = {change.version for change in self._void(walked)}
        tombstones = self._tombstones(walked)
        again = [change for change in walked if change.for_device is not None]
        pruned = self._take([*(change.version for change in tombstones), *(change.version for change in again)])
        gone = [change for change in pruned if change.for_device is None]
        self.counts.tombstones += len(gone)
        self.counts.redeliveries += len(pruned) - len(gone)
        self.counts.min_version = max([self.counts.min_version, *(c.version for c in pruned if c.version not in void)])
        txs = {change.tx for change in pruned}
        if gone and not self._is_dry:
            keys = ",".join(f"({change.company_id},{change.version})" for change in gone)
            self._connection.query(_DELETE_LIVE.format(keys=keys))
            records = [(change.company_id, change.table, change.record_id) for change in gone]
            count, more = prune_pushes_of(self._connection, records, self._cutoffs.tombstones)
            self.counts.pushes += count
            txs |= more
        return replace(self._forget(pruned, txs, floors), tombstones_walked=end)

    def _prune_txs(self, floors: Floors) -> Floors | None:
        with self._connection.cursor() as cursor:
            cursor.execute(_READ_NEWEST_TX)
            row = cursor.fetchone()
        limit = min(self._cutoffs.tombstones, floors.tombstones_walked)
        txs = read_next_txs(self._connection, floors.txs_walked, limit, row[0] if row else 0, CHANGES_PER_COMMIT)
        if not txs:
            return floors if prune_watermarks(self._connection) else None
        self.counts.pushes += prune_pushes(self._connection, txs)
        return replace(self._take_txs(txs, floors), txs_walked=txs[-1].number)

    def _walk(self, after: int, limit: int) -> tuple[list[_Walked], int]:
        """The next changes that are there, and how far that is."""
        with self._connection.cursor() as cursor:
            cursor.execute(_WALK, (after, limit, CHANGES_PER_COMMIT))
            walked = [_Walked(*row) for row in cursor.fetchall()]
        return walked, walked[-1].version if len(walked) == CHANGES_PER_COMMIT else limit

    def _take(self, versions: Sequence[int]) -> list[Pruned]:
        return prune_changes(self._connection, versions, is_forced=self._is_forced, is_dry=self._is_dry)

    def _void(self, walked: Iterable[_Walked]) -> list[_Walked]:
        """Redeliveries of records that changed again since: nobody is given them."""
        again = [change for change in walked if change.for_device is not None]
        live = read_live(self._connection, [change.key for change in again])
        return [change for change in again if change.key not in live or live[change.key].version != change.prev_version]

    def _tombstones(self, walked: Iterable[_Walked]) -> list[_Walked]:
        """Deletions that are their record's newest change, and that no device asked for again: then it may still be on its way."""
        deleted = [change for change in walked if change.is_delete and change.for_device is None]
        live = read_live(self._connection, [change.key for change in deleted])
        newest = [c for c in deleted if c.key in live and live[c.key].version == c.version and live[c.key].is_deleted]
        if not newest:
            return []
        keys = ",".join(f"({company},{literal(table)},{record})" for company, table, record in (c.key for c in newest))
        with self._connection.cursor() as cursor:
            cursor.execute(_READ_ASKED_AGAIN.format(keys=keys))
            asked_again = set(cursor.fetchall())
        return [change for change in newest if change.key not in asked_again]

    def _forget(self, pruned: Sequence[Pruned], txs: set[int], floors: Floors) -> Floors:
        """After changes went: the requests of redeliveries, and transactions that were kept for them alone."""
        if self._is_dry:
            return floors
        with self._connection.cursor() as cursor:
            for change in pruned:
                if change.for_device is not None:
                    cursor.execute(_DELETE_ASKED_AGAIN, (change.company_id, change.for_device, change.table, change.record_id))
        return self._take_txs(read_txs_of(self._connection, txs, floors.txs_walked), floors)

    def _take_txs(self, txs: Iterable[OldTx], floors: Floors) -> Floors:
        empty = prune_txs(self._connection, txs)
        self.counts.txs += len(empty)
        return replace(floors, txs_before_us=max([floors.txs_before_us, *(tx.commit_time_us for tx in empty)]))

    def _store(self, before: Floors, after: Floors) -> None:
        with self._connection.cursor() as cursor:
            if after != before:
                cursor.execute(_STORE, astuple(after))
            if cursor.execute(_RAISE_FLOOR, (self.counts.min_version, self._token, self._token)) != 1:
                raise LeaseLost("lease_lost", "another tailer has taken over", hint="this one pruned nothing and steps down")


def _read_cutoff(connection: Connection[Any], before_us: int | None) -> int:
    if before_us is None:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(_READ_CUTOFF, (max(before_us, 0),))
        row = cursor.fetchone()
    connection.rollback()
    return int(row[0]) if row else 0
