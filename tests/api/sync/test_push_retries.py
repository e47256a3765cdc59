"""Push: changes sent again, alone, with others, late or twice, take effect once (contract §3, Identity and retries)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import Api
from tests.api.tills import drained, shop
from tests.device import Line, delete, insert, update
from tests.oracle import Oracle
from tests.sql_client import SqlClient

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def unit(line: Line, **values: Any) -> int:
    """A unit of measure, and its id."""
    result = await line.push_one(insert("units_of_measure", "u", name="Kilogram", abbrev="kg", **values))
    return int(result["record_id"])


async def versions(admin: SqlClient, company_id: int) -> int:
    """How many changes the company's log holds."""
    return int(admin.value("SELECT COUNT(*) FROM sync_changes WHERE company_id = %s AND for_device IS NULL", company_id))


async def test_a_push_of_two_edits_of_a_record_delivered_twice_applies_each_once(api: Api, admin: SqlClient) -> None:
    owner, (line, _) = await shop(api)
    made = await unit(line)
    edits = [update("units_of_measure", made, name="Kilo"), update("units_of_measure", made, name="Kilos")]
    first = await line.push(*edits)
    assert [result["status"] for result in first["results"]] == ["applied", "applied"]
    before = await versions(admin, owner.company_id)
    again = await line.push(*edits)
    assert [result["status"] for result in again["results"]] == ["noop", "noop"]
    assert await versions(admin, owner.company_id) == before
    assert Oracle(admin).row("units_of_measure", owner.company_id, made)["name"] == "Kilos"  # type: ignore[index]


async def test_a_retry_that_brings_more_edits_of_the_record_applies_the_new_ones_only(api: Api, admin: SqlClient) -> None:
    owner, (line, _) = await shop(api)
    made = await unit(line)
    same = "2026-03-01T10:00:00Z"
    edits = [
        update("units_of_measure", made, name="Kilo", more={"timestamp": same}),
        update("units_of_measure", made, name="Kilos", more={"timestamp": same}),
    ]
    await line.push(*edits)
    before = await versions(admin, owner.company_id)
    again = await line.push(*edits, update("units_of_measure", made, abbrev="KG", more={"timestamp": same}))
    assert [result["status"] for result in again["results"]] == ["noop", "noop", "applied"]
    assert await versions(admin, owner.company_id) == before + 1
    row = Oracle(admin).row("units_of_measure", owner.company_id, made)
    assert row is not None and (row["name"], row["abbrev"]) == ("Kilos", "KG")


async def test_a_delayed_copy_of_an_older_edit_takes_nothing_back(api: Api, admin: SqlClient) -> None:
    owner, (line, _) = await shop(api)
    made = await unit(line)
    older = update("units_of_measure", made, name="Kilo", more={"timestamp": "2026-03-01T10:00:00Z"})
    newer = update("units_of_measure", made, name="Kilos", more={"timestamp": "2026-03-01T10:00:01Z"})
    await line.push(older)
    await line.push(older, newer)
    late = await line.push(older)
    assert late["results"][0]["status"] == "noop"
    assert late["results"][0]["server_data"]["name"] == "Kilos", "told what stands"
    assert Oracle(admin).row("units_of_measure", owner.company_id, made)["name"] == "Kilos"  # type: ignore[index]


async def test_a_value_taken_back_and_set_again_under_one_timestamp_is_set_again(api: Api, admin: SqlClient) -> None:
    owner, (line, _) = await shop(api)
    made = await unit(line)
    same = {"timestamp": "2026-03-01T10:00:00Z"}
    for name in ("Kilo", "Kilogram", "Kilo"):
        assert (await line.push_one(update("units_of_measure", made, name=name, more=same)))["status"] == "applied"
    assert Oracle(admin).row("units_of_measure", owner.company_id, made)["name"] == "Kilo"  # type: ignore[index]


async def test_a_delete_sent_again_after_the_record_was_restored_does_not_delete_it_again(api: Api, admin: SqlClient) -> None:
    owner, (line, other) = await shop(api)
    made = await unit(line)
    gone = delete("units_of_measure", made)
    assert (await line.push_one(gone))["status"] == "applied"
    admin.run(f"UPDATE units_of_measure SET deleted_at = NULL WHERE id = {made}")
    await drained(other)
    again = await line.push_one(gone)
    assert (again["status"], again["server_deleted"]) == ("noop", False), "told that it is back"
    row = Oracle(admin).row("units_of_measure", owner.company_id, made)
    assert row is not None and row["deleted_at"] is None


async def test_a_whole_outbox_sent_again_in_other_batches_changes_nothing(api: Api, admin: SqlClient) -> None:
    owner, (line, other) = await shop(api)
    outbox = [
        insert("units_of_measure", "k", name="Kilogram"),
        update("units_of_measure", None, name="Kilo", more={"local_id": "k"}),
        insert("products", "tea", name="Tea", uom_id="k"),
        update("products", None, sale_price="2.00", more={"local_id": "tea"}),
        update("units_of_measure", None, abbrev="kg", more={"local_id": "k"}),
        insert("units_of_measure", "g", name="Gram"),
        delete("units_of_measure", None, more={"local_id": "g"}),
    ]
    await line.push(*outbox)
    await drained(other)
    before = await versions(admin, owner.company_id)
    rows = Oracle(admin).table("units_of_measure", owner.company_id)
    for size in (7, 1, 2, 3):
        for start in range(0, len(outbox), size):
            answer = await line.push(*outbox[start : start + size])
            assert {result["status"] for result in answer["results"]} <= {"noop", "duplicate"}, answer["results"]
    await drained(other)
    assert await versions(admin, owner.company_id) == before
    assert Oracle(admin).table("units_of_measure", owner.company_id) == rows
