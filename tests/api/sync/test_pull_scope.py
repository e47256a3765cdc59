"""Pull: companies, roles, devices: what may be seen, what is lost and what is gained (contract §2.9, domain.md)."""

from __future__ import annotations

import asyncio
import json

import pytest

from schema.tables import TABLES
from tests.api.conftest import Api
from tests.api.rows import create_all, hire
from tests.api.tills import shop, till
from tests.device import Refused, delete, insert, update
from tests.oracle import Oracle, comparable_rows
from tests.sql_client import SqlClient

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_two_companies_never_see_each_other(api: Api, admin: SqlClient) -> None:
    shops = [await shop(api, 1) for _ in range(2)]
    for owner, (line,) in shops:
        await create_all(owner)
        await line.push(insert("parties", "secret", name=f"secret of {owner.company_id}"))
    for (owner, (line,)), (other, _) in zip(shops, reversed(shops), strict=True):
        changes, _ = await line.pull_all()
        assert comparable_rows({t: {c["record_id"]: c["data"] for c in changes if c["table"] == t} for t in TABLES}) == (
            comparable_rows(Oracle(admin).rows(owner.company_id))
        )
        assert f"secret of {other.company_id}" not in json.dumps(changes)
        assert all(c["data"].get("company_id", owner.company_id) == owner.company_id for c in changes)


async def test_what_came_since_is_of_the_devices_own_company_only(api: Api) -> None:
    (owner, (line,)), (_, (stranger,)) = [await shop(api, 1) for _ in range(2)]
    _, cursor = await line.pull_all()
    await stranger.push(insert("parties", "theirs", name="theirs"))
    await line.push(insert("parties", "ours", name="ours"))
    for more in ({}, {"history": True}, {"tables": ["parties"]}):
        changes, _ = await line.pull_all(cursor, **more)
        assert {change["data"]["company_id"] for change in changes} == {owner.company_id}


async def test_a_revoked_device_is_given_nothing_though_its_token_serves_every_device(api: Api, admin: SqlClient) -> None:
    owner, (line, other) = await shop(api)
    _, cursor = await line.pull_all()
    admin.run(f"UPDATE devices SET revoked_at = NOW(6) WHERE device_id = '{line.device_id}'")
    api_scopes_are_kept_for_seconds = 2.2
    await asyncio.sleep(api_scopes_are_kept_for_seconds)
    for again in (line, till(await api.login(owner.email), line.device_id)):
        with pytest.raises(Refused) as refused:
            await again.pull(cursor)
        assert (refused.value.status, refused.value.code, refused.value.body["wipe"]) == (401, "device_revoked", True)
    assert (await other.pull(0))["success"] is True


async def test_a_user_of_two_companies_chooses_one_and_each_has_its_own_feed(api: Api, admin: SqlClient) -> None:
    owner, (line, _) = await shop(api)
    second, _ = await shop(api)
    admin.run(
        "INSERT INTO users (company_id, login_id, full_name, role) "
        f"VALUES ({second.company_id}, {owner.login_id}, 'Guest', 'admin')"
    )
    admin.wait_for_tailer()
    fresh = till(owner)
    api_scopes_are_kept_for_seconds = 2.2
    await asyncio.sleep(api_scopes_are_kept_for_seconds)
    with pytest.raises(Refused) as refused:
        await fresh.pull(0)
    assert (refused.value.status, refused.value.code) == (400, "company_required")
    feeds = [await till(owner, fresh.device_id, company_id=company).pull_all() for company in (owner.company_id, second.company_id)]
    for (changes, _), company in zip(feeds, (owner.company_id, second.company_id), strict=True):
        assert {c["record_id"] for c in changes if c["table"] == "companies"} == {company}
    assert (await till(owner, line.device_id, company_id=owner.company_id).pull(0))["success"]


async def test_private_columns_never_leave_and_restricted_ones_only_for_roles_that_may(api: Api, admin: SqlClient) -> None:
    owner, (line, _) = await shop(api)
    await create_all(owner)
    changes, _ = await line.pull_all(history=True)
    assert "login_id" not in json.dumps(changes)
    [bank] = [c["data"] for c in changes if c["table"] == "payment_accounts"]
    assert (bank["account_number"], bank["ifsc_code"]) == ("123", "X1")
    for role in ("admin", "accountant", "viewer", "sales"):
        person = await hire(api, admin, owner, role)
        admin.wait_for_tailer()
        page = await till(person).pull(0)
        [bank] = [c["data"] for c in page["changes"] if c["table"] == "payment_accounts"]
        assert ("account_number" in bank, "ifsc_code" in bank) == (role in ("admin", "accountant"),) * 2, role
        assert "login_id" not in json.dumps(page)
        held = {(c["table"], c["record_id"]): c["data"] for c in page["changes"]}
        wanted = Oracle(admin).rows(owner.company_id, role=role)
        assert held == {(t, i): row for t, rows in wanted.items() for i, row in rows.items()}, role
        assert set(page.get("revoked", [])) == set(TABLES) - set(wanted)


