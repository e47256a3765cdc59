"""Walks the chain of hashes over the whole change log: was a change edited, deleted, swapped, or the tail cut?

Each change's hash is made of its columns and the hash before it, so a change that was altered does not fit its own hash, or, where
that was made anew, the next one does not. Who rewrites everything up to the head is found by an anchor: a version and its hash,
kept outside the database by the tailer's witness, or by whoever kept what an earlier run printed. What retention pruned stands in
sync_pruned, with the hashes around it.
Source: design, "Witness"; S. Haber and W. S. Stornetta, "How to Time-Stamp a Digital Document", 1991.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pymysql.connections import Connection

from cdc.pruned import Stretch, read_stretches
from cdc.state import State, read_state
from cdc.stored import FIRST_CHAIN, StoredChange, read_next_changes
from schema.errors import StartError
from schema.versions import EMPTY_HEAD, epoch_of, pack

CHANGES_PER_SNAPSHOT = 1000
_BEGIN_SNAPSHOT = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"
_READ_WALKED = "SELECT images_walked FROM sync_retention WHERE id = 1"
_READ_FORKS = "SELECT epoch, fork FROM sync_epochs"


class Tampering(StrEnum):
    """EDITED: a change is not what the tailer wrote. DELETED: changes are missing. SWAPPED: two stand in each other's place.

    CUT: the newest are missing. REWRITTEN: the hash at an anchor, or at the head, is another one. UNPROVEN: a record of pruning
    does not fit, or stands where retention has not come.
    """

    EDITED = "edited"
    DELETED = "deleted"
    SWAPPED = "swapped"
    CUT = "cut"
    REWRITTEN = "rewritten"
    UNPROVEN = "unproven"


@dataclass(frozen=True, slots=True)
class Anchor:
    """A version and the chain hash at it."""

    version: int
    chain: bytes

    @classmethod
    def parse(cls, text: str) -> Anchor:
        """From VERSION:HASH. Raises ValueError."""
        version, _, chain = text.partition(":")
        parsed = cls(int(version), bytes.fromhex(chain))
        if len(parsed.chain) != len(FIRST_CHAIN) or parsed.version < EMPTY_HEAD:
            raise ValueError(text)
        return parsed

    def __str__(self) -> str:
        return f"{self.version}:{self.chain.hex()}"


@dataclass(frozen=True, slots=True)
class Finding:
    """Versions `first` to `last` do not fit; `other` is the place a swapped change belongs to."""

    kind: Tampering
    first: int
    last: int
    other: int | None = None
    note: str = ""


@dataclass(slots=True)
class Summary:
    """What was walked: changes whose hashes were made again, stretches and versions that were pruned; the head then."""

    changes: int = 0
    stretches: int = 0
    pruned: int = 0
    head: Anchor | None = None


class ChainCheck:
    """One walk from the first change to the head as it is at the start; beside a running tailer and retention."""

    def __init__(self, connection: Connection[Any], anchors: Sequence[Anchor] = (), witnessed: Iterable[Anchor] = ()) -> None:
        """`anchors` were given for this walk; `witnessed` are what is known besides, as far as it is not pruned."""
        self._connection = connection
        self._witnessed = frozenset(witnessed).difference(anchors)
        self._anchors = sorted({*anchors, *self._witnessed}, key=lambda anchor: anchor.version)
        self._version = EMPTY_HEAD
        self._chain: bytes | None = FIRST_CHAIN
        self._walked = 0
        self._forks: dict[int, int] = {}
        self._moved: dict[int, StoredChange] = {}
        self.summary = Summary()

    def run(self) -> Iterator[Finding]:
        """Yield what does not fit, first versions first. Raises StartError: `no_change_log`, `anchor_pruned`."""
        head = read_state(self._connection)
        self.summary.head = Anchor(head.head, head.chain)
        with self._connection.cursor() as cursor:
            cursor.execute(_READ_FORKS)
            self._forks = dict(cursor.fetchall())
        yield from self._check_anchors(EMPTY_HEAD, EMPTY_HEAD, FIRST_CHAIN)
        while self._version < head.head:
            changes, stretches = self._read_part(head.head)
            if not changes and not stretches:
                break
            yield from self._walk(changes, stretches)
        yield from self._end(head)

    def _read_part(self, head: int) -> tuple[list[StoredChange], list[Stretch]]:
        """What follows, of one moment: a change and the record of its pruning are never both, or neither, there."""
        with self._connection.cursor() as cursor:
            cursor.execute(_BEGIN_SNAPSHOT)
            cursor.execute(_READ_WALKED)
            row = cursor.fetchone()
        self._walked = int(row[0]) if row else 0
        changes = read_next_changes(self._connection, self._version, head, CHANGES_PER_SNAPSHOT)
        end = changes[-1].row.version if len(changes) == CHANGES_PER_SNAPSHOT else head
        stretches = read_stretches(self._connection, self._version + 1, end)
        self._connection.rollback()
        return changes, stretches

    def _walk(self, changes: list[StoredChange], stretches: list[Stretch]) -> Iterator[Finding]:
        places = sorted([(s.first, s) for s in stretches] + [(c.row.version, c) for c in changes], key=lambda place: place[0])
        for at, (first, place) in enumerate(places):
            yield from self._enter_epoch(epoch_of(first))
            if first > self._version + 1:
                self._chain = None
                yield Finding(Tampering.DELETED, self._version + 1, first - 1, note="and not recorded as pruned")
                yield from self._check_anchors(self._version + 1, first - 1, None)
            if isinstance(place, Stretch):
                yield from self._pass_stretch(place)
            else:
                following = [other for _, other in places[at + 1 :] if isinstance(other, StoredChange)]
                yield from self._pass_change(place, following)

    def _enter_epoch(self, epoch: int) -> Iterator[Finding]:
        """An epoch begins after its fork; at its place 0, which is no change, the hash is that of the fork."""
        if epoch <= epoch_of(self._version):
            return
        fork = self._forks.get(epoch, self._version)
        if self._version < fork and epoch_of(fork) == epoch_of(self._version):
            self._chain = None
            yield Finding(Tampering.DELETED, self._version + 1, fork, note="the newest before a new epoch")
            yield from self._check_anchors(self._version + 1, fork, None)
        self._version = pack(epoch, 0)
        yield from self._check_anchors(self._version, self._version, self._chain)

    def _pass_stretch(self, stretch: Stretch) -> Iterator[Finding]:
        is_whole = stretch.first > self._version  # pruned since we passed its beginning, it has grown over it
        if is_whole and None not in (stretch.chain_before, self._chain) and stretch.chain_before != self._chain:
            yield Finding(
                Tampering.UNPROVEN, stretch.first, stretch.last, note="the hash before it is not the one it was pruned after"
            )
        if stretch.last > self._walked:
            yield Finding(Tampering.UNPROVEN, stretch.first, stretch.last, note=f"retention has not come beyond {self._walked}")
        self.summary.stretches += 1
        self.summary.pruned += stretch.last - max(stretch.first, self._version + 1) + 1
        first, self._version, self._chain = self._version + 1, stretch.last, stretch.chain_after
        while self._anchors and first <= self._anchors[0].version < stretch.last and self._anchors[0] in self._witnessed:
            self._anchors.pop(0)
        if self._anchors and first <= self._anchors[0].version < stretch.last:
            raise StartError(
                "anchor_pruned",
                f"retention has pruned version {self._anchors[0].version}: its hash can't be compared any more",
                hint="give an anchor of a later version; each run prints the head's",
            )
        yield from self._check_anchors(first, stretch.last, stretch.chain_after)

    def _pass_change(self, stored: StoredChange, following: Sequence[StoredChange]) -> Iterator[Finding]:
        version, chain = stored.row.version, stored.chain
        self.summary.changes += 1
        if self._chain is not None and not stored.follows(self._chain):
            finding, chain = self._explain(stored, self._chain, following)
            if finding is not None:
                yield finding
        self._version, self._chain = version, chain
        yield from self._check_anchors(version, version, chain)

    def _explain(self, stored: StoredChange, before: bytes, following: Sequence[StoredChange]) -> tuple[Finding | None, bytes]:
        """What happened at a version that does not fit, and the hash to go on from. The other end of a swap is told once."""
        version = stored.row.version
        moved = self._moved.pop(version, None)
        if moved is not None:
            made = moved.row._replace(version=version).chained(before)
            if made in (moved.chain, stored.chain):
                return None, made
        for other in following:
            made = other.row._replace(version=version).chained(before)
            if made in (other.chain, stored.chain):
                self._moved[other.row.version] = stored
                note = f"the change of version {version} stands at {other.row.version}"
                return Finding(Tampering.SWAPPED, version, version, other.row.version, note), made
        note = "it does not fit its own hash, or the one before it was changed with its hash"
        return Finding(Tampering.EDITED, version, version, note=note), stored.chain

    def _end(self, head: State) -> Iterator[Finding]:
        yield from self._enter_epoch(head.epoch)
        if self._version < head.head:
            yield Finding(Tampering.CUT, self._version + 1, head.head, note="the newest changes are missing")
            yield from self._check_anchors(self._version + 1, head.head, None)
        elif self._chain is not None and self._chain != head.chain:
            yield Finding(Tampering.REWRITTEN, head.head, head.head, note="the newest change has not the hash that the head has")
        for anchor in self._anchors:
            yield Finding(Tampering.CUT, head.head + 1, anchor.version, note="the anchor is beyond the head")

    def _check_anchors(self, first: int, last: int, chain: bytes | None) -> Iterator[Finding]:
        """Compare the anchors from `first` to `last`, where the hash at `last` is `chain`, if it is known."""
        while self._anchors and self._anchors[0].version <= last:
            anchor = self._anchors.pop(0)
            if anchor.version < first:
                yield Finding(Tampering.REWRITTEN, anchor.version, anchor.version, note="there is no such version")
            elif chain is not None and chain != anchor.chain:
                yield Finding(Tampering.REWRITTEN, anchor.version, anchor.version, note="the anchor has another hash")
