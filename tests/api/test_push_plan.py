"""Which changes of a push stand or fall together, and in which order: pure (contract §3, Atomicity)."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from api.push_plan import plan_groups, split_runs
from api.push_request import PushedChange
from schema.tables import TABLES

DOCUMENTS = (
    "transactions",
    "transaction_lines",
    "invoices",
    "account_transactions",
    "stock_ledger",
    "payment_ins",
    "payment_in_lines",
)


def changes(*described: tuple[str, str, str | None, dict[str, Any]], group: str | None = None) -> list[PushedChange]:
    """(operation, table, local_id, data) as a push holds them."""
    return [
        PushedChange(
            seq=seq, table=table, operation=operation, local_id=local_id, data=data, timestamp=None, record_id=None,
            base_version=None, group=group,
        )
        for seq, (operation, table, local_id, data) in enumerate(described)
    ]  # fmt: skip


def planned(listed: list[PushedChange]) -> list[list[int]]:
    """The plan as places in the push."""
    return [[change.seq for change in group] for group in plan_groups(listed)]


def test_changes_that_have_nothing_to_do_with_one_another_stay_alone_and_in_order() -> None:
    listed = changes(*(("INSERT", "parties", str(n), {}) for n in range(5)))
    assert planned(listed) == [[0], [1], [2], [3], [4]]


def test_a_change_comes_after_the_new_row_it_refers_to() -> None:
    listed = changes(
        ("INSERT", "products", "p", {"category_id": "c", "uom_id": 7}),
        ("INSERT", "item_categories", "c", {"parent_category_id": "b"}),
        ("INSERT", "item_categories", "b", {}),
        ("INSERT", "units_of_measure", "7", {}),
    )
    order = [seq for group in planned(listed) for seq in group]
    assert order.index(0) > order.index(1) > order.index(2) and order.index(0) > order.index(3)
    assert len(planned(listed)) == 4, "master data is no group"


def test_a_document_with_its_parts_is_one_group_and_two_documents_are_two() -> None:
    listed = changes(
        ("INSERT", "transaction_lines", "l1", {"transaction_id": "t1"}),
        ("INSERT", "invoices", "i1", {"transaction_id": "t1"}),
        ("INSERT", "stock_ledger", "s1", {"invoice_id": "i1", "product_id": "p"}),
        ("INSERT", "transactions", "t2", {}),
        ("INSERT", "account_transactions", "a2", {"transaction_id": "t2"}),
        ("INSERT", "transactions", "t1", {}),
        ("INSERT", "products", "p", {}),
        ("INSERT", "payment_ins", "r", {}),
        ("INSERT", "payment_in_lines", "rl", {"payment_in_id": "r"}),
    )
    groups = {frozenset(group) for group in planned(listed)}
    assert groups == {frozenset({0, 1, 2, 5}), frozenset({3, 4}), frozenset({6}), frozenset({7, 8})}
    order = [seq for group in planned(listed) for seq in group]
    assert order.index(5) < order.index(0) and order.index(6) < order.index(2)


def test_an_explicit_group_wins_over_the_default_one() -> None:
    listed = changes(("INSERT", "transactions", "t", {}), ("INSERT", "parties", "p", {}), group="g")
    assert planned(listed) == [[0, 1]]


def test_an_edit_before_the_insert_of_its_record_comes_after_it() -> None:
    listed = changes(("UPDATE", "parties", "a", {}), ("INSERT", "parties", "a", {}), ("UPDATE", "parties", "a", {}))
    assert planned(listed) == [[1], [0], [2]]


def test_rows_that_refer_to_one_another_in_a_circle_are_one_group() -> None:
    listed = changes(
        ("INSERT", "item_categories", "a", {"parent_category_id": "b"}),
        ("INSERT", "item_categories", "b", {"parent_category_id": "a"}),
        ("INSERT", "item_categories", "c", {}),
    )
    assert sorted(map(sorted, planned(listed))) == [[0, 1], [2]]


local_ids = st.sampled_from(["1", "2", "3"])


@st.composite
def pushes(draw: st.DrawFn) -> list[PushedChange]:
    """Pushes in which everything refers to everything."""
    listed = []
    for seq in range(draw(st.integers(0, 12))):
        table = TABLES[draw(st.sampled_from([*DOCUMENTS, "item_categories", "products", "parties"]))]
        data = {column: draw(local_ids) for column in table.references if draw(st.booleans())}
        operation = draw(st.sampled_from(["INSERT", "INSERT", "UPDATE", "DELETE"]))
        listed.append(
            PushedChange(
                seq=seq,
                table=table.name,
                operation=operation,
                local_id=draw(local_ids),
                data=data,
                timestamp=None,
                record_id=draw(st.sampled_from([None, None, 1, 2])) if operation != "INSERT" else None,
                base_version=None,
                group=draw(st.sampled_from([None, None, "x", "y"])),
            )
        )
    return listed


@settings(max_examples=100, deadline=None)
@given(pushes())
def test_every_change_is_planned_once_and_groups_are_never_torn(listed: list[PushedChange]) -> None:
    groups = planned(listed)
    assert sorted(seq for group in groups for seq in group) == list(range(len(listed)))
    place = {seq: number for number, group in enumerate(groups) for seq in group}
    for one in listed:
        for other in listed:
            if one.group is not None and one.group == other.group:
                assert place[one.seq] == place[other.seq]


@settings(max_examples=100, deadline=None)
@given(pushes())
def test_between_groups_what_is_needed_comes_first_and_changes_of_one_record_keep_their_order(listed: list[PushedChange]) -> None:
    groups = planned(listed)
    place = {seq: number for number, group in enumerate(groups) for seq in group}
    first_insert: dict[tuple[str, str | None], int] = {}
    for change in listed:
        if change.operation == "INSERT":
            first_insert.setdefault((change.table, change.local_id), change.seq)
    for change in listed:
        for column, target in TABLES[change.table].references.items():
            needed = first_insert.get((target, change.data.get(column)))
            if needed is not None and needed != change.seq:
                assert place[needed] <= place[change.seq]
    for one in listed:
        for other in listed:
            is_same = (one.table, one.local_id) == (other.table, other.local_id)
            made_here = first_insert.get((one.table, one.local_id))
            if is_same and one.seq < other.seq and made_here not in (one.seq, other.seq):
                assert place[one.seq] <= place[other.seq]
            if is_same and made_here == one.seq != other.seq:
                assert place[one.seq] <= place[other.seq], "the INSERT comes first"


@settings(max_examples=100, deadline=None)
@given(pushes())
def test_runs_are_inserts_of_one_table_under_different_local_ids(listed: list[PushedChange]) -> None:
    runs = split_runs(listed)
    assert [change for run in runs for change in run] == listed
    for run in runs:
        if len(run) > 1:
            assert {(change.operation, change.table) for change in run} == {("INSERT", run[0].table)}
            assert len({change.local_id for change in run}) == len(run)
            assert run[0].table not in TABLES[run[0].table].references.values()
