"""A shop's device without a network: what it makes of answers as the contract has them."""

from __future__ import annotations

from typing import Any

from cli.demo.books import NewRow
from cli.demo.device import PUSH_CHANGES_MAX, Device


def change(table: str, record_id: int, version: int, **more: Any) -> dict[str, Any]:
    """A change of a pull's answer."""
    data = {"id": record_id, **more.pop("data", {})}
    told = {"table": table, "record_id": record_id, "operation": "UPDATE", "data": data, "version": version}
    return {**told, "device_id": None, "local_id": None, **more}


def page(*changes: dict[str, Any], cursor: int = 9, **more: Any) -> dict[str, Any]:
    return {"changes": list(changes), "current_version": cursor, "has_more": False, **more}


def answer(*results: dict[str, Any], cursor: int = 9) -> dict[str, Any]:
    return {"results": list(results), "current_version": cursor, "conflicts": [], "pending": False}


def device_with(*changes: dict[str, Any]) -> Device:
    device = Device("phone-1", "Phone 1")
    assert not device.take_page(page(*changes))
    return device


def test_what_is_unsent_stays_over_what_is_pulled_until_it_is_sent() -> None:
    device = device_with(change("products", 7, 5, data={"name": "Tea", "sale_price": "1.00"}), change("products", 8, 6))
    device.edit("products", 7, {"sale_price": "2.00"})
    device.delete("products", 8)
    device.take_page(page(change("products", 7, 10, data={"name": "Green tea", "sale_price": "1.50"}), change("products", 8, 11)))
    assert device.store.rows["products"] == {7: {"id": 7, "name": "Green tea", "sale_price": "2.00"}}
    edit, deletion = device.next_batch()
    assert (edit.base_version, deletion.base_version) == (5, 6)
    told = {"server_data": {"id": 7, "name": "Green tea", "sale_price": "1.50"}, "server_version": 10, "server_deleted": False}
    device.take_pushed(
        [edit, deletion], answer({"status": "conflict", "record_id": 7, **told}, {"status": "applied", "record_id": 8})
    )
    assert device.store.rows["products"] == {7: told["server_data"]} and device.outbox == []


def test_an_edit_made_while_its_record_is_being_sent_is_not_lost() -> None:
    device = device_with(change("products", 7, 5, data={"name": "Tea"}))
    device.edit("products", 7, {"name": "Green tea"})
    batch = device.next_batch()
    device.edit("products", 7, {"name": "Black tea"})
    told = {"server_data": {"id": 7, "name": "White tea"}, "server_version": 6, "server_deleted": False}
    device.take_pushed(batch, answer({"status": "conflict", "record_id": 7, **told}))
    assert device.store.rows["products"][7]["name"] == "Black tea"
    assert [dict(left.data) for left in device.outbox] == [{"name": "Black tea"}]


def test_what_may_be_sent_again_stays_in_the_outbox_and_what_may_not_is_kept_for_a_person() -> None:
    device = Device("phone-1", "Phone 1")
    device.insert([NewRow("products", name, {"name": name}) for name in ("good", "later", "never")])
    results = (
        {"status": "applied", "record_id": 1},
        {"status": "rejected", "record_id": None, "retryable": True, "code": "unresolved_reference"},
        {"status": "rejected", "record_id": None, "retryable": False, "code": "bad_value"},
    )
    verdicts = device.take_pushed(device.next_batch(), answer(*results))
    assert [result["status"] for _, result in verdicts] == ["applied", "rejected", "rejected"]
    assert [left.local_id for left in device.outbox] == ["later"]
    assert [refused.local_id for refused, _ in device.refused] == ["never"]
    assert device.store.rows["products"] == {1: {"id": 1, "name": "good"}} and list(device.store.unsent["products"]) == ["later"]


def test_a_record_of_its_own_that_is_pulled_before_the_answer_came_is_known_by_its_local_id() -> None:
    device = Device("phone-1", "Phone 1")
    device.insert([NewRow("parties", "p", {"name": "Ada"})])
    device.take_page(page(change("parties", 4, 5, operation="INSERT", data={"name": "Ada"}, device_id="phone-1", local_id="p")))
    assert device.store.rows["parties"] == {4: {"id": 4, "name": "Ada"}} and device.store.unsent["parties"] == {}


def test_what_was_revoked_goes_and_after_a_410_all_but_the_unsent() -> None:
    device = device_with(change("products", 7, 5), change("settings", 1, 6))
    device.take_page(page(revoked=["settings"], cursor=12))
    assert device.store.rows["settings"] == {} and device.pull_body()["last_version"] == 12
    device.insert([NewRow("parties", "p", {"name": "Ada"})])
    device.start_again()
    assert not device.store.rows["products"] and device.pull_body()["last_version"] == 0
    assert [left.local_id for left in device.outbox] == ["p"] and device.store.unsent["parties"] == {"p": {"name": "Ada"}}


def test_a_push_holds_whole_groups() -> None:
    device = Device("phone-1", "Phone 1")
    for number in range(3):
        rows = [NewRow("stock_ledger", f"{number}-{line}", {}) for line in range(PUSH_CHANGES_MAX * 2 // 5)]
        device.insert(rows, group=f"sale-{number}")
    batch = device.next_batch()
    assert {sent.group for sent in batch} == {"sale-0", "sale-1"} and len(batch) == PUSH_CHANGES_MAX * 4 // 5
