"""A row image pair → what devices are told of it (contract §2.4)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cdc.derive import derive_changes
from cdc.images import image_of
from schema.changes import Operation, RecordChange
from schema.errors import Halt
from schema.tables import TABLES, Table

TIME_US = 1_770_000_000_000_000
TIME = "2026-02-02T02:40:00Z"
DELETED = "2026-02-01 00:00:00.500000"


def image(table: Table, **more: Any) -> dict[str, Any]:
    """A row as the decoder gives it."""
    row: dict[str, Any] = dict.fromkeys(table.by_name)
    row |= {"id": 7, "created_at": "2026-01-01 00:00:00.000000", "updated_at": "2026-01-01 00:00:00.000001"}
    return row | ({} if table.is_scope else {"company_id": 3}) | more


PARTIES, BANKS, COMPANIES = TABLES["parties"], TABLES["payment_accounts"], TABLES["companies"]


def derived(table: Table, before: Any, after: Any, commit_time_us: int) -> list[RecordChange]:
    """The changes of two rows as the decoder gives them."""
    old, new = (image_of(table, row) if row is not None else None for row in (before, after))
    return derive_changes(table, old, new, commit_time_us)


def told(table: Table, before: Any, after: Any) -> list[tuple[int, Operation, dict[str, Any]]]:
    """Company, operation and data of each change."""
    return [(c.company_id, c.operation, json.loads(c.data)) for c in derived(table, before, after, TIME_US)]


def test_an_insert_is_the_row_in_wire_form_columns_in_order() -> None:
    row = image(PARTIES, name="Ann", credit_limit="12.50", is_active=1)
    [change] = derived(PARTIES, None, row, TIME_US)
    data = json.loads(change.data)
    assert (change.operation, change.company_id, change.record_id, change.is_deleted) == (Operation.INSERT, 3, 7, False)
    assert list(data) == [column.name for column in PARTIES.columns]
    assert (data["credit_limit"], data["is_active"], data["created_at"]) == ("12.50", True, "2026-01-01T00:00:00Z")
    assert data["updated_at"] == "2026-01-01T00:00:00.000001Z" and change.before is None


def test_an_update_keeps_what_the_changed_columns_were() -> None:
    [change] = derived(PARTIES, image(PARTIES, name="Ann", phone="1"), image(PARTIES, name="Bob", phone="1"), TIME_US)
    assert change.operation is Operation.UPDATE
    assert json.loads(change.before or "") == {"name": "Ann"}


def test_a_soft_delete_is_a_delete_with_the_last_row_and_a_restore_is_an_insert() -> None:
    live, dead = image(PARTIES, name="Ann"), image(PARTIES, name="Ann", deleted_at=DELETED)
    [(company, operation, data)] = told(PARTIES, live, dead)
    assert (company, operation, data["deleted_at"]) == (3, Operation.DELETE, "2026-02-01T00:00:00.500000Z")
    [(_, operation, data)] = told(PARTIES, dead, live)
    assert (operation, data["deleted_at"]) == (Operation.INSERT, None)


def test_a_hard_delete_is_a_delete_deleted_at_its_commit() -> None:
    [(_, operation, data)] = told(PARTIES, image(PARTIES, name="Ann"), None)
    assert (operation, data["name"], data["deleted_at"]) == (Operation.DELETE, "Ann", TIME)
    [(_, operation, data)] = told(PARTIES, image(PARTIES, deleted_at=DELETED), None)
    assert (operation, data["deleted_at"]) == (Operation.DELETE, "2026-02-01T00:00:00.500000Z")


def test_an_edit_of_a_deleted_row_stays_a_delete_and_a_row_born_deleted_is_one() -> None:
    [(_, operation, _)] = told(PARTIES, image(PARTIES, deleted_at=DELETED), image(PARTIES, deleted_at=DELETED, phone="1"))
    assert operation is Operation.DELETE
    [change] = derived(PARTIES, None, image(PARTIES, deleted_at=DELETED), TIME_US)
    assert change.operation is Operation.DELETE and change.is_deleted


@pytest.mark.parametrize("moved", [{"company_id": 4}, {"id": 8}, {"company_id": 4, "id": 8}])
def test_a_row_that_moves_leaves_without_new_values_and_arrives_without_old_ones(moved: dict[str, int]) -> None:
    before, after = image(PARTIES, name="old"), image(PARTIES, name="new", **moved)
    left, entered = derived(PARTIES, before, after, TIME_US)
    assert (left.company_id, left.record_id, left.operation) == (3, 7, Operation.DELETE)
    assert (entered.company_id, entered.record_id) == (after["company_id"], after["id"])
    assert entered.operation is Operation.INSERT and entered.before is None
    assert "new" not in left.data + str(left.before) and "old" not in entered.data
    assert json.loads(left.data)["deleted_at"] == TIME


def test_a_company_is_its_own_scope() -> None:
    [change] = derived(COMPANIES, None, image(COMPANIES, name="Books"), TIME_US)
    assert (change.company_id, change.record_id) == (7, 7)


def test_restricted_columns_are_sealed_and_private_ones_nowhere() -> None:
    row = image(BANKS, account_name="Main", account_number="123", ifsc_code=None)
    [change] = derived(BANKS, image(BANKS, account_number="122"), row, TIME_US)
    assert json.loads(change.sealed or "") == {"account_number": "123", "ifsc_code": None}
    assert "account_number" not in change.data and "122" not in f"{change.data}{change.before}"
    users = TABLES["users"]
    [change] = derived(users, image(users, login_id=1), image(users, login_id=2), TIME_US)
    assert "login_id" not in f"{change.data}{change.sealed}{change.before}"


def test_columns_that_are_not_declared_are_not_told() -> None:
    [(_, _, data)] = told(PARTIES, None, image(PARTIES, name="Ann", secret="x"))
    assert "secret" not in data


@pytest.mark.parametrize("is_before", [True, False])
def test_an_image_without_a_declared_column_halts(is_before: bool) -> None:
    whole, part = image(PARTIES), image(PARTIES)
    del part["phone"]
    with pytest.raises(Halt, match="phone"):
        derived(PARTIES, part if is_before else whole, whole if is_before else part, TIME_US)
