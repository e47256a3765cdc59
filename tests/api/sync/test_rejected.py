"""What was pushed and rejected is kept with its code, listed until it is mended, and can be tried again (contract §3)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.api.conftest import Api, Person
from tests.api.rows import hire
from tests.api.tills import shop, till
from tests.device import Change, Line, insert, update
from tests.oracle import Oracle
from tests.sql_client import SqlClient

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def listed(person: Person, line: Line | None = None) -> list[dict[str, Any]]:
    """What waits, of one device or of all."""
    query = f"?device_id={line.device_id}" if line is not None else ""
    reply = await person.get(f"/api/sync/rejected{query}")
    assert reply.status == 200, reply.body
    rows: list[dict[str, Any]] = reply.body["rejected"]
    return rows


def tea(category: str = "later", **more: Any) -> Change:
    """A product whose category is still to come."""
    return insert("products", "tea", name="Tea", category_id=category, **more)


async def test_a_rejected_change_is_kept_and_listed_with_its_code(api: Api) -> None:
    owner, (one, _) = await shop(api)
    await one.push(insert("products", "p", name="Tea", sale_price="1.234"), insert("nowhere", "n", name="x"))
    assert [(row["table"], row["code"], row["data"]["name"]) for row in await listed(owner, one)] == [
        ("products", "bad_value", "Tea"),
        ("nowhere", "unknown_table", "x"),
    ]
    assert (await one.status())["rejected"] == 2


async def test_a_change_rejected_again_and_again_is_listed_once(api: Api) -> None:
    owner, (one, _) = await shop(api)
    change = tea()
    for _ in range(3):
        await one.push(change)
    [row] = await listed(owner, one)
    assert (row["code"], row["attempts"]) == ("unresolved_reference", 3)
    assert (await one.status())["rejected"] == 1


async def test_an_insert_that_was_sent_mended_waits_no_more(api: Api) -> None:
    owner, (one, _) = await shop(api)
    await one.push(insert("products", "p", name="Tea", sale_price="1.234"))
    assert (await one.push_one(insert("products", "p", name="Tea", sale_price="1.23")))["status"] == "applied"
    assert await listed(owner, one) == [] and (await one.status())["rejected"] == 0


async def test_an_edit_waits_until_the_very_same_one_was_taken(api: Api) -> None:
    owner, (one, _) = await shop(api)
    edit = update("products", None, sale_price="3.00", more={"local_id": "tea"})
    assert (await one.push_one(edit))["code"] == "not_found"
    await one.push(insert("products", "tea", name="Tea"), update("products", None, name="Assam", more={"local_id": "tea"}))
    assert [row["data"] for row in await listed(owner, one)] == [{"sale_price": "3.00"}], "another edit does not mend it"
    assert (await one.push_one(edit))["status"] == "applied"
    assert await listed(owner, one) == []


async def test_all_that_waits_is_tried_again_as_it_was_sent(api: Api, admin: SqlClient) -> None:
    owner, (one, _) = await shop(api)
    await one.push(tea(), update("products", None, sale_price="3.00", more={"local_id": "tea"}))
    assert len(await listed(owner, one)) == 2
    await one.push(insert("item_categories", "later", name="Drinks"))
    answer = await one.ask("/api/sync/retry", {"device_id": one.device_id})
    assert [result["status"] for result in answer["results"]] == ["applied", "applied"]
    row = Oracle(admin).row("products", owner.company_id, answer["id_mappings"]["tea"])
    assert row is not None and (row["name"], row["sale_price"]) == ("Tea", "3.00")
    assert await listed(owner, one) == []
    assert (await one.ask("/api/sync/retry", {"device_id": one.device_id}))["results"] == []


async def test_what_is_wrong_in_itself_gets_the_same_verdict_and_stays_listed(api: Api) -> None:
    owner, (one, _) = await shop(api)
    await one.push(insert("products", "p", name="Tea", sale_price="1.234"), insert("parties", "x" * 300, name="Long"))
    answer = await one.ask("/api/sync/retry", {"device_id": one.device_id})
    assert [(result["status"], result["code"]) for result in answer["results"]] == [("rejected", "bad_value")] * 2
    assert answer["id_mappings"] == {} and len(await listed(owner, one)) == 2


async def test_only_what_is_chosen_is_tried_again_and_with_it_its_group(api: Api) -> None:
    owner, (one, _) = await shop(api)
    await one.push(
        insert("parties", "a", name="Ann", more={"group": "g"}),
        tea(),
        insert("products", "milk", name="Milk", category_id="later", more={"group": "g"}),
    )
    await one.push(insert("item_categories", "later", name="Drinks"))
    [ann] = [row for row in await listed(owner, one) if row["table"] == "parties"]
    answer = await one.ask("/api/sync/retry", {"device_id": one.device_id, "ids": [ann["id"]]})
    assert sorted(answer["id_mappings"]) == ["a", "milk"]
    assert [row["local_id"] for row in await listed(owner, one)] == ["tea"]


async def test_groups_of_one_name_from_different_pushes_stay_apart(api: Api) -> None:
    _, (one, _) = await shop(api)
    for name, category in (("a", "later"), ("b", "never")):
        grouped = {"group": "g"}
        await one.push(
            insert("parties", name, name=name, more=grouped),
            insert("products", f"{name}-tea", name="Tea", category_id=category, more=grouped),
        )
    await one.push(insert("item_categories", "later", name="Drinks"))
    answer = await one.ask("/api/sync/retry", {"device_id": one.device_id})
    assert sorted(answer["id_mappings"]) == ["a", "a-tea"], "the other group still waits for its category"


async def test_two_retries_at_once_make_one_record(api: Api, admin: SqlClient) -> None:
    owner, (one, _) = await shop(api)
    await one.push(tea())
    await one.push(insert("item_categories", "later", name="Drinks"))
    answers = await asyncio.gather(*(one.ask("/api/sync/retry", {"device_id": one.device_id}) for _ in range(4)))
    assert sum(len(answer["results"]) for answer in answers) == 1
    assert len(Oracle(admin).table("products", owner.company_id)) == 1


async def test_a_retry_makes_a_change_of_that_device(api: Api) -> None:
    _, (one, other) = await shop(api)
    await one.push(tea())
    await one.push(insert("item_categories", "later", name="Drinks"))
    await one.ask("/api/sync/retry", {"device_id": one.device_id})
    [change] = [change for change in (await other.pull_all())[0] if change["table"] == "products"]
    assert (change["origin"], change["device_id"], change["local_id"]) == ("device", one.device_id, "tea")


async def test_who_may_resolve_sees_what_waits_of_every_device_and_others_their_own(api: Api, admin: SqlClient) -> None:
    owner, (one, other) = await shop(api)
    await one.push(insert("nowhere", "n", name="x"))
    await other.push(insert("nowhere", "n", name="y"))
    assert [(row["device_id"], row["data"]["name"]) for row in await listed(owner)] == [
        (one.device_id, "x"),
        (other.device_id, "y"),
    ]
    seller = await hire(api, admin, owner, "sales")
    assert (await seller.get(f"/api/sync/rejected?company_id={owner.company_id}")).status == 400
    theirs = await seller.get(f"/api/sync/rejected?company_id={owner.company_id}&device_id={one.device_id}")
    assert theirs.code == "device_mismatch"
    assert (await seller.post("/api/sync/retry", {"device_id": one.device_id, "company_id": owner.company_id})).status == 403


@pytest.mark.parametrize("body", [{}, {"device_id": ""}, {"device_id": "d", "ids": 7}, {"device_id": "d", "ids": ["7"]}])
async def test_a_malformed_retry_is_400(api: Api, body: dict[str, Any]) -> None:
    owner = await api.register()
    reply = await owner.post("/api/sync/retry", body)
    assert (reply.status, reply.code) == (400, "malformed")


async def test_ids_of_another_devices_changes_select_nothing(api: Api) -> None:
    owner, (one, _) = await shop(api)
    await one.push(tea())
    await one.push(insert("item_categories", "later", name="Drinks"))
    [row] = await listed(owner, one)
    thief = till(owner)
    answer = await thief.ask("/api/sync/retry", {"device_id": thief.device_id, "ids": [row["id"], row["id"] + 1]})
    assert answer["results"] == [] and len(await listed(owner, one)) == 1
