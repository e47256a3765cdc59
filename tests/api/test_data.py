"""The data endpoints: every table, values, filters, preconditions."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from api import data, settling
from tests.api.conftest import Api
from tests.api.rows import VALUES, create, create_all, hire
from tests.sql_client import SqlClient


async def test_every_table_can_be_created_read_listed_changed_and_deleted(api: Api, admin: SqlClient) -> None:
    ann = await api.register()
    for table, row in reversed((await create_all(ann)).items()):
        path = f"/api/{table}/{row['id']}"
        assert row["company_id"] == ann.company_id
        assert (await ann.get(path)).body["data"] == row
        assert row in (await ann.get(f"/api/{table}")).body["data"]
        changed = await ann.patch(path, {name: value for name, value in row.items() if name != "created_by_user_id"})
        assert changed.body["data"]["updated_at"] == row["updated_at"], "nothing was changed"
        assert (await ann.delete(path)).body["data"]["deleted_at"] is not None
        for reply in (await ann.get(path), await ann.delete(path), await ann.patch(path, {})):
            assert (reply.status, reply.code) == (404, "not_found")
        assert (await ann.get(f"{path}?include_deleted=1")).status == 200
    origins = admin.rows("SELECT DISTINCT kind, company_id, login_id FROM sync_origins WHERE login_id = %s", ann.login_id)
    assert origins == [("api", ann.company_id, ann.login_id)]
    assert admin.value("SELECT COUNT(*) FROM sync_changes") == 0, "only the tailer writes the change log"


async def test_the_accounting_rules_hold_here_too(api: Api) -> None:
    ann = await api.register()
    sale = await create(ann, "transactions", is_posted=True, total_amount="5.00")
    account = await create(ann, "accounts")
    entry = {"account_id": account["id"], "transaction_id": sale["id"], "debit": "5.00"}
    for reply, code in (
        (await ann.patch(f"/api/transactions/{sale['id']}", {"total_amount": 6}), "immutable"),
        (await ann.delete(f"/api/transactions/{sale['id']}"), "immutable"),
        (await ann.post("/api/transaction_lines", {"transaction_id": sale["id"], "line_amount": "4.00"}), "unbalanced"),
        (await ann.post("/api/account_transactions", {**VALUES["account_transactions"], **entry}), "unbalanced"),
        (await ann.post("/api/account_transactions", {**VALUES["account_transactions"], **entry, "debit": "-1"}), "unbalanced"),
    ):
        assert (reply.status, reply.code) == (409, code)
    assert (await ann.post("/api/transaction_lines", {"transaction_id": sale["id"], "line_amount": "5.00"})).status == 201
    product = await create(ann, "products")
    await create(ann, "stock_ledger", product_id=product["id"])
    assert (await ann.delete(f"/api/products/{product['id']}")).code == "referenced"
    await ann.patch(f"/api/companies/{ann.company_id}", {"books_locked_until": "2026-02-03"})
    locked = await ann.post("/api/payment_ins", VALUES["payment_ins"])
    assert (locked.status, locked.code, locked.body["details"]) == (409, "period_locked", {"first_open_date": "2026-02-04"})


async def test_the_origin_row_is_first_and_carries_the_request_id(api: Api, admin: SqlClient) -> None:
    ann = await api.register(device_id="till-7")
    await ann.post("/api/parties", VALUES["parties"], headers={"X-Request-Id": "req-77"})
    row = admin.rows("SELECT kind, company_id, device_id, login_id FROM sync_origins WHERE request_id = 'req-77'")
    assert row == [("api", ann.company_id, "till-7", ann.login_id)]


async def test_values_have_one_form_whatever_was_sent(api: Api) -> None:
    ann = await api.register()
    sent = {"name": "Assam", "sale_price": 12.5, "last_cost": "-3", "opening_qty": "1e2", "is_active": 0, "is_tracked": None}
    row = await create(ann, "products", **sent)
    shown = {name: row[name] for name in ("sale_price", "last_cost", "opening_qty", "is_active", "is_tracked")}
    assert shown == {"sale_price": "12.50", "last_cost": "-3.00", "opening_qty": "100.000", "is_active": False, "is_tracked": True}
    assert (await create(ann, "settings"))["value"] == {"a": [1, 2.5, None, "é"]}


@pytest.mark.parametrize(
    ("table", "values", "column"),
    [
        ("products", {"name": None}, "name"),
        ("products", {"name": 5}, "name"),
        ("products", {"name": "x" * 256}, "name"),
        ("products", {"sale_price": "1.234"}, "sale_price"),
        ("products", {"sale_price": "1e999999999"}, "sale_price"),
        ("products", {"sale_price": True}, "sale_price"),
        ("products", {"is_active": "yes"}, "is_active"),
        ("products", {"description": "é" * 40_000}, "description"),
        ("products", {"category_id": "x"}, "category_id"),
        ("products", {"category_id": -1}, "category_id"),
        ("products", {"category_id": 2**63}, "category_id"),
        ("parties", {"party_type": "friend"}, "party_type"),
        ("parties", {"party_type": ["customer"]}, "party_type"),
        ("parties", {"payment_terms_days": 2**31}, "payment_terms_days"),
        ("transactions", {"date": "2026-02-30"}, "date"),
        ("transactions", {"date": None}, "date"),
        ("transactions", {"type": None}, "type"),
    ],
)
async def test_a_value_the_column_cannot_hold_is_named(api: Api, table: str, values: Any, column: str) -> None:
    ann = await api.register()
    reply = await ann.post(f"/api/{table}", {**VALUES[table], **values})
    assert (reply.status, reply.code, list(reply.body["details"])) == (422, "bad_value", [column])


async def test_what_must_be_there_is_required_at_insert_only(api: Api) -> None:
    ann = await api.register()
    reply = await ann.post("/api/transactions", {})
    assert reply.body["details"] == {"type": "required", "date": "required"}
    sale = await create(ann, "transactions")
    assert (await ann.patch(f"/api/transactions/{sale['id']}", {"reference_no": "7"})).body["data"]["date"] == "2026-02-03"
    assert (await ann.patch(f"/api/transactions/{sale['id']}", {"date": None})).status == 422


async def test_reserved_and_private_columns_never_take_effect_and_unknown_ones_are_named(api: Api) -> None:
    ann, bob = await api.register(), await api.register()
    sent = {
        "id": 999_999,
        "company_id": bob.company_id,
        "created_at": "2001-01-01T00:00:00Z",
        "updated_at": "2001-01-01T00:00:00Z",
        "deleted_at": "2001-01-01T00:00:00Z",
        "login_id": bob.login_id,
        "nonsense; DROP TABLE users": 1,
        "role": "viewer",
    }
    reply = await ann.post("/api/users", {**VALUES["users"], **sent})
    row = reply.body["data"]
    assert (row["company_id"], row["deleted_at"], row["role"]) == (ann.company_id, None, "viewer")
    assert row["id"] != 999_999
    assert row["created_at"] > "2020"
    assert "login_id" not in row
    assert reply.body["ignored"] == ["login_id", "nonsense; DROP TABLE users"]


async def test_the_writer_of_a_document_is_who_wrote_it(api: Api, admin: SqlClient) -> None:
    ann = await api.register()
    bob = await hire(api, admin, ann, "admin")
    sale = await create(bob, "transactions", created_by_user_id=1)
    bobs_row = admin.value("SELECT id FROM users WHERE company_id = %s AND login_id = %s", ann.company_id, bob.login_id)
    assert sale["created_by_user_id"] == bobs_row
    reply = await ann.patch(f"/api/transactions/{sale['id']}", {"created_by_user_id": 1, "reference_no": "8"})
    assert reply.body["data"]["created_by_user_id"] == bobs_row


async def test_another_companys_rows_are_as_unknown_as_any(api: Api) -> None:
    ann, bob = await api.register(), await api.register()
    rows = await create_all(bob)
    for table, row in rows.items():
        for record_id in (row["id"], 987_654, "abc", "1e3", "9" * 30, "-1"):
            path = f"/api/{table}/{record_id}"
            replies = [await ann.get(path), await ann.patch(path, {"name": "Mine"}), await ann.delete(path)]
            assert {(reply.status, json.dumps(reply.body)) for reply in replies} == {
                (404, json.dumps({"success": False, "code": "not_found", "message": "there is no such record"}))
            }
        if table != "users":
            assert (await ann.get(f"/api/{table}?include_deleted=1")).body["data"] == []
        assert (await bob.get(f"/api/{table}/{row['id']}")).body["data"] == row


async def test_a_reference_to_another_company_answers_as_one_to_nothing(api: Api) -> None:
    ann, bob = await api.register(), await api.register()
    foreign = await create(bob, "item_categories")
    own = await create(ann, "item_categories")
    answers = [await ann.post("/api/products", {"name": "x", "category_id": number}) for number in (foreign["id"], 987_654)]
    assert answers[0].body == answers[1].body
    assert (answers[0].status, answers[0].code) == (422, "unresolved_reference")
    product = await create(ann, "products", category_id=own["id"])
    reply = await ann.patch(f"/api/products/{product['id']}", {"category_id": foreign["id"]})
    assert reply.code == "unresolved_reference"
    await ann.delete(f"/api/item_categories/{own['id']}")
    assert (await create(ann, "products", category_id=own["id"]))["category_id"] == own["id"]


async def test_a_value_that_must_be_unique_is_refused_twice_and_free_after_deletion(api: Api) -> None:
    ann, bob = await api.register(), await api.register()
    tea = await create(ann, "products", sku="T-1")
    await create(bob, "products", sku="T-1")
    other = await create(ann, "products", sku="t-1")
    for reply in (
        await ann.post("/api/products", {"name": "x", "sku": "T-1"}),
        await ann.patch(f"/api/products/{other['id']}", {"sku": "T-1"}),
    ):
        assert (reply.status, reply.code) == (409, "duplicate_key")
    await ann.delete(f"/api/products/{tea['id']}")
    assert (await create(ann, "products", sku="T-1"))["sku"] == "T-1"


async def test_pages_follow_the_id_and_end(api: Api) -> None:
    ann = await api.register()
    made = [(await create(ann, "units_of_measure", name=f"u{number}"))["id"] for number in range(7)]
    seen: list[int] = []
    after, has_more = 0, True
    while has_more:
        body = (await ann.get(f"/api/units_of_measure?limit=3&after={after}")).body
        seen += [row["id"] for row in body["data"]]
        after, has_more = body["next_after"], body["has_more"]
    assert seen == made


async def test_filters_compare_columns_by_their_type(api: Api) -> None:
    ann = await api.register()
    customer, supplier = await create(ann, "parties"), await create(ann, "parties", party_type="supplier", is_active=False)
    for query, expected in {
        "party_type=supplier": [supplier],
        "is_active=false": [supplier],
        "is_active=1&party_type=customer": [customer],
        "phone=null": [customer, supplier],
        "opening_balance=0.0": [customer, supplier],
        f"id={customer['id']}": [customer],
        "name=Ann' OR '1'='1": [],
    }.items():
        assert (await ann.get(f"/api/parties?{query}")).body["data"] == expected, query


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=-1", "limit=x", "limit=1e9", "after=-1", "after=x", "after=99999999999999999", "include_deleted=maybe",
     "nope=1", "login_id=1", "name;=1", "party_type=friend", "payment_terms_days=x", "created_at=2026-01-01", "limit=1&limit=2",
     "company_id=x", "company_id=0", "opening_balance=NaN", "is_active=maybe"],
)  # fmt: skip
async def test_a_bad_query_is_400(api: Api, query: str) -> None:
    ann = await api.register()
    assert (await ann.get(f"/api/parties?{query}")).status == 400
    assert (await ann.get("/api/parties?limit=1000000000")).status == 200


async def test_two_companies_need_a_choice_and_each_sees_its_own(api: Api) -> None:
    ann, bob = await api.register(), await api.register()
    first = ann.company_id
    reply = await ann.post("/api/companies", {"name": "Second", "is_active": True, "nonsense": 1})
    assert (reply.status, reply.body["ignored"]) == (201, ["nonsense"])
    second = reply.body["data"]["id"]
    assert (await ann.get("/api/parties")).code == "company_required"
    party = (await ann.post(f"/api/parties?company_id={second}", VALUES["parties"])).body["data"]
    assert party["company_id"] == second
    assert (await ann.get(f"/api/parties?company_id={first}")).body["data"] == []
    assert (await ann.get(f"/api/parties/{party['id']}?company_id={first}")).status == 404
    assert [company["role"] for company in (await ann.get("/api/auth/user")).body["user"]["companies"]] == ["owner", "owner"]
    refusals = [await ann.get(f"/api/parties?company_id={number}") for number in (bob.company_id, 987_654)]
    assert refusals[0].body == refusals[1].body
    assert (refusals[0].status, refusals[0].code) == (403, "forbidden")
    assert (await ann.delete(f"/api/companies/{second}?company_id={second}")).code == "forbidden"
    assert (await ann.patch(f"/api/companies/{first}?company_id={second}", {"name": "x"})).status == 404
    assert (await ann.patch(f"/api/companies/{first}?company_id={first}", {"name": "x"})).body["data"]["name"] == "x"


def log_change(admin: SqlClient, table: str, row: dict[str, Any], version: int, previous: int | None) -> None:
    """A change as the tailer would write it."""
    data = json.dumps(row).replace("\\", "\\\\").replace("'", "\\'")
    key = f"{row['company_id']}, {version}, '{table}', {row['id']}"
    admin.run(
        "INSERT INTO sync_changes (company_id, version, table_name, record_id, operation, data, timestamp, tx, origin, "
        f"prev_version, chain) VALUES ({key}, 'UPDATE', '{data}', '', 1, 'api', {previous or 'NULL'}, REPEAT('x', 32))",
        f"REPLACE INTO sync_live (company_id, version, table_name, record_id, is_deleted) VALUES ({key}, 0)",
    )


async def test_if_match_holds_against_the_row_as_it_is_now(api: Api, admin: SqlClient) -> None:
    ann = await api.register()
    row = await create(ann, "products", sale_price="1.00")
    path, base = f"/api/products/{row['id']}", ann.company_id * 1000
    assert (await ann.get(path)).body["version"] is None
    assert (await ann.patch(path, {"sale_price": 2}, headers={"If-Match": str(base)})).code == "precondition_failed"
    log_change(admin, "products", row, base, None)
    reply = await ann.get(path)
    assert (reply.body["version"], reply.headers["ETag"]) == (base, f'"{base}"')
    assert (await ann.patch(path, {"sale_price": 2}, headers={"If-Match": reply.headers["ETag"]})).status == 200
    lagging = await ann.patch(path, {"sale_price": 3}, headers={"If-Match": str(base)})
    assert (lagging.status, lagging.code) == (412, "precondition_failed")
    row = (await ann.get(path)).body["data"]
    log_change(admin, "products", row, base + 5, base)
    assert (await ann.delete(path, headers={"If-Match": str(base + 4)})).status == 412
    assert (await ann.patch(path, {"sale_price": 3}, headers={"If-Match": f'W/"{base + 9}"'})).status == 200
    assert (await ann.patch(path, {"sale_price": 4}, headers={"If-Match": "*"})).status == 200
    for bad in ("x", '"1", "2"', "-1", "9" * 17):
        assert (await ann.patch(path, {"sale_price": 5}, headers={"If-Match": bad})).code == "malformed"


async def test_two_changes_at_once_with_if_match_let_one_through(api: Api, admin: SqlClient) -> None:
    ann = await api.register()
    row = await create(ann, "parties")
    log_change(admin, "parties", row, ann.company_id * 1000, None)
    headers = {"If-Match": str(ann.company_id * 1000)}
    replies = await asyncio.gather(
        *(ann.patch(f"/api/parties/{row['id']}", {"phone": str(number)}, headers=headers) for number in range(6))
    )
    assert sorted(reply.status for reply in replies) == [200, *[412] * 5]


@pytest.mark.parametrize("how", ["UPDATE parties SET deleted_at = NOW(6)", "DELETE FROM parties"])
async def test_a_record_that_goes_right_after_it_was_written_was_written_all_the_same(
    api: Api, admin: SqlClient, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Somebody's plain SQL comes between the COMMIT and the read for the answer: 404 would say that there was nothing to write."""
    owner = await api.register()
    kept = (await owner.post("/api/parties", {"name": "Ann"})).body["data"]["id"]
    settle = settling.settle

    async def goes(request: Any, origin_id: int, company_id: int) -> Any:
        passed = await settle(request, origin_id, company_id)
        admin.run(f"{how} WHERE company_id = {owner.company_id}")
        return passed

    monkeypatch.setattr(data, "settle", goes)
    changed = await owner.ask("PATCH", f"/api/parties/{kept}", {"phone": "1"})
    assert (changed.status, changed.body["data"]["id"]) == (200, kept)
    made = await owner.post("/api/parties", {"name": "Bob"})
    assert made.status == 201 and made.body["data"]["id"] > kept
