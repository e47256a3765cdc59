"""Push: what stands or falls together (contract §3, Atomicity)."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import orjson
import pytest

from api import push as push_module
from api.db import Outcome, Session, Statement
from api.push import Pushed
from schema.columns import ID_MAX
from tests.api.conftest import Api
from tests.api.tills import drained, shop
from tests.device import Change, insert, update
from tests.oracle import Oracle
from tests.sql_client import SqlClient

pytestmark = pytest.mark.asyncio(loop_scope="module")

DAY = "2026-02-03"


def sale(
    name: str, *, line_amount: str = "10.00", entry: str = "10.00", product: Any = "tea", account: Any = "cash"
) -> list[Change]:
    """A posted sale as an app makes it: seven rows that refer to one another."""
    return [
        insert("transactions", f"{name}-t", type="sale", date=DAY, total_amount="10.00"),
        insert("transaction_lines", f"{name}-l", transaction_id=f"{name}-t", product_id=product, line_amount=line_amount),
        insert(
            "invoices", f"{name}-i", transaction_id=f"{name}-t", invoice_type="sale", invoice_number=name, invoice_date=DAY,
            grand_total="10.00", status="sent",
        ),
        insert(
            "account_transactions", f"{name}-d", account_id=account, transaction_type="saleInvoice", transaction_id=f"{name}-t",
            transaction_date=DAY, debit="10.00",
        ),
        insert(
            "account_transactions", f"{name}-c", account_id="income", transaction_type="saleInvoice", transaction_id=f"{name}-t",
            transaction_date=DAY, credit=entry,
        ),
        insert("stock_ledger", f"{name}-s", product_id="tea", date=DAY, movement_type="outSale", transaction_id=f"{name}-t"),
    ]  # fmt: skip


BASICS = [
    ("products", "tea", {"name": "Tea"}),
    ("accounts", "cash", {"name": "Cash", "account_type": "asset"}),
    ("accounts", "income", {"name": "Income", "account_type": "revenue"}),
]


async def test_a_sale_in_any_order_is_stored_whole_and_is_one_transaction_of_the_feed(api: Api, admin: SqlClient) -> None:
    owner, (line, other) = await shop(api)
    cursor = await drained(other)
    changes = [*sale("S1"), *(insert(table, name, **data) for table, name, data in BASICS)]
    answer = await line.push(*reversed(changes))
    assert [result["status"] for result in answer["results"]] == ["applied"] * 9, answer["results"]
    feed = (await other.pull(cursor))["changes"]
    assert len(feed) == 9 and len({change["tx"] for change in feed}) == 1
    rows = Oracle(admin).rows(owner.company_id)
    assert [len(rows[t]) for t in ("transactions", "transaction_lines", "invoices", "account_transactions", "stock_ledger")] == [
        1, 1, 1, 2, 1,
    ]  # fmt: skip


async def test_a_sale_of_many_lines_takes_no_more_packets_than_one_of_few(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of each table are made together, though an app sends each line with what it takes from the stock."""
    _, (line, _) = await shop(api)
    await line.push(*(insert(table, name, **data) for table, name, data in BASICS))
    packets = 0
    pushing: Session | None = None
    run, apply = Session.run, push_module.apply_push

    async def counted(self: Session, *statements: Statement) -> list[Outcome]:
        nonlocal packets
        packets += self is pushing  # looks for the tailer, and at what is forgotten after two seconds, come by chance
        return await run(self, *statements)

    async def noting(session: Session, *arguments: Any) -> Pushed:
        nonlocal pushing
        pushing = session
        return await apply(session, *arguments)

    monkeypatch.setattr(Session, "run", counted)
    monkeypatch.setattr(push_module, "apply_push", noting)
    taken = []
    for number, lines in enumerate((2, 2, 40)):
        parts = [
            insert(table, f"{number}-{table}-{n}", transaction_id=f"{number}-t", **data)
            for n in range(lines)
            for table, data in (
                ("transaction_lines", {"product_id": "tea", "line_amount": "0.00"}),
                ("stock_ledger", {"product_id": "tea", "date": DAY, "movement_type": "outSale"}),
            )
        ]
        packets = 0
        answer = await line.push(*sale(str(number)), *parts)
        assert {result["status"] for result in answer["results"]} == {"applied"}
        taken.append(packets)
    assert 0 < taken[1] == taken[2] <= 20


