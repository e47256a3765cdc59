"""Sets of GTIDs: which transactions a server, or our checkpoint, holds.

Everything is interval arithmetic on whole numbers per (server uuid, tag); text is only read and written. Tagged GTIDs
(`uuid:tag:number`, MySQL 8.3 and later) are ordinary members. What a set means for the checkpoint is `checkpoint.py`.

Source: MySQL 9.7 manual, "GTID Format and Storage"; `Gtid_set::encode` in sql/rpl_gtid_set.cc for the binary form.
"""

from __future__ import annotations

import re
import struct
import uuid as uuid_module
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Self

from schema.errors import MatrixError

Interval = tuple[int, int]
"""Half-open: the first number that is in, the first that is not."""
Source = tuple[str, str]
"""Server uuid in lower-case canonical text, and tag ("" for none)."""

_NUMBER_MAX = 2**63 - 2
_TAG = re.compile(r"[a-z_][a-z0-9_]{0,31}")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_INTERVAL = re.compile(r"(\d{1,19})(?:\s*-\s*(\d{1,19}))?")
_U64 = struct.Struct("<Q")
_U64_PAIR = struct.Struct("<QQ")
_TAGGED_FORMAT = 1


class Gtid(NamedTuple):
    """One transaction: server uuid (lower-case text), tag ("" for none), number from 1."""

    uuid: str
    tag: str
    number: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """`uuid:number` or `uuid:tag:number`. Raises MatrixError `bad_gtid`."""
        found = GtidSet.parse(text)
        members = [(source, interval) for source, intervals in found.intervals.items() for interval in intervals]
        if len(members) != 1 or members[0][1][1] - members[0][1][0] != 1:
            raise MatrixError("bad_gtid", f"not one GTID: {text[:120]!r}")
        (uuid, tag), (number, _) = members[0]
        return cls(uuid, tag, number)

    def __str__(self) -> str:
        return f"{self.uuid}:{self.tag}:{self.number}" if self.tag else f"{self.uuid}:{self.number}"