async def test_a_told_row_hides_what_a_pull_hides(api: Api, admin: SqlClient) -> None:
    owner, (line, _) = await shop(api)
    rows = await create_all(owner)
    sales = await hire(api, admin, owner, "sales")
    refused = await till(sales).push(
        update("payment_accounts", rows["payment_accounts"]["id"], account_name="Mine", account_number="9"),
        update("users", rows["users"]["id"], full_name="Me"),
    )
    assert [r["code"] for r in refused["results"]] == ["forbidden", "forbidden"]
    assert '"account_number"' not in json.dumps(refused) and "login_id" not in json.dumps(refused)
    assert "Cy" not in json.dumps(refused), "a table that the role may not read is not told either"
    told = await line.push_one(update("users", rows["users"]["id"], full_name=None))
    assert "login_id" not in json.dumps(told)


async def test_a_viewer_reads_and_whatever_it_pushes_is_refused_and_told(api: Api, admin: SqlClient) -> None:
    owner, (line, _) = await shop(api)
    party = (await line.push(insert("parties", "a", name="Ann")))["id_mappings"]["a"]
    viewer = till(await hire(api, admin, owner, "viewer"))
    answer = await viewer.push(insert("parties", "b", name="Bob"), update("parties", party, name="Eve"), delete("parties", party))
    assert [r["code"] for r in answer["results"]] == ["forbidden"] * 3
    assert answer["results"][0]["status"] == "rejected" and answer["id_mappings"] == {}
    for result in answer["results"][1:]:
        assert result["status"] == "conflict", "a viewer must not go on believing what was refused"
        assert result["server_data"]["name"] == "Ann" and result["server_deleted"] is False
    assert {row["name"] for row in Oracle(admin).table("parties", owner.company_id).values()} == {"Ann"}


async def test_sales_writes_its_own_sales_only(api: Api, admin: SqlClient) -> None:
    owner, (line, _) = await shop(api)
    sale = {"type": "sale", "date": "2026-01-01", "is_posted": False}
    theirs = (await line.push(insert("transactions", "t", **sale)))["id_mappings"]["t"]
    sales = till(await hire(api, admin, owner, "sales"))
    answer = await sales.push(
        insert("transactions", "mine", **sale),
        insert("transactions", "purchase", **{**sale, "type": "purchase"}),
        update("transactions", theirs, description="mine now"),
        insert("transaction_lines", "l", transaction_id=theirs, more={"group": "l"}),
        insert("accounts", "a", name="Cash", account_type="asset"),
        insert("parties", "p", name="Ann"),
    )
    statuses = [result["status"] for result in answer["results"]]
    assert [s in ("conflict", "rejected") for s in statuses] == [False, True, True, True, True, False], statuses
    assert {result["code"] for result in answer["results"] if "code" in result} == {"forbidden"}


async def test_tables_that_are_lost_stand_in_revoked_and_one_that_is_gained_arrives_whole(api: Api, admin: SqlClient) -> None:
    owner, (_line, _) = await shop(api)
    await create_all(owner)
    person = await hire(api, admin, owner, "viewer")
    device = till(person)
    first, cursor = await device.pull_all()
    assert any(change["table"] == "accounts" for change in first)
    await _change_role(admin, person.login_id, "sales")
    page = await device.pull(cursor)
    assert "accounts" in page["revoked"] and "parties" not in page["revoked"]
    await device.push(insert("parties", "p", name="Ann"))
    _, cursor = await device.pull_all(page["current_version"])
    await _change_role(admin, person.login_id, "viewer")
    again, _ = await device.pull_all(cursor)
    found = {c["record_id"]: c["data"] for c in again if c["table"] == "accounts"}
    assert found == Oracle(admin).table("accounts", owner.company_id), "its rows were dropped: they must come whole"


async def test_restricted_columns_that_a_role_gains_arrive(api: Api, admin: SqlClient) -> None:
    owner, _ = await shop(api)
    await create_all(owner)
    person = await hire(api, admin, owner, "viewer")
    device = till(person)
    _, cursor = await device.pull_all()
    await _change_role(admin, person.login_id, "accountant")
    changes, _ = await device.pull_all(cursor)
    banks = {c["record_id"]: c["data"] for c in changes if c["table"] == "payment_accounts"}
    assert banks == Oracle(admin).table("payment_accounts", owner.company_id)


async def _change_role(admin: SqlClient, login_id: int, role: str) -> None:
    admin.run(f"UPDATE users SET role = '{role}' WHERE login_id = {login_id} AND is_active")
    admin.wait_for_tailer()
    await asyncio.sleep(2.2)  # a worker keeps memberships for two seconds


async def test_a_device_narrowed_to_tables_reads_and_writes_those_only(api: Api, admin: SqlClient) -> None:
    owner, (_line, _) = await shop(api)
    await create_all(owner)
    narrow = till(owner)
    await narrow.status()
    admin.run(f"UPDATE devices SET capabilities = '{{\"tables\": [\"parties\"]}}' WHERE device_id = '{narrow.device_id}'")
    await asyncio.sleep(2.2)
    page = await narrow.pull(0)
    assert {c["table"] for c in page["changes"]} == {"parties"} and set(page["revoked"]) == set(TABLES) - {"parties"}
    answer = await narrow.push(insert("parties", "a", name="Ann"), insert("products", "b", name="Tea"))
    assert [result["status"] for result in answer["results"]] == ["applied", "rejected"]
    assert answer["results"][1]["code"] == "forbidden"
