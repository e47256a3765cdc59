"""A device that begins a table anew has nothing of it, its own changes included (contract §1.3, §2.5, §2.9)."""

from __future__ import annotations

import json

import pytest

from api.deliveries import NEWER_THAN_ALL, Deliveries, decode, encode
from api.scope import SCOPES
from tests.api.conftest import Api
from tests.api.rows import hire
from tests.api.tills import drained, newest, shop, till
from tests.device import Device, Line, insert
from tests.oracle import Oracle, comparable_rows
from tests.sql_client import SqlClient

TABLES = ("parties", "products")
EXACT = {"name": "Exact", "abbrev": "x"}


@pytest.mark.asyncio(loop_scope="module")
async def test_no_echo_leaves_out_nothing_for_a_device_that_starts_from_0_again(api: Api) -> None:
    """A reinstalled app that kept its device id, or one that was reset, never got back what it had made itself."""
    _, (line, _) = await shop(api)
    cursor = await drained(line)
    made = ("units_of_measure", (await line.push(insert("units_of_measure", "e", **EXACT)))["id_mappings"]["e"])
    assert made not in newest((await line.pull_all(cursor, no_echo=True))[0])
    changes, cursor = await line.pull_all(0, no_echo=True, limit=1)
    assert made in newest(changes), "on whichever page it comes"
    more = ("units_of_measure", (await line.push(insert("units_of_measure", "f", **EXACT)))["id_mappings"]["f"])
    assert not {made, more} & newest((await line.pull_all(cursor, no_echo=True))[0]).keys(), "what it made since is an echo again"


@pytest.mark.asyncio(loop_scope="module")
async def test_no_echo_leaves_out_nothing_of_a_table_that_was_lost_and_gained(api: Api, admin: SqlClient) -> None:
    """Its rows were dropped as revoked, and own ones did not come back."""
    _, (line, _) = await shop(api)
    made = ("units_of_measure", (await line.push(insert("units_of_measure", "e", **EXACT)))["id_mappings"]["e"])
    cursor = await drained(line)
    _narrow(api, admin, line, ["parties"])
    page = await line.pull(cursor, no_echo=True)
    assert "units_of_measure" in page["revoked"]
    _narrow(api, admin, line, None)
    changes, cursor = await line.pull_all(page["current_version"], no_echo=True)
    assert made in newest(changes)
    more = ("units_of_measure", (await line.push(insert("units_of_measure", "f", **EXACT)))["id_mappings"]["f"])
    assert more not in newest((await line.pull_all(cursor, no_echo=True))[0])


@pytest.mark.asyncio(loop_scope="module")
async def test_what_was_refused_while_a_table_was_lost_is_put_right_once_it_is_gained(api: Api, admin: SqlClient) -> None:
    """Nothing of the table is told meanwhile; a device that did not pull in between believed its refused edit for ever."""
    owner, (line, other) = await shop(api)
    made = (await other.push(insert("accounts", "a", name="Cash", account_type="asset")))["id_mappings"]["a"]
    device = Device(line)
    await device.sync()
    device.update("accounts", made, name="refused")
    _narrow(api, admin, line, ["parties"])
    [result] = (await device.push())["results"]
    assert (result["status"], result["code"], "server_data" in result) == ("rejected", "forbidden", False)
    _narrow(api, admin, line, None)
    await device.pull()
    assert comparable_rows(device.held()) == comparable_rows(Oracle(admin).rows(owner.company_id))


@pytest.mark.asyncio(loop_scope="module")
async def test_the_cursor_of_a_push_stays_before_own_rows_of_a_table_that_was_lost_and_gained(api: Api, admin: SqlClient) -> None:
    """They count as given only as long as the device has them; one that reads no `revoked` may hold a refused edit of them."""
    owner, (line, _) = await shop(api)
    device = Device(line)
    device.insert("units_of_measure", **EXACT)
    await device.sync()
    [made] = device.held()["units_of_measure"]
    device.update("units_of_measure", made, name="refused")
    _narrow(api, admin, line, ["parties"])
    await device.sync()
    _narrow(api, admin, line, None)
    device.insert("parties", name="Ann")
    await device.push()
    assert not (await line.status())["is_synced"]
    await device.pull()
    assert comparable_rows(device.held()) == comparable_rows(Oracle(admin).rows(owner.company_id))
    await device.pull()
    assert (await line.status())["is_synced"], "the second pull proves that the first arrived"


@pytest.mark.asyncio(loop_scope="module")
async def test_a_reinstalled_device_that_pushes_first_gets_back_what_its_earlier_install_made(api: Api) -> None:
    _, (line, _) = await shop(api)
    await line.pull_all(0)
    made = ("units_of_measure", (await line.push(insert("units_of_measure", "e", **EXACT)))["id_mappings"]["e"])
    answer = await line.push(insert("parties", "e", name="Ann"), last_version=0, install_id="second")
    assert made in newest((await line.pull_all(answer["current_version"], tables=["units_of_measure"]))[0])


@pytest.mark.asyncio(loop_scope="module")
async def test_a_role_that_was_lost_and_gained_between_two_pushes_counts_too(api: Api, admin: SqlClient) -> None:
    owner, (line, _) = await shop(api)
    await line.push(insert("settings", "s", name="theme", value={"a": 1}))
    person = await hire(api, admin, owner, "admin")
    device = Device(till(person))
    await device.sync()
    [record_id] = device.held()["settings"]
    for role, name in (("sales", "refused"), ("admin", "applied")):
        admin.run(f"UPDATE users SET role = '{role}' WHERE login_id = {person.login_id} AND is_active")
        api.app[SCOPES].forget()
        device.update("settings", record_id, value={"a": name})
        await device.push()
    await device.pull()
    assert comparable_rows(device.held()) == comparable_rows(Oracle(admin).rows(owner.company_id))


def test_what_a_device_makes_after_it_began_anew_is_its_own_again() -> None:
    known = Deliveries().pulled(TABLES, 0, 5, head=9, min_version=0)
    assert all(known.knows_own(table, 3, sent=5) for table in TABLES), "what it made before its first pull it has"
    anew = known.pulled(TABLES, 0, 5, head=20, min_version=0, sent=0)
    assert [anew.knows_own("parties", version, sent=5) for version in (20, 21)] == [False, True]
    assert not anew.knows_own("parties", 21, sent=0)
    lost = known.seen_by({"products"}, (), sees_restricted=False)
    assert lost.tables["parties"].again == NEWER_THAN_ALL and decode(encode(lost)) == lost
    gained = lost.pulled(TABLES, 0, 5, head=30, min_version=0, sent=7)
    assert [gained.knows_own(table, 25, sent=9) for table in TABLES] == [False, True]
    assert decode(encode(gained)) == gained


def _narrow(api: Api, admin: SqlClient, line: Line, tables: list[str] | None) -> None:
    can = json.dumps({"tables": tables} if tables is not None else {})
    admin.run(f"UPDATE devices SET capabilities = '{can}' WHERE device_id = '{line.device_id}'")
    api.app[SCOPES].forget()
