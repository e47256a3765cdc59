"""Conflicts, rejected changes and their resolution; the policies merge, latest and manual over HTTP (contract §3, §4)."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from cli.embedded.process import Child
from tests.api.conftest import Api, Person
from tests.api.rows import hire
from tests.api.tills import drained, open_api, shop, till
from tests.device import Change, Line, delete, insert, update
from tests.servers import Database
from tests.sql_client import SqlClient

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def clash(api: Api, table: str = "accounts", **data: Any) -> tuple[Person, Line, Line, int, dict[str, Any]]:
    """Two devices edit the name of one record; returns the second one's push answer."""
    owner, (one, other) = await shop(api)
    made = {"name": "Cash", **({"account_type": "asset"} if table == "accounts" else {}), **data}
    record_id = (await one.push(insert(table, "a", **made)))["id_mappings"]["a"]
    await drained(one)
    await drained(other)
    assert (await one.push_one(update(table, record_id, name="Till")))["status"] == "applied"
    answer = await other.push(update(table, record_id, name="Drawer"))
    return owner, one, other, record_id, answer


async def conflicts_of(owner: Person, status: str = "open") -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = (await owner.get(f"/api/sync/conflicts?status={status}")).body["conflicts"]
    return listed


async def test_a_refused_edit_is_an_open_conflict_with_its_base_and_both_sides(api: Api) -> None:
    owner, _, other, record_id, answer = await clash(api)
    [told] = answer["conflicts"]
    assert (told["record_id"], told["type"], told["resolution"], told["fields"]) == (record_id, "update_update", "server", ["name"])
    [kept] = await conflicts_of(owner)
    assert kept["conflict_id"] == told["conflict_id"] and kept["device_id"] == other.device_id
    assert (kept["base"]["name"], kept["client_data"]["name"], kept["server_data"]["name"]) == ("Cash", "Drawer", "Till")
    assert (await other.status())["conflicts_open"] == 1


async def test_the_same_refused_edit_sent_again_is_the_same_conflict_and_verdict(api: Api) -> None:
    owner, (one, other) = await shop(api)
    record_id = (await one.push(insert("accounts", "a", name="Cash", account_type="asset")))["id_mappings"]["a"]
    await drained(other)
    await one.push_one(update("accounts", record_id, name="Till"))
    change = update("accounts", record_id, name="Drawer")
    answers = [await other.push(change) for _ in range(3)]
    assert {answer["results"][0]["status"] for answer in answers} == {"conflict"}
    assert len({answer["conflicts"][0]["conflict_id"] for answer in answers}) == 1
    assert len(await conflicts_of(owner)) == 1


@pytest.mark.parametrize(
    ("choice", "data", "name"), [("server", None, "Till"), ("client", None, "Drawer"), ("merged", {"name": "Both"}, "Both")]
)
async def test_resolving_writes_a_normal_change_that_every_device_gets(
    api: Api, choice: str, data: Change | None, name: str
) -> None:
    owner, one, _, record_id, answer = await clash(api)
    conflict_id = answer["conflicts"][0]["conflict_id"]
    cursor = await drained(one)
    body = {"device_id": one.device_id, "conflict_id": conflict_id, "choice": choice, **({"data": data} if data else {})}
    resolved = await owner.post("/api/sync/resolve", body)
    assert (resolved.status, resolved.body["server_data"]["name"]) == (200, name)
    changes, _ = await one.pull_all(cursor)
    assert [change["data"]["name"] for change in changes] == ([] if choice == "server" else [name])
    assert await conflicts_of(owner) == []
    [kept] = await conflicts_of(owner, "resolved")
    assert (kept["resolution"], kept["record_id"]) == (choice, record_id)


async def test_the_first_resolution_wins_and_later_ones_are_told_it(api: Api) -> None:
    owner, one, _, _, answer = await clash(api)
    body = {"device_id": one.device_id, "conflict_id": answer["conflicts"][0]["conflict_id"]}
    first = await owner.post("/api/sync/resolve", {**body, "choice": "server"})
    later = await owner.post("/api/sync/resolve", {**body, "choice": "client"})
    assert (first.body["already_resolved"], later.body["already_resolved"]) == (False, True)
    assert (later.body["resolution"], later.body["server_data"]["name"]) == ("server", "Till")


async def test_a_refused_deletion_can_be_resolved_for_the_device(api: Api) -> None:
    owner, (one, other) = await shop(api)
    record_id = (await one.push(insert("accounts", "a", name="Cash", account_type="asset")))["id_mappings"]["a"]
    await drained(other)
    await one.push_one(update("accounts", record_id, name="Till"))
    answer = await other.push(delete("accounts", record_id))
    [conflict] = answer["conflicts"]
    assert (answer["results"][0]["status"], conflict["type"]) == ("conflict", "delete_update")
    resolved = await owner.post("/api/sync/resolve", {"conflict_id": conflict["conflict_id"], "choice": "client"})
    assert resolved.body["server_deleted"] is True