async def test_a_value_that_only_an_undone_row_of_the_group_had_names_no_record(api: Api) -> None:
    _, (line, _) = await shop(api)
    made = await line.push_one(insert("products", "a", name="A"))
    both = [insert("products", "b", name="B", sku="S9"), update("products", made["record_id"], sku="S9")]
    answer = await line.push(*({**change, "group": "g"} for change in both))
    assert [(result["code"], "other_id" in result) for result in answer["results"]] == [
        ("group_refused", False),
        ("duplicate_key", False),
    ]
    taken = await line.push_one(insert("products", "c", name="C", sku="S9"))
    again = await line.push_one(update("products", made["record_id"], sku="S9"))
    assert (again["code"], again["other_id"]) == ("duplicate_key", taken["record_id"])


async def test_a_refused_edit_of_a_row_that_its_own_group_made_names_no_record(api: Api, admin: SqlClient) -> None:
    """The row was undone with the group: the server has no row to fall back on, and gives none anew."""
    owner, (line, _) = await shop(api)
    await line.push(*(insert(table, name, **data) for table, name, data in BASICS))
    edit = update("transactions", None, more={"local_id": "S1-t"}, description="seen")
    answer = await line.push(*sale("S1"), edit)
    assert {result["status"] for result in answer["results"]} == {"rejected"}, "a posted document is not changed"
    assert (answer["results"][-1]["code"], answer["results"][-1]["record_id"]) == ("immutable", None)
    assert {result["code"] for result in answer["results"][:-1]} == {"group_refused"}
    assert answer["conflicts"] == [] and answer["id_mappings"] == {}
    assert not admin.rows("SELECT 1 FROM sync_redeliveries WHERE company_id = %s", owner.company_id)
    mended = await line.push(*sale("S1"))
    assert {result["status"] for result in mended["results"]} == {"applied"}


async def test_sales_that_are_written_in_one_packet_keep_their_parts_apart(api: Api, admin: SqlClient) -> None:
    owner, (line, _) = await shop(api)
    await line.push(*(insert(table, name, **data) for table, name, data in BASICS))
    names = ("S1", "S2", "S3")
    ids = (await line.push(*(change for name in names for change in sale(name))))["id_mappings"]
    rows = Oracle(admin).rows(owner.company_id)
    for name in names:
        for table, part in (("transaction_lines", "l"), ("invoices", "i"), ("account_transactions", "d"), ("stock_ledger", "s")):
            assert rows[table][ids[f"{name}-{part}"]]["transaction_id"] == ids[f"{name}-t"], f"{table} of {name}"


