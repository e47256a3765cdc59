"""The newest change of each record of a company, of those beyond a version: what sync_live says of them, in memory. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Collection, Iterable, Sequence

from api.feed import FeedRow
from api.heads import Head

ROW_BYTES = 700
"""What a change takes in memory beside its JSON."""


class RecentChanges:
    """All of a company beyond `low`, as of `head`: what a walk of sync_live would find, tombstones included, redeliveries not."""

    def __init__(self, low: int, head: Head, rows: Sequence[FeedRow], now: float) -> None:
        """`rows`: all newest changes beyond `low` up to `head`, ascending; read at `now`."""
        self.low = low
        self.head = head
        self.bytes = 0
        self._rows: dict[int, FeedRow] = {}
        self._newest: dict[tuple[bytes, int], int] = {}
        self._versions: list[int] = []
        """Ascending; some of them are superseded, and no longer in `_rows`."""
        self._read: deque[tuple[int, float]] = deque(((head.version, now),))
        """Up to which version was read when, ascending."""
        self._add(rows)

    def reaches(self, after: int, head: Head) -> bool:
        """Whether one who stands at `head` may be given what is beyond `after`, once it is brought to that head."""
        is_of_one_past = self.head.epoch == head.epoch and self.head.min_version <= head.min_version <= self.head.version
        return is_of_one_past and after >= self.low

    def extend(self, rows: Sequence[FeedRow], head: Head, now: float) -> None:
        """Take over all changes between the head and a later one, ascending, history too."""
        self._add(rows)
        if head.version > self.head.version:
            self.head = head
            self._read.append((head.version, now))

    def reach_back(self, low: int, rows: Sequence[FeedRow]) -> None:
        """Go back to `low`, given the newest changes beyond it as of a head that is not below `self.low`.

        They count as read when the oldest of what is here was.
        """
        older = [row for row in rows if row.version <= self.low and (row.table, row.record_id) not in self._newest]
        kept = self._versions
        self._versions = []
        self._add(older)
        self._versions += kept
        self.low = low

    def forget_read_before(self, moment: float) -> None:
        """Forget what was read before that."""
        low = self.low
        while self._read and self._read[0][1] < moment:
            low = self._read.popleft()[0]
        self._forget_up_to(low)

    def forget_oldest(self) -> None:
        """Forget the older half."""
        if self._versions:
            self._forget_up_to(self._versions[len(self._versions) // 2])

    def beyond(self, after: int, limit: int, tables: Collection[bytes] | None = None) -> list[FeedRow]:
        """The first changes beyond `after`, of these tables, or of all."""
        found: list[FeedRow] = []
        for version in self._versions[bisect_right(self._versions, after) :]:
            row = self._rows.get(version)
            if row is not None and (tables is None or row.table in tables):
                found.append(row)
                if len(found) == limit:
                    break
        return found

    def _add(self, rows: Iterable[FeedRow]) -> None:
        for row in rows:
            key = (row.table, row.record_id)
            before = self._newest.get(key)
            if before is not None:
                self.bytes -= _bytes_of(self._rows.pop(before))
            self._newest[key] = row.version
            self._rows[row.version] = row
            self._versions.append(row.version)
            self.bytes += _bytes_of(row)
        if len(self._versions) > 2 * len(self._rows):
            self._versions = [version for version in self._versions if version in self._rows]

    def _forget_up_to(self, low: int) -> None:
        if low <= self.low:
            return
        self.low = low
        end = bisect_right(self._versions, low)
        for version in self._versions[:end]:
            row = self._rows.pop(version, None)
            if row is not None:
                del self._newest[row.table, row.record_id]
                self.bytes -= _bytes_of(row)
        del self._versions[:end]


def _bytes_of(row: FeedRow) -> int:
    return ROW_BYTES + len(row.change) + len(row.sealed or b"")
