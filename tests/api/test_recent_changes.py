"""A company's newest changes in memory say what the change log says, whatever was taken over and forgotten on the way."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from api.feed import FeedRow
from api.heads import Head
from api.recent_changes import ROW_BYTES, RecentChanges

TABLES = (b"parties", b"products")


def row(version: int, table: bytes = b"parties", record_id: int = 1) -> FeedRow:
    return FeedRow(version, table, record_id, version, None, None, None, None, b"{%d}" % version)


class Memory(RuleBasedStateMachine):
    """A log beside the memory of it."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[FeedRow] = []
        self.now = 0.0

    @property
    def head(self) -> Head:
        return Head(0, len(self.log), 1)

    def newest(self, after: int, head: int) -> list[FeedRow]:
        """What a walk of sync_live finds beyond a version, as of a head."""
        records = {(change.table, change.record_id): change for change in self.log[:head]}
        return sorted((change for change in records.values() if change.version > after), key=lambda change: change.version)

    @initialize(count=st.integers(0, 8), low=st.integers(0, 8))
    def begin(self, count: int, low: int) -> None:
        for _ in range(count):
            self.write(TABLES[0], 1)
        low = min(low, count)
        self.memory = RecentChanges(low, self.head, self.newest(low, count), self.now)

    @rule(table=st.sampled_from(TABLES), record_id=st.integers(1, 6))
    def write(self, table: bytes, record_id: int) -> None:
        self.log.append(row(len(self.log) + 1, table, record_id))

    @rule()
    def time_passes(self) -> None:
        self.now += 1

    @rule(short=st.integers(0, 3))
    def bring_to_a_head(self, short: int) -> None:
        head = Head(0, max(self.memory.head.version, len(self.log) - short), 1)
        self.memory.extend(self.log[self.memory.head.version : head.version], head, self.now)

    @rule(back=st.integers(1, 5), at=st.integers(0, 5))
    def reach_back(self, back: int, at: int) -> None:
        low = max(0, self.memory.low - back)
        head = min(self.memory.low + at, self.memory.head.version)
        self.memory.reach_back(low, self.newest(low, head))

    @rule(seconds=st.integers(0, 4))
    def forget_old(self, seconds: int) -> None:
        self.memory.forget_read_before(self.now - seconds)

    @precondition(lambda self: self.memory.head.version > self.memory.low)
    @rule()
    def forget_half(self) -> None:
        self.memory.forget_oldest()

    @invariant()
    def it_says_what_the_log_says(self) -> None:
        if not hasattr(self, "memory"):
            return
        memory = self.memory
        for after in range(memory.low, memory.head.version + 1):
            newest = self.newest(after, memory.head.version)
            assert memory.beyond(after, len(self.log) + 1) == newest
            assert memory.beyond(after, 2) == newest[:2]
            assert memory.beyond(after, 2, {b"products"}) == [c for c in newest if c.table == b"products"][:2]
        kept = self.newest(memory.low, memory.head.version)
        assert memory.bytes == sum(ROW_BYTES + len(change.change) for change in kept)


TestMemory = Memory.TestCase
TestMemory.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@pytest.mark.parametrize(
    ("after", "head", "reaches"),
    [
        (5, Head(0, 9, 1), True),
        (4, Head(0, 9, 1), False),
        (5, Head(0, 7, 1), True),
        (5, Head(0, 12, 1), True),
        (5, Head(1, 12, 1), False),
        (5, Head(0, 9, 2), True),
        (5, Head(0, 9, 0), False),
        (5, Head(0, 20, 10), False),
    ],
)
def test_it_serves_who_stands_in_its_epoch_and_knows_of_what_it_has_not(after: int, head: Head, reaches: bool) -> None:
    """Deletions that were pruned when it was read are missing; ones that were pruned since are in it, which does no harm."""
    assert RecentChanges(5, Head(0, 9, 1), [row(7)], 0.0).reaches(after, head) is reaches


@given(st.integers(1, 10))
def test_what_was_read_too_long_ago_is_not_told(old: int) -> None:
    """A change that was put back meanwhile is missing there."""
    memory = RecentChanges(0, Head(0, old, 1), [row(version) for version in range(1, old + 1)], 0.0)
    memory.extend([row(old + 1)], Head(0, old + 1, 1), 10.0)
    memory.forget_read_before(5.0)
    assert (memory.low, memory.beyond(old, 9)) == (old, [row(old + 1)])