async def test_a_number_that_happens_to_stand_for_a_new_row_is_stored_as_it_was_sent(
    api: Api, admin: SqlClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.push_writes.secrets.randbits", lambda bits: 1)
    owner, (line, _) = await shop(api)
    await line.push(*(insert(table, name, **data) for table, name, data in BASICS))
    changes = sale("S1")
    changes[3]["data"]["reference_id"] = ID_MAX - 1
    answer = await line.push(*changes)
    assert {result["status"] for result in answer["results"]} == {"applied"}
    entry = Oracle(admin).table("account_transactions", owner.company_id)[answer["id_mappings"]["S1-d"]]
    assert (entry["reference_id"], entry["transaction_id"]) == (ID_MAX - 1, answer["id_mappings"]["S1-t"])


@pytest.mark.parametrize("broken", range(6))
async def test_half_a_document_is_never_stored_and_other_changes_are(api: Api, admin: SqlClient, broken: int) -> None:
    owner, (line, _) = await shop(api)
    await line.push(*(insert(table, name, **data) for table, name, data in BASICS))
    changes = sale("S1")
    column = {0: "date", 1: "quantity", 2: "invoice_date", 3: "debit", 4: "credit", 5: "quantity_delta"}[broken]
    changes[broken]["data"][column] = "not a value"
    answer = await line.push(insert("parties", "before", name="Ann"), *changes, insert("parties", "after", name="Bob"))
    statuses = [result["status"] for result in answer["results"]]
    assert statuses == ["applied", *["rejected"] * 6, "applied"]
    assert answer["results"][broken + 1]["code"] == "bad_value"
    others = [result for number, result in enumerate(answer["results"][1:-1]) if number != broken]
    assert all(result["code"] and result["record_id"] is None for result in others)
    retryable = {result["code"]: result["retryable"] for result in answer["results"][1:-1]}
    assert retryable["group_refused"] is retryable["bad_value"] is False, "a group is sent again whole or not at all"
    assert set(answer["id_mappings"]) == {"before", "after"}
    rows = Oracle(admin).rows(owner.company_id)
    assert not any(rows[t] for t in ("transactions", "transaction_lines", "invoices", "account_transactions", "stock_ledger"))
    mended = await line.push(*sale("S1"))
    assert {result["status"] for result in mended["results"]} == {"applied"}


async def test_entries_that_do_not_balance_or_lines_that_do_not_add_up_refuse_their_document_alone(
    api: Api, admin: SqlClient
) -> None:
    owner, (line, _) = await shop(api)
    await line.push(*(insert(table, name, **data) for table, name, data in BASICS))
    answer = await line.push(*sale("bad", entry="9.99"), *sale("good"), *sale("worse", line_amount="11.00"))
    statuses = [result["status"] for result in answer["results"]]
    assert statuses == [*["rejected"] * 6, *["applied"] * 6, *["rejected"] * 6], answer["results"]
    assert "unbalanced" in {result["code"] for result in answer["results"][:6]}
    assert "unbalanced" in {result["code"] for result in answer["results"][12:]}
    assert {row["invoice_number"] for row in Oracle(admin).table("invoices", owner.company_id).values()} == {"good"}


async def test_an_explicit_group_is_all_or_nothing(api: Api, admin: SqlClient) -> None:
    owner, (line, _) = await shop(api)
    together = {"group": "g1"}
    answer = await line.push(
        insert("parties", "a", name="Ann", more=together),
        insert("item_categories", "b", name=None, more=together),
        insert("parties", "c", name="Cy", more={"group": "g2"}),
        insert("units_of_measure", "d", name="kg", more=together),
    )
    assert [result["status"] for result in answer["results"]] == ["rejected", "rejected", "applied", "rejected"]
    rows = Oracle(admin).rows(owner.company_id)
    assert [row["name"] for row in rows["parties"].values()] == ["Cy"] and not rows["units_of_measure"]


async def test_a_refused_group_leaves_existing_rows_as_they_were_and_tells_them(api: Api, admin: SqlClient) -> None:
    owner, (line, _) = await shop(api)
    ids = (await line.push(insert("parties", "a", name="Ann"), insert("parties", "b", name="Bob")))["id_mappings"]
    together = {"group": "g"}
    for order in itertools.permutations(range(3)):
        changes = [
            update("parties", ids["a"], phone="1", more=together),
            update("parties", ids["b"], phone="2", more=together),
            insert("parties", "bad", name=None, more=together),
        ]
        answer = await line.push(*(changes[number] for number in order))
        results = {number: answer["results"][at] for at, number in enumerate(order)}
        assert results[2]["status"] == "rejected"
        for number, name in ((0, "a"), (1, "b")):
            result = results[number]
            assert (result["status"], result["record_id"]) == ("conflict", ids[name]), "there is a row to fall back on"
            assert result["server_data"]["phone"] is None and result["server_deleted"] is False
    assert {row["phone"] for row in Oracle(admin).table("parties", owner.company_id).values()} == {None}


async def test_an_edit_that_came_to_nothing_only_because_of_its_undone_group_is_refused_with_it(api: Api, admin: SqlClient) -> None:
    owner, (line, _) = await shop(api)
    ids = (await line.push(insert("parties", "a", name="Ann"), insert("products", "p", name="Tea")))["id_mappings"]
    together = {"group": "g"}
    answer = await line.push(
        update("parties", ids["a"], name="Ann", more=together),
        update("parties", ids["a"], phone="1", more=together),
        update("parties", ids["a"], phone="1", more=together),
        insert("item_categories", "c", name="C", more=together),
        update("products", ids["p"], category_id="c", more=together),
        update("products", ids["p"], category_id="c", more=together),
        insert("parties", "bad", name=None, more=together),
    )
    anyway, *refused = answer["results"][:3]
    assert anyway["status"] == "noop", "so it stands on the server"
    for result in (*refused, *answer["results"][4:6]):
        assert (result["status"], result["code"]) == ("conflict", "group_refused"), "the server has nothing of it"
        assert not result["server_data"].get("phone") and not result["server_data"].get("category_id")
    kept = admin.rows("SELECT base, client FROM sync_conflicts WHERE company_id = %s AND table_name = 'products'", owner.company_id)
    assert [orjson.loads(client) for _, client in kept] == [{"id": ids["p"], "category_id": "c"}] * 2
    pushed = admin.rows("SELECT payload FROM sync_pushed WHERE company_id = %s AND table_name = 'products'", owner.company_id)
    assert {orjson.loads(payload).get("category_id") for (payload,) in pushed} == {None, "c"}, "no id of a row that is not there"


async def test_an_edit_of_the_group_that_is_the_one_refused_keeps_no_id_of_an_undone_row(api: Api, admin: SqlClient) -> None:
    owner, (line, other) = await shop(api)
    draft = insert("transactions", "t", type="sale", date="2026-02-03", total_amount="0.00", is_posted=False)
    ids = (await line.push(draft))["id_mappings"]
    cursor = await drained(other)
    await line.push(update("transactions", ids["t"], description="Theirs"))
    answer = await other.push(
        insert("parties", "c", name="Cy", more={"group": "g"}),
        update("transactions", ids["t"], party_id="c", more={"group": "g", "base_version": cursor}),
    )
    assert [result["status"] for result in answer["results"]] == ["rejected", "conflict"]
    ((client,),) = admin.rows("SELECT client FROM sync_conflicts WHERE company_id = %s AND code = 'changed'", owner.company_id)
    assert orjson.loads(client)["party_id"] == "c"


async def test_an_insert_that_was_stored_before_stays_mapped_when_its_group_is_refused(api: Api) -> None:
    _, (line, _) = await shop(api)
    first = await line.push(insert("parties", "a", name="Ann"))
    together = {"group": "g"}
    again, bad = insert("parties", "a", name="Ann", phone="9", more=together), insert("parties", "b", name=None, more=together)
    for changes in ([again, bad], [bad, again]):
        answer = await line.push(*changes)
        assert answer["id_mappings"] == first["id_mappings"], "every INSERT whose record exists is mapped"
        assert answer["results"][changes.index(again)]["server_data"]["phone"] is None


async def test_after_an_undone_group_its_local_ids_are_free_for_the_rest_of_the_push(api: Api, admin: SqlClient) -> None:
    owner, (line, _) = await shop(api)
    together = {"group": "g"}
    answer = await line.push(
        insert("item_categories", "c", name="C", more=together),
        insert("parties", "bad", name=None, more=together),
        insert("products", "p", name="Tea", category_id="c"),
        update("item_categories", None, name="D", more={"local_id": "c"}),
    )
    assert [result["status"] for result in answer["results"]] == ["rejected"] * 4
    assert answer["results"][2]["code"] == "unresolved_reference" and answer["results"][2]["retryable"] is True
    assert answer["results"][3]["code"] == "not_found"
    again = await line.push(insert("item_categories", "c", name="C"), insert("products", "p", name="Tea", category_id="c"))
    assert [result["status"] for result in again["results"]] == ["applied", "applied"]
    assert len(Oracle(admin).table("item_categories", owner.company_id)) == 1


async def test_groups_that_need_one_another_are_one(api: Api, admin: SqlClient) -> None:
    owner, (line, _) = await shop(api)
    answer = await line.push(
        insert("item_categories", "a", name="A", more={"group": "1"}),
        insert("item_categories", "b", name="B", parent_category_id="a", more={"group": "2"}),
        insert("item_categories", "c", name="C", parent_category_id="b", more={"group": "1"}),
    )
    assert [result["status"] for result in answer["results"]] == ["applied"] * 3
    assert len(Oracle(admin).table("item_categories", owner.company_id)) == 3


async def test_rows_that_refer_to_one_another_in_a_circle_are_refused_and_block_nothing(api: Api) -> None:
    _, (line, _) = await shop(api)
    answer = await line.push(
        insert("item_categories", "a", name="A", parent_category_id="b"),
        insert("item_categories", "b", name="B", parent_category_id="a"),
        insert("item_categories", "self", name="S", parent_category_id="self"),
        insert("item_categories", "c", name="C"),
    )
    assert [result["status"] for result in answer["results"]] == ["rejected"] * 3 + ["applied"]
    assert {result["code"] for result in answer["results"][:2]} <= {"unresolved_reference", "group_refused"}


async def test_a_chain_of_new_rows_that_refer_to_one_another_may_be_sent_backwards(api: Api, admin: SqlClient) -> None:
    owner, (line, _) = await shop(api)
    chain = [
        insert("item_categories", n, name=str(n), **({"parent_category_id": n - 1} if n > 900_000 else {}))
        for n in range(900_000, 900_060)
    ]
    answer = await line.push(*reversed(chain))
    assert {result["status"] for result in answer["results"]} == {"applied"}
    rows = Oracle(admin).table("item_categories", owner.company_id)
    assert sum(row["parent_category_id"] is None for row in rows.values()) == 1 and len(rows) == 60


async def test_changes_of_one_record_keep_their_order(api: Api, admin: SqlClient) -> None:
    owner, (line, _) = await shop(api)
    answer = await line.push(
        update("parties", None, phone="1", more={"local_id": "a"}),
        insert("parties", "a", name="Ann"),
        update("parties", None, phone="2", more={"local_id": "a"}),
        update("parties", None, phone="3", more={"local_id": "a"}),
    )
    assert {result["status"] for result in answer["results"]} <= {"applied", "noop"}, answer["results"]
    [row] = Oracle(admin).table("parties", owner.company_id).values()
    assert row["phone"] == "3"


async def test_pushes_of_many_devices_at_once_that_meet_in_the_same_rows_all_succeed(api: Api, admin: SqlClient) -> None:
    owner, lines = await shop(api, 8)
    ids = (await lines[0].push(*(insert("products", n, name=str(n)) for n in range(6))))["id_mappings"]
    keys = [ids[str(n)] for n in range(6)]
    answers = await asyncio.gather(
        *(
            line.push(*(update("products", key, sku=f"{line.device_id}-{key}") for key in (keys if at % 2 else reversed(keys))))
            for at, line in enumerate(lines)
        )
    )
    assert {result["status"] for answer in answers for result in answer["results"]} <= {"applied", "conflict"}
    rows = Oracle(admin).table("products", owner.company_id)
    assert len({row["sku"].rsplit("-", 1)[0] for row in rows.values()}) == 1, "one whole push came last"


async def test_of_many_new_rows_in_a_group_the_one_that_is_refused_is_named(api: Api) -> None:
    _, (line, _) = await shop(api)
    await line.push(insert("products", "old", name="Old", sku="taken"))
    rows = [
        insert("products", name, name=name, sku=sku, more={"group": "g"})
        for name, sku in zip("abc", ("1", "taken", "3"), strict=True)
    ]
    results = (await line.push(*rows))["results"]
    assert [result["code"] for result in results] == ["group_refused", "duplicate_key", "group_refused"]
    assert results[0]["refused_by"] == results[2]["refused_by"] == 1


async def test_an_insert_that_is_twice_in_an_undone_group_stands_for_nothing(api: Api) -> None:
    _, (line, _) = await shop(api)
    twice = [insert("products", "twice", name="Twice", more={"group": "g"}) for _ in range(2)]
    answer = await line.push(*twice, insert("products", "bad", more={"group": "g"}))
    assert [result["code"] for result in answer["results"]] == ["group_refused", "group_refused", "bad_value"]
    assert answer["id_mappings"] == {}
