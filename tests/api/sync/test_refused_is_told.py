"""A device goes on believing nothing that was refused, whatever the reason was (contract §2.6, §3 Refusals)."""

from __future__ import annotations

import pytest

from api.scope import SCOPES
from tests.api.conftest import Api
from tests.api.rows import hire
from tests.api.tills import drained, shop, till
from tests.device import Device, delete, insert, update
from tests.oracle import Oracle, comparable_rows
from tests.sql_client import SqlClient

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_viewers_edit_of_a_row_that_plain_sql_removed_is_told_as_deleted(api: Api, admin: SqlClient) -> None:
    """It was rejected as if there never had been a record, and a naive device kept its edit."""
    owner, (line, _) = await shop(api)
    made = (await line.push(insert("parties", "a", name="Ann")))["id_mappings"]["a"]
    viewer = Device(till(await hire(api, admin, owner, "viewer")))
    await viewer.sync()
    viewer.update("parties", made, name="Eve")
    admin.run(f"DELETE FROM parties WHERE id = {made}")
    admin.wait_for_tailer()
    await viewer.pull()
    assert viewer.row("parties", made)["name"] == "Eve", "what is unsent is the device's own"
    [result] = (await viewer.push())["results"]
    assert (result["status"], result["code"], result["record_id"]) == ("conflict", "forbidden", made)
    assert result["server_deleted"] is True and result["server_data"]["name"] == "Ann"
    await viewer.pull()
    assert "parties" not in viewer.held()


@pytest.mark.parametrize("now", ['{"read_only": true}', '{"tables": ["settings"]}'])
async def test_what_took_effect_meets_its_verdict_again_though_the_device_may_not_write_it_now(
    api: Api, admin: SqlClient, now: str
) -> None:
    """The answer was lost, and then a right: what is done was told, and kept, as refused."""
    _, (line, other) = await shop(api)
    names = ("edited", "merged", "deleted")
    made = (await other.push(*(insert("units_of_measure", name, name=name) for name in names)))["id_mappings"]
    base = {"base_version": await drained(line)}
    await other.push(update("units_of_measure", made["merged"], name="theirs"))
    changes = [
        insert("units_of_measure", "a", name="a"),
        insert("units_of_measure", "b", name="b", more={"timestamp": None}),
        update("units_of_measure", made["edited"], abbrev="1", more=base),
        update("units_of_measure", made["merged"], name="merged", abbrev="2", more=base),
        delete("units_of_measure", made["deleted"], more=base),
    ]
    first = await line.push(*changes)
    assert [result["status"] for result in first["results"]] == ["applied"] * 3 + ["merged", "applied"]
    admin.run(f"UPDATE devices SET capabilities = '{now}' WHERE device_id = '{line.device_id}'")
    api.app[SCOPES].forget()
    again = await line.push(*changes)
    assert [result["status"] for result in again["results"]] == ["duplicate"] * 2 + ["noop", "merged", "noop"]
    assert [r["record_id"] for r in again["results"]] == [r["record_id"] for r in first["results"]]
    assert again["id_mappings"] == first["id_mappings"] and again["conflicts"] == []


async def test_an_insert_with_other_data_by_somebody_who_may_no_longer_write_is_refused_and_has_its_id(
    api: Api, admin: SqlClient
) -> None:
    """Of several INSERTs into one table none was mapped, of a single one it was."""
    _, (line, other) = await shop(api)
    made = (await line.push(*(insert("parties", name, name=name) for name in ("a", "b"))))["id_mappings"]
    await other.push(update("parties", made["a"], name="theirs"))
    changes = [insert("parties", name, name=f"{name} again") for name in ("a", "b")]
    for now, shown in (('{"read_only": true}', "theirs"), ('{"tables": ["settings"]}', None)):
        admin.run(f"UPDATE devices SET capabilities = '{now}' WHERE device_id = '{line.device_id}'")
        api.app[SCOPES].forget()
        for batch in (changes, changes[:1]):
            answer = await line.push(*batch, insert("parties", "c", name="c"))
            assert answer["id_mappings"] == {change["local_id"]: made[change["local_id"]] for change in batch}
            assert [(r["status"], r["code"]) for r in answer["results"][:-1]] == [("conflict", "forbidden")] * len(batch)
            assert answer["results"][0]["server_data"].get("name") == shown, "a table that is not read is not told"
            assert answer["results"][-1]["status"] == "rejected"


async def test_an_edit_that_says_no_time_is_told_the_row_and_so_is_one_that_no_word_names(api: Api) -> None:
    """Both were rejected without the row, though there is one to fall back on."""
    _, (line, other) = await shop(api)
    made = (await line.push(insert("parties", "a", name="Ann")))["id_mappings"]["a"]
    cursor = await drained(other)
    answer = await other.push(
        update("parties", made, name="Eve", more={"timestamp": "yesterday"}),
        {**delete("parties", made), "operation": "UPSERT"},
        update("parties", made + 1_000_000, name="Eve", more={"timestamp": "yesterday"}),
    )
    assert [(r["status"], r["code"]) for r in answer["results"]] == [
        ("rejected", "bad_timestamp"),
        ("rejected", "bad_operation"),
        ("rejected", "bad_timestamp"),
    ]
    assert [r.get("server_data", {}).get("name") for r in answer["results"]] == ["Ann", "Ann", None]
    again = (await other.pull(cursor))["changes"]
    assert [(c["record_id"], c["data"]["name"]) for c in again] == [(made, "Ann")], "a naive device falls back on the server's row"


async def test_a_refused_deletion_is_taken_back_though_the_same_push_changed_the_record(api: Api, admin: SqlClient) -> None:
    """The edit was stored exactly as sent, so it was no news, and the row never came back to a device that reads no results."""
    owner, (line, other) = await shop(api)
    made = (await other.push(insert("accounts", "a", name="Cash", account_type="asset")))["id_mappings"]["a"]
    entry = {"account_id": made, "transaction_type": "journalEntry", "transaction_date": "2026-02-03"}
    await other.push(insert("account_transactions", "e", **entry))
    device = Device(line)
    await device.sync()
    device.update("accounts", made, name="Till")
    device.delete("accounts", made)
    results = (await device.push())["results"]
    assert [(r["status"], r.get("code")) for r in results] == [("applied", None), ("conflict", "referenced")]
    await device.pull()
    assert device.row("accounts", made)["name"] == "Till"
    assert comparable_rows(device.held()) == comparable_rows(Oracle(admin).rows(owner.company_id))
