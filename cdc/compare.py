"""Compares the changes of a tx, as derived again, with those that the change log holds under the tx's versions."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

from pymysql.connections import Connection

from cdc.change_row import ChangeRow, Image, TxColumns, record_of, row_again, row_of_entry, told_columns, tx_columns
from cdc.differences import Difference, Kind, columns_that_differ
from cdc.entries import Entry, PendingTx, Redelivery
from cdc.gap import Gap
from cdc.lineage import Lineage, Spool
from cdc.live_check import LiveCheck
from cdc.pruned import Stretch, read_stretch_at, read_stretches
from cdc.repair import Repair
from cdc.reread import Part
from cdc.state import read_state
from cdc.stored import StoredChange, TxRow, read_chain, read_changes
from schema.changes import OriginKind

_VERSIONS_PER_QUERY = 1000
_UNKNOWN = Image("", "", None)
_CHAIN_HOLDS = "the chain hash holds: the tailer wrote it so"
_CHAIN_BROKEN = "the chain hash is broken: it was changed after the tailer wrote it"


class ChangeComparer:
    """Goes through the versions of the stretch; missing ones gather in a gap, which is settled at the next that is there."""

    def __init__(
        self,
        connection: Connection[Any],
        spool: Spool,
        lineage: Lineage,
        live: LiveCheck,
        repair: Repair | None,
    ) -> None:
        self._connection = connection
        self._spool = spool
        self._lineage = lineage
        self._live = live
        self._repair = repair
        self._stored: dict[int, StoredChange] = {}
        self._pruned: list[Stretch] = []
        self._previous: tuple[int, bytes] | None = None
        self._gap: Gap | None = None
        self._gtids: dict[int, str] = {}
        self._next = 0
        self.compared = 0

    def compare(self, batch: Sequence[tuple[Part, TxRow]]) -> Iterator[Difference]:
        """Compare parts, each with its tx's row, in binlog order."""
        self._read(batch)
        for part, row in batch:
            if part.is_first:
                self._pass_runs(self._next, row.head_before)
                self._next = row.head_before + 1
            self._gtids = {**(self._gtids if self._gap else {}), row.tx: row.gtid}
            self._prefetch_lineage(part, row)
            yield from self._compare_part(part, row)

    def close(self) -> Iterator[Difference]:
        """Settle a gap that reaches the end of the stretch."""
        if self._gap is not None:
            after = self._read_one(self._gap.next_version)
            yield from self._settle(after)

    def _read(self, batch: Sequence[tuple[Part, TxRow]]) -> None:
        """Read the changes of the batch's versions; neighbours in one query."""
        ranges: list[tuple[int, int]] = []
        start = self._next
        for part, row in batch:
            start = row.head_before + 1 if part.is_first else start
            last = min(start + len(part.tx.entries) - 1, row.last_version)
            if last < start:
                continue
            first = ranges.pop()[0] if ranges and ranges[-1][1] + 1 == start else start
            ranges.append((first, last))
            start = last + 1
        self._stored = {}
        for first, last in ranges:
            self._stored |= read_changes(self._connection, first, last)
        # Read after the changes: what is pruned meanwhile must not look as if it were missing.
        self._pruned = [s for first, last in ranges for s in read_stretches(self._connection, first, last)]

    def _pass_runs(self, first: int, last: int) -> None:
        """Learn of changes between two transactions that no binlog holds: a run of `reconcile` made them from rows."""
        if not first:
            return
        for start in range(first, last + 1, _VERSIONS_PER_QUERY):
            for stored in read_changes(self._connection, start, min(start + _VERSIONS_PER_QUERY - 1, last)).values():
                if stored.row.origin == OriginKind.RECONCILE:
                    self._lineage.note(stored.row)
                    self._live.note(stored.row)

    def _prefetch_lineage(self, part: Part, row: TxRow) -> None:
        """Look up together what changes that are missing inherit."""
        versions = range(self._next, row.last_version + 1)
        missing = [
            record_of(entry)
            for entry, v in zip(part.tx.entries, versions, strict=False)
            if v not in self._stored and not self._is_pruned(v)
        ]
        if missing:
            self._lineage.prefetch(missing, self._next)

    def _compare_part(self, part: Part, row: TxRow) -> Iterator[Difference]:
        last = row.last_version
        surplus = 0
        for entry in part.tx.entries:
            if isinstance(entry, Entry):
                if self._next > last:
                    surplus += 1
                    continue
                yield from self._compare_one(part.tx, row, entry)
        redeliveries = [entry for entry in part.tx.entries if isinstance(entry, Redelivery)]
        for redelivery in self._kept(redeliveries, last):
            yield from self._compare_one(part.tx, row, redelivery)
        if surplus:
            note = f"the transaction makes {surplus} more changes than it has versions"
            yield Difference(Kind.MISSING, "sync_changes", {"gtid": row.gtid, "tx": row.tx}, note=note)
        if part.is_last:
            yield from self._extra(row)

    def _kept(self, redeliveries: list[Redelivery], last: int) -> list[Redelivery]:
        """Those that got a version: where it is not all, those whose record the change log knew."""
        room = last - self._next + 1
        if len(redeliveries) <= room:
            return redeliveries
        known = [r for r in redeliveries if self._lineage.before(record_of(r), self._next) is not None]
        return known[: max(room, 0)]

    def _compare_one(self, tx: PendingTx, row: TxRow, entry: Entry | Redelivery) -> Iterator[Difference]:
        version, self._next = self._next, self._next + 1
        stored = self._stored.get(version)
        self.compared += 1
        if stored is not None:
            yield from self._compare_stored(tx, row, entry, stored)
            return
        if self._gap is not None and self._gap.next_version != version:
            yield from self._settle(self._read_one(self._gap.next_version))
        if self._is_pruned(version):
            yield from self._settle(None)
            if isinstance(entry, Entry):
                self._lineage.note_pruned(record_of(entry), version, entry.maker)
            return
        if self._gap is None:
            self._gap = Gap(self._spool, version, self._chain_before(version))
        self._gap.add(self._complete(self._gap, version, tx_columns(tx, row.tx), entry), self._lineage)

    def _complete(self, gap: Gap, version: int, tx: TxColumns, entry: Entry | Redelivery) -> ChangeRow:
        """The whole missing change."""
        key = record_of(entry)
        ancestor = self._lineage.before(key, version)
        if isinstance(entry, Entry):
            return row_of_entry(tx, entry, version, ancestor)
        repeated = self._lineage.image(key, ancestor) if ancestor else None
        if repeated is None:
            gap.refuse(f"version {version} repeats a change that is gone")
            return row_again(tx, entry, version, ancestor, _UNKNOWN)
        return row_again(tx, entry, version, ancestor, Image(repeated.operation, repeated.data, repeated.sealed))

    def _compare_stored(self, tx: PendingTx, row: TxRow, entry: Entry | Redelivery, stored: StoredChange) -> Iterator[Difference]:
        version = stored.row.version
        if self._gap is not None:
            yield from self._settle(stored if self._gap.next_version == version else self._read_one(self._gap.next_version))
        columns = columns_that_differ(stored.row._asdict(), self._told(tx_columns(tx, row.tx), entry, version))
        chain = self._chain_before(version)
        holds = None if chain is None else stored.follows(chain)
        if chain is not None and not holds and not columns:
            columns = {"chain": (stored.chain.hex(), stored.row.chained(chain).hex())}
        if columns:
            note = {None: "", True: _CHAIN_HOLDS, False: _CHAIN_BROKEN}[holds]
            yield Difference(Kind.DIFFERENT, "sync_changes", self._where(stored.row), columns, note=note)
        self._previous = version, stored.chain
        self._lineage.note(stored.row)
        self._live.note(stored.row)

    def _told(self, tx: TxColumns, entry: Entry | Redelivery, version: int) -> dict[str, Any]:
        """What is known of an entry's row without a look-up."""
        key = record_of(entry)
        is_known = self._lineage.is_known(key)
        ancestor = self._lineage.before(key, version) if is_known else None
        if isinstance(entry, Entry):
            row = row_of_entry(tx, entry, version, ancestor)
        else:
            row = row_again(tx, entry, version, ancestor, _UNKNOWN)
        return told_columns(row, entry, with_inherited=is_known)

    def _settle(self, after: StoredChange | None) -> Iterator[Difference]:
        """Prove the gap, put its changes back, and report them."""
        gap, self._gap = self._gap, None
        if gap is None:
            return
        gap.prove(after, None if after is not None else self._end_chain(gap))
        if not gap.reason and self._repair is not None:
            self._repair.restore_changes(gap.rows())
        for row in gap.changes():
            if not gap.reason:
                self._live.note(row)
            is_restored = self._repair is not None and not gap.reason
            note = f"cannot be restored: {gap.reason}" if gap.reason else ""
            yield Difference(Kind.MISSING, "sync_changes", self._where(row), is_restored=is_restored, note=note)

    def _end_chain(self, gap: Gap) -> bytes | None:
        """The hash that must stand at the end of a gap that no change follows: before a pruned stretch, or the head's."""
        stretch = read_stretch_at(self._connection, gap.next_version)
        if stretch is not None:
            return stretch.chain_before if stretch.first == gap.next_version else None
        state = read_state(self._connection)
        return state.chain if state.head == gap.next_version - 1 else None

    def _is_pruned(self, version: int) -> bool:
        at = bisect_right(self._pruned, version, key=lambda stretch: stretch.first) - 1
        return at >= 0 and version <= self._pruned[at].last

    def _extra(self, row: TxRow) -> Iterator[Difference]:
        """Versions that sync_tx gives the tx and for which the binlog has no change."""
        for version in range(self._next, row.last_version + 1):
            stored = self._read_one(version)
            if stored is None and self._is_pruned(version):
                continue
            where = self._where(stored.row) if stored else {"version": version, "tx": row.tx, "gtid": row.gtid}
            note = "the binlog has no change for this version of the transaction"
            yield Difference(Kind.EXTRA, "sync_changes" if stored else "sync_tx", where, note=note)

    def _chain_before(self, version: int) -> bytes | None:
        if self._previous is not None and self._previous[0] == version - 1:
            return self._previous[1]
        return read_chain(self._connection, version - 1)

    def _read_one(self, version: int) -> StoredChange | None:
        return read_changes(self._connection, version, version).get(version)

    def _where(self, row: ChangeRow) -> dict[str, Any]:
        return {
            "version": row.version,
            "operation": row.operation,
            "company_id": row.company_id,
            "table": row.table,
            "record_id": row.record_id,
            "tx": row.tx,
            "gtid": self._gtids.get(row.tx),
        }