async def test_an_edit_of_a_deleted_record_is_told_and_resolving_for_the_device_restores_it(api: Api) -> None:
    owner, (one, other) = await shop(api)
    record_id = (await one.push(insert("accounts", "a", name="Cash", account_type="asset")))["id_mappings"]["a"]
    await drained(other)
    await one.push_one(delete("accounts", record_id))
    answer = await other.push(update("accounts", record_id, name="Drawer"))
    [conflict] = answer["conflicts"]
    assert (conflict["type"], conflict["server_deleted"]) == ("update_delete", True)
    resolved = await owner.post("/api/sync/resolve", {"conflict_id": conflict["conflict_id"], "choice": "client"})
    assert (resolved.body["server_deleted"], resolved.body["server_data"]["name"]) == (False, "Drawer")


async def test_bad_resolutions_say_what_is_wrong(api: Api, admin: SqlClient) -> None:
    owner, _, _, _, answer = await clash(api)
    conflict_id = answer["conflicts"][0]["conflict_id"]
    for body, status in (
        ({"conflict_id": conflict_id, "choice": "mine"}, 400),
        ({"conflict_id": str(conflict_id), "choice": "client"}, 400),
        ({"conflict_id": conflict_id, "choice": "merged"}, 400),
        ({"conflict_id": conflict_id, "choice": "merged", "data": {"name": None}}, 422),
        ({"conflict_id": 10**9, "choice": "client"}, 404),
    ):
        assert (await owner.post("/api/sync/resolve", body)).status == status
    stranger = await api.register()
    assert (await stranger.post("/api/sync/resolve", {"conflict_id": conflict_id, "choice": "client"})).status == 404
    assert await conflicts_of(stranger) == []
    seller = await hire(api, admin, owner, "sales")
    company = f"?company_id={owner.company_id}"
    assert (await seller.post("/api/sync/resolve", {"conflict_id": conflict_id, "choice": "client"})).status == 403
    assert (await seller.get(f"/api/sync/conflicts{company}")).body["conflicts"] == []


async def test_merge_keeps_both_sides_and_the_first_of_a_clash(api: Api) -> None:
    _, (one, other) = await shop(api)
    record_id = (await one.push(insert("products", "a", name="Tea", sale_price="1.00")))["id_mappings"]["a"]
    await drained(one)
    await drained(other)
    await one.push_one(update("products", record_id, name="Green tea", description="first"))
    answer = await other.push(update("products", record_id, sale_price="2.00", description="second"))
    [result], [conflict] = answer["results"], answer["conflicts"]
    assert (result["status"], conflict["fields"], conflict["resolution"]) == ("merged", ["description"], "merged")
    row = result["server_data"]
    assert (row["name"], row["sale_price"], row["description"]) == ("Green tea", "2.00", "first")


async def test_a_merged_push_sent_again_gets_the_same_verdict_and_no_second_effect(api: Api) -> None:
    _, (one, other) = await shop(api)
    record_id = (await one.push(insert("products", "a", name="Tea")))["id_mappings"]["a"]
    await drained(other)
    await one.push_one(update("products", record_id, name="Green tea", description="first"))
    change = update("products", record_id, sale_price="2.00", description="second")
    first = await other.push(change)
    again = await other.push(change)
    assert (first["results"][0]["status"], again["results"][0]["status"]) == ("merged", "merged")
    assert "version" in first["results"][0] and "version" not in again["results"][0]


async def test_a_merged_field_is_not_reverted_by_the_same_devices_next_whole_row(api: Api) -> None:
    _, (one, other) = await shop(api)
    record_id = (await one.push(insert("products", "a", name="Tea", description="old")))["id_mappings"]["a"]
    await drained(one)
    await drained(other)
    await one.push_one(update("products", record_id, description="theirs"))
    whole = {"name": "Tea", "description": "mine", "sale_price": "2.00"}
    assert (await other.push_one(update("products", record_id, **whole)))["status"] == "merged"
    result = await other.push_one(update("products", record_id, **{**whole, "name": "Assam"}))
    assert result["server_data"]["description"] == "theirs" and result["server_data"]["name"] == "Assam"


async def test_latest_lets_the_later_edit_win_whichever_came_first(api: Api) -> None:
    _, (one, other) = await shop(api)
    record_id = (await one.push(insert("parties", "a", name="Ann")))["id_mappings"]["a"]
    await drained(one)
    await drained(other)
    at_ten = {"timestamp": "2026-02-01T10:00:00Z"}
    at_nine = {"timestamp": "2026-02-01T09:00:00Z"}
    at_eleven = {"timestamp": "2026-02-01T11:00:00Z"}
    assert (await one.push_one(update("parties", record_id, more=at_ten, phone="10")))["status"] == "applied"
    assert (await other.push_one(update("parties", record_id, more=at_nine, phone="9")))["status"] == "conflict"
    late = await other.push_one(update("parties", record_id, more=at_eleven, phone="11"))
    assert late["status"] == "applied"


