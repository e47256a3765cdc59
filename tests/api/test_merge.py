"""Merging, pure: nobody's field is invented, disjoint edits commute, a retry has no second effect (contract §3, Policies).

Each property is tried on some hundreds of examples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.merge import Outcome, compare, resolve
from schema.columns import Column, flag, integer, json_value, money
from schema.tables import Policy
from schema.values import wire_from_client

NAMES = ("a", "b", "c", "d")
COLUMNS: dict[str, Column] = {name: integer(name, "int", 0, 9) for name in NAMES}

values = st.one_of(st.none(), st.integers(0, 3))
rows = st.fixed_dictionaries(dict.fromkeys(NAMES, values))
edits = st.dictionaries(st.sampled_from(NAMES), values)
policies = st.sampled_from(list(Policy))

Row = dict[str, Any]


def often(test: Callable[..., None]) -> Callable[..., None]:
    """How often each property is tried: together some thousands of examples."""
    return settings(max_examples=200, deadline=None)(test)


def apply(policy: Policy, base: Row | None, server: Row, sent: Row, *, is_later: bool = False) -> tuple[Outcome, Row]:
    """What becomes of a change, and the row after it."""
    resolution = resolve(policy, compare(COLUMNS, base, server, sent), is_later=is_later)
    return resolution.outcome, {**server, **resolution.values}


@often
@given(policies, rows, rows, edits, st.booleans())
def test_every_field_of_the_result_is_the_servers_or_what_was_sent(
    policy: Policy, base: Row, server: Row, sent: Row, is_later: bool
) -> None:
    _, after = apply(policy, base, server, sent, is_later=is_later)
    assert after.keys() == server.keys()
    for name, value in after.items():
        assert value == server[name] or (name in sent and value == sent[name])


@often
@given(policies, rows, edits, st.booleans())
def test_where_nobody_else_changed_anything_the_change_applies_as_sent(policy: Policy, row: Row, sent: Row, is_later: bool) -> None:
    outcome, after = apply(policy, row, row, sent, is_later=is_later)
    assert after == {**row, **sent}
    assert outcome is (Outcome.NOTHING if after == row else Outcome.APPLIED)


@often
@given(policies, rows, rows, edits, st.booleans())
def test_what_was_applied_or_merged_and_is_sent_again_with_itself_as_base_has_no_second_effect(
    policy: Policy, base: Row, server: Row, sent: Row, is_later: bool
) -> None:
    outcome, after = apply(policy, base, server, sent, is_later=is_later)
    if outcome in (Outcome.APPLIED, Outcome.MERGED):
        again, still = apply(policy, {**base, **sent}, after, sent, is_later=is_later)
        assert (again, still) == (Outcome.NOTHING, after)


@often
@given(rows, edits, edits)
def test_disjoint_edits_of_one_base_commute_under_merge(base: Row, one: Row, other: Row) -> None:
    other = {name: value for name, value in other.items() if name not in one}
    results = []
    for first, second in ((one, other), (other, one)):
        _, between = apply(Policy.MERGE, base, base, first)
        outcome, after = apply(Policy.MERGE, base, between, second)
        assert outcome is not Outcome.REFUSED
        results.append(after)
    assert results[0] == results[1] == {**base, **one, **other}


@often
@given(rows, rows, edits)
def test_merge_keeps_what_only_one_side_changed_and_the_servers_value_of_what_both_did(base: Row, server: Row, sent: Row) -> None:
    edited = compare(COLUMNS, base, server, sent)
    resolution = resolve(Policy.MERGE, edited)
    after = {**server, **resolution.values}
    for name in NAMES:
        is_mine = name in sent and sent[name] != base[name]
        is_theirs = server[name] != base[name]
        assert after[name] == (sent[name] if is_mine and not is_theirs else server[name])
    clashes = {n for n in sent if sent[n] != base[n] and server[n] != base[n] and sent[n] != server[n]}
    assert set(edited.clashes) == clashes
    if edited.device:
        assert set(resolution.fields) == clashes


@often
@given(st.sampled_from([Policy.SERVER_WINS, Policy.MANUAL]), rows, rows, edits, st.booleans())
def test_server_wins_and_manual_leave_a_row_that_others_changed(
    policy: Policy, base: Row, server: Row, sent: Row, is_later: bool
) -> None:
    edited = compare(COLUMNS, base, server, sent)
    outcome, after = apply(policy, base, server, sent, is_later=is_later)
    if edited.is_changed_by_others and edited.device:
        assert (outcome, after) == (Outcome.REFUSED, server)


@often
@given(rows, rows, edits)
def test_under_latest_the_later_side_wins_the_whole_record(base: Row, server: Row, sent: Row) -> None:
    edited = compare(COLUMNS, base, server, sent)
    outcome, after = apply(Policy.LATEST, base, server, sent, is_later=True)
    if edited.device and edited.is_changed_by_others:
        assert (outcome, after) == (Outcome.APPLIED, {**server, **sent})
    outcome, after = apply(Policy.LATEST, base, server, sent, is_later=False)
    if edited.device and edited.is_changed_by_others:
        assert (outcome, after) == (Outcome.REFUSED, server)


@often
@given(policies, rows, edits)
def test_without_a_base_every_difference_counts_as_changed_by_both(policy: Policy, server: Row, sent: Row) -> None:
    edited = compare(COLUMNS, None, server, sent)
    differing = {name for name, value in sent.items() if server[name] != value}
    assert set(edited.device) == set(edited.clashes) == differing
    outcome, after = apply(policy, None, server, sent)
    assert after == server and outcome is (Outcome.REFUSED if differing else Outcome.NOTHING)


@often
@given(rows, edits)
def test_a_field_both_sides_set_to_the_same_value_is_no_clash(base: Row, sent: Row) -> None:
    for policy in Policy:
        outcome, after = apply(policy, base, {**base, **sent}, sent)
        assert (outcome, after) == (Outcome.NOTHING, {**base, **sent})


@often
@given(policies, rows, rows, edits)
def test_absent_keeps_and_columns_that_are_not_compared_never_count(policy: Policy, base: Row, server: Row, sent: Row) -> None:
    compared = {name: COLUMNS[name] for name in ("a", "b")}
    resolution = resolve(policy, compare(compared, base, server, sent), is_later=True)
    assert set(resolution.values) <= set(sent) & {"a", "b"}


@pytest.mark.parametrize("policy", list(Policy))
def test_a_column_that_the_base_does_not_have_yet_is_unchanged_by_others(policy: Policy) -> None:
    old = {"a": 1}
    outcome, after = apply(policy, old, {"a": 1, "b": 2, "c": 3, "d": None}, {"a": 2})
    assert (outcome, after["a"], after["b"]) == (Outcome.APPLIED, 2, 2)


@dataclass
class Writer:
    """A device that edited a row once, and sends the edit as often as it likes; `base` is the row as it had it."""

    base: Row
    edit: Row
    has_pushed: bool = False

    def push(self, policy: Policy, server: Row) -> tuple[Outcome, Row]:
        """What it pushed before is part of what it believes."""
        outcome, after = apply(policy, {**self.base, **self.edit} if self.has_pushed else self.base, server, self.edit)
        self.has_pushed = self.has_pushed or outcome in (Outcome.APPLIED, Outcome.MERGED)
        return outcome, after


@often
@given(rows, st.lists(st.sampled_from([0, 1, 2]), min_size=4, max_size=4), st.lists(values, min_size=4, max_size=4), st.data())
def test_disjoint_edits_of_three_devices_give_one_row_in_whatever_order_and_however_often_they_are_sent(
    base: Row, owners: list[int], new: list[Any], data: st.DataObject
) -> None:
    writers = [
        Writer(base, {n: v for n, v, owner in zip(NAMES, new, owners, strict=True) if owner == number}) for number in range(3)
    ]
    first = data.draw(st.permutations(range(3)))
    again = data.draw(st.lists(st.sampled_from(range(3)), max_size=6))
    server = base
    for number in (*first, *again):
        had_pushed = writers[number].has_pushed
        outcome, after = writers[number].push(Policy.MERGE, server)
        assert outcome is not Outcome.REFUSED
        if had_pushed:
            assert (outcome, after) == (Outcome.NOTHING, server), "a retry changes nothing"
        server = after
    assert server == {**base, **dict(zip(NAMES, new, strict=True))}


@often
@given(rows, edits, edits)
def test_of_two_edits_of_a_field_the_first_that_is_committed_stays_and_the_second_is_told(base: Row, one: Row, other: Row) -> None:
    _, between = apply(Policy.MERGE, base, base, one)
    resolution = resolve(Policy.MERGE, compare(COLUMNS, base, between, other))
    after = {**between, **resolution.values}
    contested = {n for n in one.keys() & other.keys() if one[n] != base[n] and other[n] != base[n] and one[n] != other[n]}
    assert set(resolution.fields) == contested
    assert all(after[name] == one[name] for name in contested)
    again = resolve(Policy.MERGE, compare(COLUMNS, base, between, other))
    assert again == resolution, "the same question has the same answer"
    twice, still = apply(Policy.MERGE, {**base, **other}, after, other)
    assert (still, twice) == (after, Outcome.NOTHING), "and what was merged does not take back what stayed"


@often
@given(rows, rows, edits)
def test_under_merge_each_field_is_decided_by_itself(base: Row, server: Row, sent: Row) -> None:
    _, whole = apply(Policy.MERGE, base, server, sent)
    for name, column in COLUMNS.items():
        alone = resolve(Policy.MERGE, compare({name: column}, base, server, sent))
        assert {**server, **alone.values}[name] == whole[name]


def test_inputs_are_left_as_they_are() -> None:
    base, server, sent = {"a": 1, "b": 1}, {"a": 2, "b": 1}, {"a": 3, "b": 3}
    edited = compare(COLUMNS, base, server, sent)
    resolve(Policy.MERGE, edited)
    assert (base, server, sent) == ({"a": 1, "b": 1}, {"a": 2, "b": 1}, {"a": 3, "b": 3})


TYPED: dict[str, Column] = {"price": money("price"), "is_active": flag("is_active"), "value": json_value("value")}
cents = st.integers(-99_999, 99_999)


@often
@given(policies, cents, st.booleans(), st.dictionaries(st.sampled_from("xyz"), st.integers(0, 9), min_size=2), st.booleans())
def test_a_value_spelled_otherwise_is_no_edit(policy: Policy, price: int, is_active: bool, value: Row, is_later: bool) -> None:
    text = f"{price / 100:.2f}"
    row = {"price": text, "is_active": is_active, "value": value}
    typed = {"price": text.rstrip("0").rstrip("."), "is_active": int(is_active), "value": dict(reversed(list(value.items())))}
    sent = {name: wire_from_client(TYPED[name], item) for name, item in typed.items()}
    for base, server in ((row, row), (row, sent), (sent, row)):
        edited = compare(TYPED, base, server, sent)
        assert (edited.device, edited.is_changed_by_others) == ({}, False)
        assert resolve(policy, edited, is_later=is_later).outcome is Outcome.NOTHING
