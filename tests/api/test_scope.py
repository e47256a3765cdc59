"""Roles, narrowed devices, closed companies: who may see and write what."""

from __future__ import annotations

import asyncio

import pytest

from api.auth import AUTH
from api.db import Outcome, Session, Statement
from api.keys import DATABASE
from api.scope import Scopes
from tests.api.conftest import Api
from tests.api.rows import VALUES, create, create_all, hire
from tests.sql_client import SqlClient


async def test_a_viewer_reads_and_writes_nothing(api: Api, admin: SqlClient) -> None:
    ann = await api.register()
    rows = await create_all(ann)
    viewer = await hire(api, admin, ann, "viewer")
    for table, row in rows.items():
        assert (await viewer.get(f"/api/{table}/{row['id']}")).status == 200
        for reply in (
            await viewer.post(f"/api/{table}", VALUES[table]),
            await viewer.patch(f"/api/{table}/{row['id']}", {}),
            await viewer.delete(f"/api/{table}/{row['id']}"),
        ):
            assert (reply.status, reply.code) == (403, "forbidden")
    seen = (await viewer.get("/api/payment_accounts")).body["data"][0]
    assert "account_number" not in seen
    assert (await viewer.get("/api/payment_accounts?account_number=123")).code == "unknown_column"


async def test_sales_writes_its_own_sale_documents_only(api: Api, admin: SqlClient) -> None:
    ann = await api.register()
    rows = await create_all(ann)
    sam = await hire(api, admin, ann, "sales")
    for table in ("accounts", "account_transactions", "users", "settings", "payment_outs"):
        assert (await sam.get(f"/api/{table}")).code == "forbidden"
    seen = (await sam.get("/api/payment_accounts")).body["data"][0]
    assert not {"account_number", "ifsc_code"} & set(seen)
    sale = await create(sam, "transactions")
    line = await create(sam, "transaction_lines", transaction_id=sale["id"], product_id=rows["products"]["id"])
    await create(sam, "invoices", invoice_number="S-1", transaction_id=sale["id"])
    receipt = await create(sam, "payment_ins", receipt_no="S-1")
    await create(sam, "payment_in_lines", payment_in_id=receipt["id"])
    assert (await sam.patch(f"/api/transaction_lines/{line['id']}", {"quantity": 2})).status == 200
    others = rows["transactions"]["id"]
    refused = [
        await sam.post("/api/transactions", {"type": "purchase", "date": "2026-01-01"}),
        await sam.patch(f"/api/transactions/{sale['id']}", {"type": "journal"}),
        await sam.patch(f"/api/transactions/{others}", {"reference_no": "x"}),
        await sam.post("/api/transaction_lines", {"transaction_id": others}),
        await sam.patch(f"/api/transaction_lines/{line['id']}", {"transaction_id": others}),
        await sam.patch(f"/api/transaction_lines/{rows['transaction_lines']['id']}", {"transaction_id": sale["id"]}),
        await sam.patch(f"/api/payment_ins/{rows['payment_ins']['id']}", {"description": "x"}),
        await sam.delete(f"/api/transactions/{others}"),
        await sam.post("/api/invoices", {**VALUES["invoices"], "invoice_type": "purchase"}),
        await sam.post("/api/products", {"name": "x"}),
    ]
    assert [(reply.status, reply.code) for reply in refused] == [(403, "forbidden")] * len(refused)


async def test_an_admin_does_everything_but_to_owners(api: Api, admin: SqlClient) -> None:
    ann = await api.register()
    bob = await hire(api, admin, ann, "admin")
    clerk = await create(bob, "users", role="sales")
    owner_row = (await ann.get("/api/users?role=owner")).body["data"][0]["id"]
    for reply in (
        await bob.post("/api/users", {"full_name": "x", "role": "owner"}),
        await bob.patch(f"/api/users/{clerk['id']}", {"role": "owner"}),
        await bob.patch(f"/api/users/{owner_row}", {"role": "viewer"}),
        await bob.delete(f"/api/users/{owner_row}"),
    ):
        assert (reply.status, reply.code) == (403, "forbidden")
    assert (await bob.patch(f"/api/users/{clerk['id']}", {"role": "accountant"})).status == 200
    assert (await ann.patch(f"/api/users/{clerk['id']}", {"role": "owner"})).status == 200


async def test_a_role_that_is_taken_away_ends_within_five_seconds(api: Api, admin: SqlClient) -> None:
    ann = await api.register()
    bob = await hire(api, admin, ann, "admin")
    assert (await bob.post("/api/parties", VALUES["parties"])).status == 201
    row = (await ann.get("/api/users?role=admin")).body["data"][0]["id"]
    assert (await ann.patch(f"/api/users/{row}", {"role": "viewer"})).status == 200
    assert (await bob.post("/api/parties", VALUES["parties"])).code == "forbidden"
    admin.run(f"UPDATE users SET is_active = 0 WHERE id = {row}")
    for _ in range(50):
        if (await bob.get("/api/parties")).status == 403:
            break
        await asyncio.sleep(0.1)
    assert (await bob.get("/api/parties")).code == "forbidden"


async def test_a_narrowed_device_does_less(api: Api, admin: SqlClient) -> None:
    ann = await api.register(device_id="kiosk")
    admin.run("""UPDATE devices SET capabilities = '{"tables": ["parties", "products"]}' WHERE device_id = 'kiosk'""")
    assert (await ann.get("/api/parties")).status == 200
    assert (await ann.get("/api/accounts")).code == "forbidden"
    bob = await api.register(device_id="screen")
    admin.run("""UPDATE devices SET capabilities = '{"read_only": true}' WHERE device_id = 'screen'""")
    assert (await bob.get("/api/accounts")).status == 200
    assert (await bob.post("/api/parties", VALUES["parties"])).code == "forbidden"


async def test_a_closed_company_is_forbidden(api: Api, admin: SqlClient) -> None:
    ann = await api.register()
    admin.run(f"UPDATE companies SET is_active = 0 WHERE id = {ann.company_id}")
    reply = await ann.get("/api/parties")
    assert (reply.status, reply.code) == (403, "forbidden")


async def test_companies_and_device_are_asked_for_together_and_then_known_for_a_while(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = await api.register()
    identity = await api.app[AUTH].identify(ann.token)
    first = await Scopes(api.app[DATABASE]).find(identity, None, "till-1")
    times = [0.0]
    scopes = Scopes(api.app[DATABASE], clock=lambda: times[-1])
    packets: list[int] = []
    run = Session.run

    async def counted(self: Session, *statements: Statement) -> list[Outcome]:
        packets.append(len(statements))
        return await run(self, *statements)

    monkeypatch.setattr(Session, "run", counted)
    for now, asked in ((0.0, [2]), (1.0, [2]), (9.0, [2, 2])):
        times.append(now)
        assert await scopes.find(identity, None, "till-1") == first
        assert packets == asked
