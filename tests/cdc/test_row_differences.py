"""Comparing and mending without a server: columns by their bytes, and the change that ends a difference."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc.newest import NewestImage
from cdc.row_differences import Kind, find_differences, mending_changes
from cdc.wire_columns import join_columns, split_columns
from schema.changes import Operation
from schema.tables import TABLES

UNITS = TABLES["units_of_measure"]
AT_US = 1_700_000_000_000_001
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def row(record: int = 7, company: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "id": record, "company_id": company, "name": "kg", "abbrev": None, "created_at": "2026-01-01 00:00:00.000000",
        "updated_at": "2026-01-01 00:00:00.000000", "deleted_at": None, **more,
    }  # fmt: skip


def image(data: str | None, *, is_deleted: bool = False, record: int = 7, company: int = 1) -> NewestImage:
    return NewestImage(company, record, 9, is_deleted, data, None)


def data_of(found: dict[str, Any]) -> str:
    (difference,) = find_differences(UNITS, [found], [])
    assert difference.row is not None
    return difference.row.data


@given(st.dictionaries(st.text(), JSON_VALUES, max_size=6))
def test_columns_come_apart_and_together_byte_for_byte(values: dict[str, Any]) -> None:
    text = orjson.dumps(values).decode()
    assert join_columns(split_columns(text)) == text
    assert {name: orjson.loads(value) for name, value in split_columns(text).items()} == orjson.loads(text)


@pytest.mark.parametrize("text", [None, "", "[1]", '{"a":1', '{"a"', '{"a":}', "{x}", "null"])
def test_what_is_no_object_has_no_columns(text: str | None) -> None:
    assert split_columns(text) == {}


def test_numbers_that_no_python_number_holds_keep_their_digits() -> None:
    assert split_columns('{"n": 1e400, "m": 12345678901234567890123.10 }') == {"n": "1e400", "m": "12345678901234567890123.10"}


def test_an_image_that_is_the_row_is_no_difference_also_in_another_order_of_columns() -> None:
    data = data_of(row())
    turned = join_columns(dict(reversed(split_columns(data).items())))
    for known in (data, turned):
        assert not list(find_differences(UNITS, [row()], [image(known)]))


@pytest.mark.parametrize(
    ("found", "known", "kind", "operation", "before"),
    [
        (row(), None, Kind.MISSING_IN_LOG, Operation.INSERT, None),
        (row(), image(None), Kind.MISSING_IN_LOG, Operation.INSERT, None),
        (row(deleted_at="2026-02-02 00:00:00.000000"), None, Kind.MISSING_IN_LOG, Operation.DELETE, None),
        (row(), image(data_of(row(name="g"))), Kind.DIFFERS, Operation.UPDATE, '{"name":"g"}'),
        (row(), image("damaged"), Kind.DIFFERS, Operation.UPDATE, "{}"),
        (row(), image(data_of(row()), is_deleted=True), Kind.DIFFERS, Operation.INSERT, "{}"),
        (
            row(deleted_at="2026-02-02 00:00:00.000000"),
            image(data_of(row())),
            Kind.DIFFERS,
            Operation.DELETE,
            '{"deleted_at":null}',
        ),
        (None, image(data_of(row())), Kind.MISSING_IN_TABLE, Operation.DELETE, '{"deleted_at":null}'),
    ],
)
def test_a_difference_is_mended_by_the_change_that_its_event_would_have_made(
    found: dict[str, Any] | None, known: NewestImage | None, kind: Kind, operation: Operation, before: str | None
) -> None:
    differences = list(find_differences(UNITS, [found] if found else [], [known] if known else []))
    (change,) = mending_changes(UNITS, differences, AT_US)
    assert [difference.kind for difference in differences] == [kind]
    assert (change.operation, change.before, change.is_deleted) == (operation, before, operation is Operation.DELETE)
    if found is not None:
        assert change.data == data_of(found)
    else:
        assert orjson.loads(change.data) == {**orjson.loads(data_of(row())), "deleted_at": "2023-11-14T22:13:20.000001Z"}


def test_a_tombstone_of_a_row_that_is_gone_is_no_difference() -> None:
    assert not list(find_differences(UNITS, [], [image(data_of(row()), is_deleted=True)]))


def test_a_live_record_whose_image_is_gone_is_deleted_by_its_number() -> None:
    (change,) = mending_changes(UNITS, find_differences(UNITS, [], [image(None)]), AT_US)
    told = orjson.loads(change.data)
    assert (told["id"], told["company_id"], told["name"]) == (7, 1, None)
    assert told["deleted_at"]


def test_a_row_that_moved_is_deleted_in_the_one_company_before_it_is_in_the_other() -> None:
    differences = find_differences(UNITS, [row(company=2)], [image(data_of(row()))])
    assert [(c.company_id, c.operation) for c in mending_changes(UNITS, differences, AT_US)] == [
        (1, Operation.DELETE),
        (2, Operation.INSERT),
    ]