async def test_latest_is_not_won_by_a_clock_that_runs_ahead(api: Api) -> None:
    owner, (one, _) = await shop(api)
    fast = till(owner)
    record_id = (await one.push(insert("parties", "a", name="Ann")))["id_mappings"]["a"]
    await drained(fast)
    await drained(one)
    ahead = {"timestamp": "2099-01-01T00:00:00Z"}
    await fast.push_one(update("parties", record_id, more=ahead, phone="fast"), sent_at="2099-01-01T00:00:00Z")
    record = await one.push_one(update("parties", record_id, more={"timestamp": "2098-12-31T00:00:00Z"}, phone="slow"))
    assert record["status"] == "applied", "the fast edit counts with the time it arrived"
    third = await one.push_one(update("parties", record_id, more={"timestamp": "2099-01-02T00:00:00Z"}, phone="third"))
    assert third["status"] == "applied", "a wrong clock locks no record"


async def test_latest_counts_a_resolution_with_the_time_it_was_made(api: Api) -> None:
    owner, (one, other) = await shop(api)
    record_id = (await one.push(insert("parties", "a", name="Ann")))["id_mappings"]["a"]
    await drained(one)
    await drained(other)
    at_ten, at_nine = {"timestamp": "2026-02-01T10:00:00Z"}, {"timestamp": "2026-02-01T09:00:00Z"}
    await one.push_one(update("parties", record_id, more=at_ten, phone="10"))
    refused = await other.push(update("parties", record_id, more=at_nine, phone="9"))
    body = {"device_id": other.device_id, "conflict_id": refused["conflicts"][0]["conflict_id"], "choice": "client"}
    resolved = await owner.post("/api/sync/resolve", body)
    assert resolved.body["server_data"]["phone"] == "9"
    at_eleven = {"timestamp": "2026-02-01T11:00:00Z"}
    late = await one.push_one(update("parties", record_id, more=at_eleven, phone="11"))
    assert (late["status"], late["server_data"]["phone"]) == ("conflict", "9"), "a person decided later than that edit was made"


async def test_latest_counts_a_plain_sql_write_with_its_commit_time(api: Api, admin: SqlClient) -> None:
    _, (one, _) = await shop(api)
    record_id = (await one.push(insert("parties", "a", name="Ann")))["id_mappings"]["a"]
    await drained(one)
    admin.run(f"UPDATE parties SET phone = 'sql' WHERE id = {record_id}")
    admin.wait_for_tailer()
    assert (await one.push_one(update("parties", record_id, phone="old")))["status"] == "conflict", "it was made in January"
    now = {"timestamp": "2099-01-01T00:00:00Z"}
    assert (await one.push_one(update("parties", record_id, more=now, phone="new")))["status"] == "applied"


async def test_latest_counts_a_plain_sql_write_that_the_change_log_does_not_hold_yet(
    api: Api, shared: Database, admin: SqlClient, tailer: Child
) -> None:
    _, (one, other) = await shop(api)
    record_id = (await one.push(insert("parties", "a", name="Ann")))["id_mappings"]["a"]
    await drained(one)
    await drained(other)
    await other.push_one(update("parties", record_id, more={"timestamp": "2026-02-01T09:00:00Z"}, phone="9"))
    admin.wait_for_tailer()
    tailer.pause()
    try:
        admin.run(f"UPDATE parties SET phone = 'sql' WHERE id = {record_id}")
        async with open_api(shared, push_wait_ms_max=0) as hasty:
            line = dataclasses.replace(one, http=hasty.nobody.http, url=hasty.nobody.url)
            late = await line.push_one(update("parties", record_id, more={"timestamp": "2026-02-01T10:00:00Z"}, phone="10"))
    finally:
        tailer.resume()
    assert (late["status"], late["server_data"]["phone"]) == ("conflict", "sql"), "made before the statement, and after the push"


async def test_manual_keeps_the_first_and_leaves_the_second_open(api: Api) -> None:
    owner, (one, other) = await shop(api)
    record_id = (await one.push(insert("settings", "a", name="theme", value={"dark": False})))["id_mappings"]["a"]
    await drained(one)
    await drained(other)
    await one.push_one(update("settings", record_id, value={"dark": True}))
    assert (await other.push_one(update("settings", record_id, value=[1])))["status"] == "conflict"
    [kept] = await conflicts_of(owner)
    assert kept["client_data"]["value"] == [1] and kept["server_data"]["value"] == {"dark": True}
