"""Push: the envelope, identities and retries, references (contract §3)."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
from typing import Any

import pytest

from schema.tables import TABLES
from tests.api.conftest import Api
from tests.api.rows import VALUES
from tests.api.tills import drained, open_api, shop, till
from tests.device import Refused, delete, insert, update
from tests.oracle import Oracle, comparable
from tests.servers import Database
from tests.sql_client import SqlClient

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_an_insert_is_stored_once_and_maps_its_local_id(api: Api, admin: SqlClient) -> None:
    owner, (one, other) = await shop(api)
    answer = await one.push(insert("products", "temp_001", name="Tea", sale_price="12.50"))
    record_id = answer["id_mappings"]["temp_001"]
    assert answer["success"] is True and answer["conflicts"] == [] and answer["pending"] is False
    [result] = answer["results"]
    assert (result["table"], result["local_id"], result["record_id"]) == ("products", "temp_001", record_id)
    assert result["status"] == "applied" and result["version"] == answer["head_version"]
    row = Oracle(admin).row("products", owner.company_id, record_id)
    assert row is not None and (row["name"], row["sale_price"]) == ("Tea", "12.50")
    change = (await other.pull(0, tables=["products"]))["changes"][-1]
    assert change["data"] == row
    assert (change["operation"], change["device_id"], change["local_id"]) == ("INSERT", one.device_id, "temp_001")
    assert (change["id"], change["version"], change["origin"]) == (result["version"], result["version"], "device")


async def test_every_table_can_be_inserted_in_one_push_with_references_in_any_order(api: Api, admin: SqlClient) -> None:
    owner, (one, other) = await shop(api)
    changes = []
    for table, values in VALUES.items():
        data = {name: f"my-{value}" if name in TABLES[table].references else value for name, value in values.items()}
        changes.append(insert(table, f"my-{table}", **data))
    answer = await one.push(*reversed(changes))
    assert [result["status"] for result in answer["results"]] == ["applied"] * len(VALUES), answer["results"]
    assert [result["table"] for result in answer["results"]] == list(reversed(VALUES))
    assert set(answer["id_mappings"]) == {f"my-{table}" for table in VALUES}
    oracle = Oracle(admin)
    pulled = {(c["table"], c["record_id"]): c for c in (await other.pull_all())[0]}
    assert len({pulled[table, answer["id_mappings"][f"my-{table}"]]["tx"] for table in VALUES}) == 1
    for table, values in VALUES.items():
        record_id = answer["id_mappings"][f"my-{table}"]
        row = oracle.row(table, owner.company_id, record_id)
        assert row is not None and row == pulled[table, record_id]["data"]
        assert all(
            row[name] == answer["id_mappings"][f"my-{value}"] for name, value in values.items() if name in TABLES[table].references
        )


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"changes": []},
        {"device_id": "", "changes": []},
        {"device_id": 7, "changes": []},
        {"device_id": "é" * 65, "changes": []},
        {"device_id": "d"},
        {"device_id": "d", "changes": {}},
        {"device_id": "d", "changes": None},
        {"device_id": "d", "changes": [7]},
        {"device_id": "d", "changes": [[]]},
        {"device_id": "d", "changes": [], "last_version": -1},
        {"device_id": "d", "changes": [], "last_version": 1.5},
        {"device_id": "d", "changes": [], "last_version": "5"},
        {"device_id": "d", "changes": [], "last_version": True},
        {"table": None},
        {"table": 7},
        {"operation": None},
        {"operation": 1},
        {"local_id": None},
        {"local_id": 1.5},
        {"local_id": True},
        {"local_id": ["a"]},
        {"local_id": {}},
        {"data": None},
        {"data": []},
        {"data": "x"},
        {"timestamp": 5},
        {"timestamp": {}},
        {"operation": "UPDATE", "local_id": 1.5},
    ],
    ids=lambda body: json.dumps(body, ensure_ascii=True)[:60],
)
async def test_a_malformed_push_is_400_and_applies_nothing(api: Api, admin: SqlClient, body: Any) -> None:
    owner, (line, _) = await shop(api)
    if isinstance(body, dict) and not body.keys() & {"changes", "device_id"}:
        good = insert("parties", "good", name="Ann")
        body = {"device_id": "d", "changes": [good, {**insert("parties", "bad", name="Bob"), **body}]}
    if isinstance(body, dict) and body.get("device_id") == "d":
        body["device_id"] = line.device_id
    with pytest.raises(Refused) as refused:
        await line.ask("/api/sync/push", body)
    assert (refused.value.status, refused.value.body["success"]) == (400, False), refused.value.body
    assert refused.value.code in ("malformed", "bad_json")
    assert Oracle(admin).table("parties", owner.company_id) == {}


async def test_a_body_that_is_not_json_or_nested_too_deep_is_400(api: Api) -> None:
    _, (line, _) = await shop(api)
    deep: Any = []
    for _ in range(200):
        deep = [deep]
    nested = json.dumps({"device_id": line.device_id, "changes": [insert("settings", "s", name="n", value=deep)]})
    for raw in (b"{", b"\xff\xfe", b"nul", b'{"a":NaN}', nested.encode(), b"[" * 100_000, b""):
        with pytest.raises(Refused) as refused:
            await line.ask("/api/sync/push", None, data=raw, headers={"Content-Type": "application/json"})
        assert refused.value.status == 400, raw[:20]


async def test_too_many_changes_or_too_large_a_body_is_413_and_applies_nothing(api: Api, admin: SqlClient) -> None:
    owner, (line, _) = await shop(api)
    many = [insert("parties", n, name="x") for n in range(1001)]
    large = insert("parties", "large", name="x", address="y" * (5 * 1024 * 1024))
    packed = gzip.compress(json.dumps({"device_id": line.device_id, "changes": [large]}).encode())
    plain = {"Content-Type": "application/json"}
    for body, headers in (
        (json.dumps({"device_id": line.device_id, "changes": many}).encode(), plain),
        (json.dumps({"device_id": line.device_id, "changes": [large]}).encode(), plain),
        (packed, {**plain, "Content-Encoding": "gzip"}),
    ):
        with pytest.raises(Refused) as refused:
            await line.ask("/api/sync/push", None, data=io.BytesIO(body), headers=headers)
        assert refused.value.status == 413
    assert Oracle(admin).table("parties", owner.company_id) == {}


async def test_a_push_of_a_thousand_mixed_changes_gives_each_its_result_in_order(api: Api, admin: SqlClient) -> None:
    owner, (line, _) = await shop(api)
    changes = [
        insert("parties", n, name=f"Party {n}") if n % 10 else insert("parties", n, name="x" * 256 if n % 20 else None)
        for n in range(1000)
    ]
    answer = await line.push(*changes)
    assert [result["local_id"] for result in answer["results"]] == [str(n) for n in range(1000)]
    statuses = [result["status"] for result in answer["results"]]
    assert statuses == ["applied" if n % 10 else "rejected" for n in range(1000)]
    versions = [result["version"] for result in answer["results"] if result["status"] == "applied"]
    assert versions == list(range(versions[0], versions[0] + 900))
    assert len(Oracle(admin).table("parties", owner.company_id)) == 900 == len(answer["id_mappings"])


async def test_a_gzipped_push_is_read_and_unknown_fields_are_ignored(api: Api) -> None:
    _, (line, _) = await shop(api)
    body = {"device_id": line.device_id, "colour": 1, "changes": [{**insert("parties", "a", name="Ann"), "mood": []}]}
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    answer = await line.ask("/api/sync/push", None, data=gzip.compress(json.dumps(body).encode()), headers=headers)
    assert answer["results"][0]["status"] == "applied"


async def test_an_empty_push_is_answered(api: Api) -> None:
    _, (line, _) = await shop(api)
    answer = await line.push()
    assert (answer["results"], answer["id_mappings"], answer["conflicts"]) == ([], {}, [])


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"table": "partys"}, "unknown_table"),
        ({"table": "devices"}, "unknown_table"),
        ({"table": "sync_changes"}, "unknown_table"),
        ({"table": "tablé\U0001f600" * 30}, "unknown_table"),
        ({"table": ""}, "unknown_table"),
        ({"operation": "UPSERT"}, "bad_operation"),
        ({"operation": "insert"}, "bad_operation"),
        ({"operation": "ВСТАВИТЬ" * 9}, "bad_operation"),
        ({"timestamp": "yesterday"}, "bad_timestamp"),
        ({"timestamp": ""}, "bad_timestamp"),
        ({"timestamp": "2026-13-01T00:00:00Z"}, "bad_timestamp"),
        ({"local_id": "x" * 256}, "bad_value"),
        ({"data": {"name": None}}, "bad_value"),
        ({"data": {}}, "bad_value"),
        ({"data": {"name": "x", "party_type": "friend"}}, "bad_value"),
        ({"data": {"name": "x", "credit_limit": "12.345"}}, "bad_value"),
        ({"data": {"name": "x", "credit_limit": 1e300}}, "bad_value"),
        ({"data": {"name": "x", "payment_terms_days": 2**31}}, "bad_value"),
        ({"data": {"name": {"a": 1}}}, "bad_value"),
        ({"table": "companies", "data": {"name": "Mine"}}, "forbidden"),
    ],
    ids=lambda value: json.dumps(value)[:50],
)
async def test_one_bad_change_is_rejected_and_never_blocks_the_others(
    api: Api, admin: SqlClient, change: dict[str, Any], code: str
) -> None:
    owner, (line, _) = await shop(api)
    bad = {**insert("parties", "bad", name="Bad"), **change}
    answer = await line.push(insert("parties", "one", name="One"), bad, insert("parties", "two", name="Two"))
    assert [result["status"] for result in answer["results"]] == ["applied", "rejected", "applied"]
    rejected = answer["results"][1]
    assert rejected["code"] == code and rejected["message"] and rejected["record_id"] is None
    assert "version" not in rejected and "server_data" not in rejected
    assert set(answer["id_mappings"]) == {"one", "two"} and answer["conflicts"] == []
    assert {row["name"] for row in Oracle(admin).table("parties", owner.company_id).values()} == {"One", "Two"}


async def test_a_bad_value_names_its_column(api: Api) -> None:
    _, (line, _) = await shop(api)
    result = await line.push_one(insert("products", "p", name="Tea", sale_price="1.234"))
    assert "sale_price" in result["message"] and result["retryable"] is False


async def test_unknown_columns_are_ignored_and_named_and_reserved_ones_never_take_effect(api: Api, admin: SqlClient) -> None:
    owner, (line, _) = await shop(api)
    bob, _ = await shop(api)
    sent = {
        "id": 999_999_999,
        "company_id": bob.company_id,
        "created_at": "2001-01-01T00:00:00Z",
        "updated_at": "2001-01-01T00:00:00Z",
        "deleted_at": "2001-01-01T00:00:00Z",
        "login_id": bob.login_id,
        "colour": "red",
        "full_name": "Cy",
    }
    result = await line.push_one(insert("users", "u", **sent))
    assert result["status"] == "applied" and set(result["ignored"]) == {"login_id", "colour"}
    row = Oracle(admin).row("users", owner.company_id, result["record_id"])
    assert row is not None and row["id"] != 999_999_999 and row["deleted_at"] is None and row["created_at"] > "2020"
    assert admin.value("SELECT login_id FROM users WHERE id = %s", result["record_id"]) is None


async def test_the_same_push_four_times_gives_one_row_and_the_same_mapping(api: Api, admin: SqlClient) -> None:
    owner, (line, _) = await shop(api)
    change = insert("parties", "temp_001", name="Ann", phone="1")
    answers = [await line.push(change) for _ in range(4)]
    assert len({json.dumps(answer["id_mappings"]) for answer in answers}) == 1
    assert [answer["results"][0]["status"] for answer in answers] == ["applied", *["duplicate"] * 3]
    assert len({answer["results"][0]["version"] for answer in answers}) == 1, "of the change the first INSERT made"
    assert len(Oracle(admin).table("parties", owner.company_id)) == 1


async def test_ten_copies_of_a_push_at_once_give_one_row(api: Api, admin: SqlClient) -> None:
    owner, (line, _) = await shop(api)
    change = insert("parties", "temp_001", name="Ann")
    answers = await asyncio.gather(*(line.push(change) for _ in range(10)))
    assert sorted(answer["results"][0]["status"] for answer in answers) == ["applied", *["duplicate"] * 9]
    assert len({answer["id_mappings"]["temp_001"] for answer in answers}) == 1
    assert len(Oracle(admin).table("parties", owner.company_id)) == 1


async def test_an_insert_batched_differently_is_still_the_same_insert(api: Api, admin: SqlClient) -> None:
    owner, (line, _) = await shop(api)
    ann, bob, cy = (insert("parties", name, name=name) for name in ("Ann", "Bob", "Cy"))
    first = await line.push(ann, bob)
    again = await line.push(cy, bob, ann, bob)
    assert [result["status"] for result in again["results"]] == ["applied", "duplicate", "duplicate", "duplicate"]
    assert first["id_mappings"].items() <= again["id_mappings"].items()
    assert len(Oracle(admin).table("parties", owner.company_id)) == 3


async def test_a_retried_insert_with_newer_data_is_an_update_of_what_it_made(api: Api, admin: SqlClient) -> None:
    owner, (line, _) = await shop(api)
    first = await line.push(insert("parties", "a", name="Ann", phone="1"))
    again = await line.push(insert("parties", "a", name="Ann", phone="2"))
    assert again["id_mappings"] == first["id_mappings"] and again["results"][0]["status"] in ("applied", "duplicate")
    [row] = Oracle(admin).table("parties", owner.company_id).values()
    assert row["phone"] == "2"


async def test_a_retried_insert_with_newer_data_never_reverts_what_others_changed(api: Api, admin: SqlClient) -> None:
    owner, (line, other) = await shop(api)
    made = (await line.push(insert("products", "a", name="Tea", sku="1")))["id_mappings"]["a"]
    await other.push(update("products", made, name="Green Tea"))
    again = await line.push_one(insert("products", "a", name="Tea", sku="2"))
    row = Oracle(admin).row("products", owner.company_id, made)
    assert row is not None and (row["name"], row["sku"]) == ("Green Tea", "2")
    assert again["status"] == "merged" and again["server_data"]["name"] == "Green Tea"


async def test_an_insert_retried_after_somebody_deleted_the_record_stays_deleted_and_is_told(api: Api, admin: SqlClient) -> None:
    owner, (line, other) = await shop(api)
    change = insert("parties", "a", name="Ann")
    first = await line.push_one(change)
    await other.push(delete("parties", first["record_id"]))
    again = await line.push(change)
    [result] = again["results"]
    assert (result["status"], result["record_id"], result["server_deleted"]) == ("duplicate", first["record_id"], True)
    assert result["version"] == first["version"] and again["id_mappings"] == {"a": first["record_id"]}
    assert result["server_data"]["deleted_at"] is not None and result["server_version"] > first["version"]
    assert Oracle(admin).table("parties", owner.company_id) == {}


async def test_an_insert_retried_after_a_hard_delete_stays_deleted_and_is_told(api: Api, admin: SqlClient) -> None:
    owner, (line, _) = await shop(api)
    change = insert("parties", "a", name="Ann")
    first = await line.push_one(change)
    admin.run(f"DELETE FROM parties WHERE id = {first['record_id']}")
    admin.wait_for_tailer()
    result = await line.push_one(change)
    assert (result["status"], result["server_deleted"], result["record_id"]) == ("duplicate", True, first["record_id"])
    assert result["server_data"]["name"] == "Ann"
    assert Oracle(admin).table("parties", owner.company_id) == {}


async def test_a_local_id_is_its_own_for_each_device_install_and_table(api: Api, admin: SqlClient) -> None:
    owner, (one, other) = await shop(api)
    ids = [
        (await one.push(insert("parties", "a", name="1")))["id_mappings"]["a"],
        (await other.push(insert("parties", "a", name="2")))["id_mappings"]["a"],
        (await one.push(insert("parties", "a", name="3"), install_id="second"))["id_mappings"]["a"],
        (await one.push(insert("parties", "A", name="4")))["id_mappings"]["A"],
        (await one.push(insert("parties", "a ", name="5")))["id_mappings"]["a "],
        (await one.push(insert("parties", "á", name="6")))["id_mappings"]["á"],
    ]
    assert len(set(ids)) == 6 == len(Oracle(admin).table("parties", owner.company_id))
    both = await one.push(insert("units_of_measure", "a", name="kg"), insert("item_categories", "a", name="Tea"))
    assert both["id_mappings"] == {"a": both["results"][0]["record_id"]}, "the first of two tables"
    assert [result["status"] for result in both["results"]] == ["applied", "applied"]


async def test_the_number_7_and_the_text_7_are_one_local_id(api: Api) -> None:
    _, (line, _) = await shop(api)
    first = await line.push(insert("parties", 7, name="Ann"))
    again = await line.push(insert("parties", "7", name="Ann"))
    assert first["id_mappings"] == again["id_mappings"] and list(first["id_mappings"]) == ["7"]
    assert first["results"][0]["local_id"] == "7" and again["results"][0]["status"] == "duplicate"


async def test_signing_in_again_changes_no_identity(api: Api) -> None:
    owner, (line, _) = await shop(api)
    first = await line.push(insert("parties", "a", name="Ann"))
    again = await till(await api.login(owner.email), line.device_id).push(insert("parties", "a", name="Ann"))
    assert again["results"][0]["status"] == "duplicate" and again["id_mappings"] == first["id_mappings"]


async def test_a_number_in_local_id_never_selects_a_row_by_its_server_id(api: Api, admin: SqlClient) -> None:
    owner, (line, other) = await shop(api)
    made = (await other.push(insert("parties", "a", name="Ann")))["id_mappings"]["a"]
    edit = await line.push_one(update("parties", None, name="Eve", more={"local_id": made}))
    assert (edit["status"], edit["code"]) == ("rejected", "not_found")
    new = await line.push_one(insert("parties", made, name="Eve"))
    assert new["status"] == "applied" and new["record_id"] != made
    assert {row["name"] for row in Oracle(admin).table("parties", owner.company_id).values()} == {"Ann", "Eve"}


async def test_an_insert_ignores_the_id_in_its_data(api: Api, admin: SqlClient) -> None:
    owner, (line, other) = await shop(api)
    made = (await other.push(insert("parties", "a", name="Ann")))["id_mappings"]["a"]
    result = await line.push_one(insert("parties", "b", id=made, name="Bob"))
    assert result["status"] == "applied" and result["record_id"] != made
    assert len(Oracle(admin).table("parties", owner.company_id)) == 2


async def test_an_insert_with_a_record_id_of_this_company_never_creates(api: Api, admin: SqlClient) -> None:
    owner, (line, other) = await shop(api)
    first = (await other.push(insert("products", "a", name="Tea", sku="1")))["results"][0]
    live = await line.push_one(insert("products", "b", name="Coffee", sku="1", more={"record_id": first["record_id"]}))
    assert (live["status"], live["record_id"]) == ("duplicate", first["record_id"])
    assert live["server_data"]["name"] == "Tea", "without a base what differs keeps the server's"
    base = {"record_id": first["record_id"], "base_version": first["version"]}
    edit = await line.push(insert("products", "c", name="Coffee", sku="1", more=base))
    assert edit["results"][0]["status"] == "applied" and edit["id_mappings"] == {"c": first["record_id"]}
    await line.push(delete("products", first["record_id"]))
    dead = await line.push(insert("products", "d", name="Milk", more={"record_id": first["record_id"]}))
    assert dead["results"][0]["status"] == "duplicate" and dead["results"][0]["server_deleted"] is True
    assert dead["id_mappings"] == {"d": first["record_id"]}
    assert Oracle(admin).table("products", owner.company_id) == {}


async def test_an_insert_with_the_record_id_of_a_hard_deleted_row_does_not_bring_it_back(api: Api, admin: SqlClient) -> None:
    owner, (line, _) = await shop(api)
    gone = admin.run(f"INSERT INTO parties (company_id, name) VALUES ({owner.company_id}, 'Ann')")
    admin.run(f"DELETE FROM parties WHERE id = {gone}")
    admin.wait_for_tailer()
    result = await line.push_one(insert("parties", "a", name="Ann", more={"record_id": gone}))
    assert (result["status"], result["record_id"], result["server_deleted"]) == ("duplicate", gone, True)
    assert Oracle(admin).table("parties", owner.company_id) == {}


async def test_an_unknown_or_foreign_record_id_of_an_insert_is_ignored(api: Api, admin: SqlClient) -> None:
    owner, (line, _) = await shop(api)
    _, (stranger, _) = await shop(api)
    foreign = (await stranger.push(insert("parties", "a", name="Theirs")))["id_mappings"]["a"]
    for number, record_id in enumerate((foreign, 2**50, "x", -1, 1.5, True)):
        result = await line.push_one(insert("parties", number, name="Mine", more={"record_id": record_id}))
        assert result["status"] == "applied" and result["record_id"] not in (foreign, record_id)
    assert len(Oracle(admin).table("parties", owner.company_id)) == 6


async def test_created_by_is_the_pusher_whatever_is_sent(api: Api, admin: SqlClient) -> None:
    owner, (line, _) = await shop(api)
    for number, sent in enumerate((None, 999_999, "nobody", {"a": 1})):
        result = await line.push_one(
            insert("payment_ins", number, receipt_no=f"R{number}", receipt_date="2026-01-01", created_by_user_id=sent)
        )
        assert result["status"] == "applied", result
        user_id = admin.value("SELECT id FROM users WHERE company_id = %s AND login_id = %s", owner.company_id, owner.login_id)
        assert admin.value("SELECT created_by_user_id FROM payment_ins WHERE id = %s", result["record_id"]) == user_id
        assert result["server_data"]["created_by_user_id"] == user_id or sent is None, "it is told: it is not what was sent"
        edit = await line.push_one(update("payment_ins", result["record_id"], description="x", created_by_user_id=sent))
        assert edit["status"] == "applied", edit
        assert admin.value("SELECT created_by_user_id FROM payment_ins WHERE id = %s", result["record_id"]) == user_id


async def test_a_number_that_is_taken_is_refused_with_a_suggestion_and_another_unique_value_with_its_row(
    api: Api, admin: SqlClient
) -> None:
    owner, (line, other) = await shop(api)
    invoice = {"invoice_type": "sale", "invoice_number": "INV-A-0041", "invoice_date": "2026-01-01"}
    await other.push(insert("invoices", "i", **invoice))
    taken = await line.push_one(insert("invoices", "i", **invoice))
    assert (taken["status"], taken["code"], taken["suggested_number"]) == ("rejected", "number_taken", "INV-A-0042")
    tea = (await other.push(insert("products", "p", name="Tea", sku="T1")))["id_mappings"]["p"]
    same = await line.push_one(insert("products", "p", name="Also", sku="T1"))
    assert (same["status"], same["code"]) == ("rejected", "duplicate_key") and tea in same.values()
    await other.push(delete("products", tea))
    assert (await line.push_one(insert("products", "p", name="Also", sku="T1")))["status"] == "applied"
    assert comparable(next(iter(Oracle(admin).table("invoices", owner.company_id).values())))["invoice_number"] == "INV-A-0041"


async def test_a_push_is_read_by_the_very_next_pull_of_any_device(api: Api) -> None:
    _, lines = await shop(api, 2)
    cursors = {line.device_id: await drained(line) for line in lines}
    for number in range(10):
        writer, reader = lines[number % 2], lines[(number + 1) % 2]
        made = (await writer.push(insert("parties", number, name=str(number))))["id_mappings"][str(number)]
        page = await reader.pull(cursors[reader.device_id])
        assert made in {change["record_id"] for change in page["changes"]}
        cursors[reader.device_id] = page["current_version"]


async def test_while_the_tailer_is_away_a_push_is_pending_and_nothing_is_lost(
    shared: Database, tailer: Any, admin: SqlClient
) -> None:
    async with open_api(shared, push_wait_ms_max=50) as api:
        await _push_without_tailer(api, tailer, admin)


async def _push_without_tailer(api: Api, tailer: Any, admin: SqlClient) -> None:
    _, (line, other) = await shop(api)
    await drained(line)
    tailer.pause()
    try:
        answer = await line.push(insert("parties", "a", name="Ann"))
        assert answer["pending"] is True and "version" not in answer["results"][0]
        assert answer["current_version"] <= answer["head_version"]
        edit = await line.push(update("parties", None, name="Anna", more={"local_id": "a"}))
        assert edit["results"][0]["status"] == "applied", "its own push is its base while the tailer lags"
        again = await line.push(insert("parties", "a", name="Ann"))
        assert again["id_mappings"] == answer["id_mappings"] and again["results"][0]["status"] == "duplicate"
    finally:
        tailer.resume()
    admin.wait_for_tailer()
    rows = {c["record_id"]: c["data"]["name"] for c in (await other.pull_all(tables=["parties"]))[0]}
    assert rows == {answer["id_mappings"]["a"]: "Anna"}