class GtidSet:
    """An immutable set of GTIDs. Equal sets have equal text, whatever way they were made."""

    __slots__ = ("intervals",)

    intervals: Mapping[Source, tuple[Interval, ...]]
    """Per source: sorted, disjoint, never adjacent, never empty."""

    def __init__(self, members: Mapping[Source, Iterable[Interval]] | None = None) -> None:
        merged = {source: _merge(intervals) for source, intervals in (members or {}).items()}
        self.intervals = {source: intervals for source, intervals in merged.items() if intervals}

    @classmethod
    def _of(cls, intervals: Mapping[Source, tuple[Interval, ...]]) -> GtidSet:
        """From intervals that are sorted and merged already."""
        made = cls.__new__(cls)
        made.intervals = intervals
        return made

    @classmethod
    def parse(cls, text: str) -> GtidSet:
        """The text of `gtid_executed`: spaces, line ends and capitals allowed. Raises MatrixError `bad_gtid`."""
        members: dict[Source, list[Interval]] = {}
        for part in text.lower().split(","):
            words = [word.strip() for word in part.split(":")]
            if words == [""]:
                continue
            uuid, tag = words[0], ""
            if not _UUID.fullmatch(uuid) or len(words) < 2 or _TAG.fullmatch(words[-1]):
                raise MatrixError("bad_gtid", f"not a GTID set: {part.strip()[:120]!r}")
            for word in words[1:]:
                if _TAG.fullmatch(word):
                    tag = word
                else:
                    members.setdefault((uuid, tag), []).append(_parse_interval(word))
        return cls(members)

    @classmethod
    def decode(cls, data: bytes) -> GtidSet:
        """The binary form, as `encode` makes it and PREVIOUS_GTIDS events hold it. Raises MatrixError `bad_gtid`."""
        try:
            head = _U64.unpack_from(data)[0]
            is_tagged = head >> 56 == _TAGGED_FORMAT
            count, position = head >> 8 & (1 << 48) - 1 if is_tagged else head, 8
            members: dict[Source, list[Interval]] = {}
            for _ in range(count):
                uuid, tag = str(uuid_module.UUID(bytes=data[position : position + 16])), ""
                position += 16
                if is_tagged:
                    size = data[position] >> 1
                    tag = data[position + 1 : position + 1 + size].decode("ascii")
                    position += 1 + size
                ranges = members.setdefault((uuid, tag), [])
                for _ in range(_U64.unpack_from(data, position)[0]):
                    ranges.append(_U64_PAIR.unpack_from(data, position + 8))
                    position += 16
                position += 8
        except (struct.error, IndexError, ValueError) as problem:
            raise MatrixError("bad_gtid", f"not an encoded GTID set: {problem}") from problem
        return cls(members)

    def encode(self) -> bytes:
        """What COM_BINLOG_DUMP_GTID carries. A set without tags has the form that every server since 5.6 reads."""
        is_tagged = any(tag for _, tag in self.intervals)
        count = len(self.intervals)
        out = [_U64.pack(_TAGGED_FORMAT << 56 | count << 8 | _TAGGED_FORMAT if is_tagged else count)]
        for (uuid, tag), intervals in sorted(self.intervals.items()):
            out.append(uuid_module.UUID(uuid).bytes)
            if is_tagged:
                out.append(bytes([len(tag) << 1]) + tag.encode())  # a length up to 63 as a one-byte varlen integer
            out.append(_U64.pack(len(intervals)))
            out.extend(_U64_PAIR.pack(*interval) for interval in intervals)
        return b"".join(out)

    def add(self, gtid: Gtid) -> GtidSet:
        """This set and one more transaction."""
        return self.union(GtidSet({(gtid.uuid, gtid.tag): [(gtid.number, gtid.number + 1)]}))

    def contains(self, gtid: Gtid) -> bool:
        """Whether the transaction is in the set."""
        return any(start <= gtid.number < end for start, end in self.intervals.get((gtid.uuid, gtid.tag), ()))

    def is_subset_of(self, other: GtidSet) -> bool:
        """Whether `other` holds every transaction of this set: GTID_SUBSET(self, other)."""
        return not self.subtract(other)

    def union(self, other: GtidSet) -> GtidSet:
        """Transactions in either."""
        both = dict(self.intervals)
        for source, intervals in other.intervals.items():
            both[source] = _merge((*both.get(source, ()), *intervals))
        return GtidSet._of(both)

    def subtract(self, other: GtidSet) -> GtidSet:
        """Transactions of this set that `other` lacks: GTID_SUBTRACT(self, other)."""
        rest = {source: _subtract(intervals, other.intervals.get(source, ())) for source, intervals in self.intervals.items()}
        return GtidSet._of({source: intervals for source, intervals in rest.items() if intervals})

    def count(self) -> int:
        """How many transactions the set holds."""
        return sum(end - start for intervals in self.intervals.values() for start, end in intervals)

    def has_tags(self) -> bool:
        """Whether any member is tagged."""
        return any(tag for _, tag in self.intervals)

    def __bool__(self) -> bool:
        return bool(self.intervals)

    def __contains__(self, gtid: Gtid) -> bool:
        return self.contains(gtid)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GtidSet) and self.intervals == other.intervals

    def __hash__(self) -> int:
        return hash(frozenset(self.intervals.items()))

    def __str__(self) -> str:
        """As the server prints it, on one line: uuids, then tags, then numbers in order."""
        parts: list[str] = []
        last_uuid = ""
        for (uuid, tag), intervals in sorted(self.intervals.items()):
            numbers = ":".join(f"{start}-{end - 1}" if end - start > 1 else str(start) for start, end in intervals)
            words = f"{tag}:{numbers}" if tag else numbers
            parts.append(f":{words}" if uuid == last_uuid else f"{',' if parts else ''}{uuid}:{words}")
            last_uuid = uuid
        return "".join(parts)

    def __repr__(self) -> str:
        return f"GtidSet.parse({str(self)!r})"


def _parse_interval(word: str) -> Interval:
    found = _INTERVAL.fullmatch(word)
    if found:
        first = int(found[1])
        last = int(found[2] or first)
        if 1 <= first <= last <= _NUMBER_MAX:
            return first, last + 1
    raise MatrixError("bad_gtid", f"not an interval or tag of a GTID set: {word[:60]!r}")


def _merge(intervals: Iterable[Interval]) -> tuple[Interval, ...]:
    merged: list[Interval] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        elif start < end:
            merged.append((start, end))
    return tuple(merged)


def _subtract(these: tuple[Interval, ...], those: tuple[Interval, ...]) -> tuple[Interval, ...]:
    """Both sorted and disjoint; one walk over both."""
    rest: list[Interval] = []
    index = 0
    for start, end in these:
        while index < len(those) and those[index][1] <= start:
            index += 1
        look = index
        while look < len(those) and those[look][0] < end:
            if those[look][0] > start:
                rest.append((start, those[look][0]))
            start = max(start, those[look][1])
            look += 1
        if start < end:
            rest.append((start, end))
    return tuple(rest)
