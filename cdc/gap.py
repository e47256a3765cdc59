"""Changes that are missing side by side, and the proof that what was derived is what was there.

Each change's chain hash covers the hash before it. So the hash computed through a gap, from the change before it on, fits the
change after it only if every byte in between is as the tailer wrote it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from cdc.change_row import ChangeRow
from cdc.lineage import Lineage, Spool
from cdc.stored import StoredChange


class Gap:
    """Missing changes from version `first` on; `chain` is the hash before it, None where that change is missing too."""

    def __init__(self, spool: Spool, first: int, chain: bytes | None) -> None:
        self._spool = spool
        self._chain_before = chain
        self._chain = chain
        self._places = array("Q")
        self.first = first
        self.reason = "" if chain is not None else f"version {first - 1} is missing too: begin --from earlier"

    @property
    def next_version(self) -> int:
        """The version after the gap, as far as it was followed."""
        return self.first + len(self._places)

    def add(self, row: ChangeRow, lineage: Lineage) -> None:
        """Take the next missing change."""
        place = self._spool.append(row)
        self._places.append(place)
        lineage.note(row, place)
        if self._chain is not None:
            self._chain = row.chained(self._chain)

    def refuse(self, reason: str) -> None:
        """Give up the proof: a change of the gap cannot be derived."""
        self.reason = self.reason or reason

    def prove(self, after: StoredChange | None, head_chain: bytes | None) -> None:
        """Check the hash against the change after the gap or, where the gap reaches the head, the head's hash."""
        if self.reason or self._chain is None:
            return
        if after is None and head_chain is None:
            self.reason = f"version {self.next_version} is missing too: choose a later --to"
        elif not (after.follows(self._chain) if after is not None else head_chain == self._chain):
            self.reason = f"the chain hash at version {self.next_version if after else self.next_version - 1} does not fit"

    def rows(self) -> Iterator[tuple[ChangeRow, bytes]]:
        """The changes with their hashes. Only of a gap that was proven."""
        assert self._chain_before is not None and not self.reason
        chain = self._chain_before
        for row in self.changes():
            chain = row.chained(chain)
            yield row, chain

    def changes(self) -> Iterator[ChangeRow]:
        """The changes as derived."""
        return map(self._spool.read, self._places)
