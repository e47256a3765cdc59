"""Push: references by local and server ids, and rows of others, which answer like rows that do not exist (contract §3)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.api.conftest import Api
from tests.api.tills import shop
from tests.device import Change, Refused, delete, insert, update
from tests.oracle import Oracle
from tests.sql_client import SqlClient

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_reference_is_a_local_id_or_a_server_id_as_text_or_number(api: Api, admin: SqlClient) -> None:
    owner, (line, other) = await shop(api)
    first = await line.push(insert("item_categories", "c", name="Tea"), insert("item_categories", 9_000_001, name="Coffee"))
    by_text, by_number = first["id_mappings"]["c"], first["id_mappings"]["9000001"]
    answer = await line.push(
        insert("products", "p1", name="1", category_id="c"),
        insert("products", "p2", name="2", category_id=by_text),
        insert("products", "p3", name="3", category_id=str(by_text)),
        insert("products", "p4", name="4", category_id=9_000_001),
        insert("products", "p5", name="5", category_id="9000001"),
        insert("products", "p6", name="6", category_id="new"),
        insert("products", "p7", name="7", category_id=77),
        insert("item_categories", "new", name="New"),
        insert("item_categories", 77, name="Seventy"),
    )
    assert [result["status"] for result in answer["results"]] == ["applied"] * 9, answer["results"]
    new, seventy = answer["id_mappings"]["new"], answer["id_mappings"]["77"]
    wanted = [by_text, by_text, by_text, by_number, by_number, new, seventy]
    rows = Oracle(admin).table("products", owner.company_id)
    assert [row["category_id"] for _, row in sorted(rows.items(), key=lambda item: item[1]["name"])] == wanted
    foreign = await other.push_one(insert("products", "p", name="8", category_id="c"))
    assert foreign["code"] == "unresolved_reference", "another device's local id"


async def test_text_that_is_a_local_id_and_a_server_id_is_the_local_id_and_a_number_the_server_id(
    api: Api, admin: SqlClient
) -> None:
    _, (line, _) = await shop(api)
    server_id = (await line.push(insert("item_categories", "x", name="Server")))["id_mappings"]["x"]
    local = (await line.push(insert("item_categories", server_id, name="Local")))["id_mappings"][str(server_id)]
    answer = await line.push(
        insert("products", "a", name="text", category_id=str(server_id)),
        insert("products", "b", name="number", category_id=server_id),
    )
    found = [admin.value("SELECT category_id FROM products WHERE id = %s", answer["id_mappings"][name]) for name in ("a", "b")]
    assert found == [local, server_id]
    same_push = await line.push(
        insert("units_of_measure", server_id, name="here"), insert("products", "c", name="here", uom_id=server_id)
    )
    uom = admin.value("SELECT uom_id FROM products WHERE id = %s", same_push["id_mappings"]["c"])
    assert uom == same_push["id_mappings"][str(server_id)], "a number is a local id of this push first"


async def test_a_reference_to_nothing_is_unresolved_and_may_be_tried_again(api: Api) -> None:
    _, (line, _) = await shop(api)
    for value in (2**50, "nobody", "0", 0, -5, str(2**63), 2**63):
        result = await line.push_one(insert("products", f"p{value}", name="Tea", category_id=value))
        assert (result["status"], result["code"], result["retryable"]) == ("rejected", "unresolved_reference", True), value
    odd: list[Any] = [1.5, True, [], {"id": 1}]
    for value in odd:
        result = await line.push_one(insert("products", "q", name="Tea", category_id=value))
        assert result["status"] == "rejected" and result["code"] in ("bad_value", "unresolved_reference"), value
    later = await line.push(insert("products", "p", name="Tea", category_id="c"), insert("item_categories", "c", name="C"))
    assert [result["status"] for result in later["results"]] == ["applied", "applied"]


async def test_a_reference_to_a_refused_insert_of_the_push_is_unresolved_not_a_server_id(api: Api) -> None:
    _, (line, other) = await shop(api)
    server_id = (await other.push(insert("item_categories", "c", name="C")))["id_mappings"]["c"]
    answer = await line.push(
        insert("item_categories", server_id, name=None), insert("products", "p", name="Tea", category_id=server_id)
    )
    assert [result["code"] for result in answer["results"]] == ["bad_value", "unresolved_reference"]


async def test_a_foreign_reference_answers_exactly_like_a_missing_one(api: Api) -> None:
    _, (line, _) = await shop(api)
    _, (stranger, _) = await shop(api)
    foreign = (await stranger.push(insert("item_categories", "c", name="Theirs")))["id_mappings"]["c"]
    one, other = [
        await line.push_one(insert("products", "p", name="Tea", category_id=value)) for value in (foreign, foreign + 1_000_000)
    ]
    assert one == other and one["code"] == "unresolved_reference"


async def test_a_foreign_row_answers_exactly_like_a_missing_one(api: Api, admin: SqlClient) -> None:
    owner, (line, _) = await shop(api)
    stranger, (their, _) = await shop(api)
    made = (await their.push(insert("parties", "a", name="Theirs"), insert("parties", "b", name="Theirs")))["id_mappings"]
    foreign = next(record_id for record_id in made.values() if record_id != owner.company_id)
    before = Oracle(admin).table("parties", stranger.company_id)
    missing = foreign + 1_000_000
    for one, other in zip(_touching(foreign), _touching(missing), strict=True):
        found = []
        for change in (one, other):
            answer = await line.push(change)
            [result] = answer["results"]
            found.append({**result, "local_id": None, "conflicts": answer["conflicts"], "mapped": answer["id_mappings"]})
        assert found[0] == found[1]
        assert str(foreign) not in json.dumps(found)
    assert Oracle(admin).table("parties", stranger.company_id) == before
    assert Oracle(admin).row("companies", stranger.company_id, stranger.company_id)["name"] != "Mine"  # type: ignore[index]
    assert Oracle(admin).table("transactions", owner.company_id) == {}


async def test_a_foreign_company_answers_exactly_like_one_that_does_not_exist(api: Api) -> None:
    _, (line, _) = await shop(api)
    stranger, _ = await shop(api)
    bodies = []
    for company_id in (stranger.company_id, stranger.company_id + 1_000_000):
        for path in ("/api/sync/push", "/api/sync/pull"):
            with pytest.raises(Refused) as refused:
                await line.ask(path, {"device_id": line.device_id, "company_id": company_id, "changes": [], "last_version": 0})
            assert refused.value.status == 403
            bodies.append(refused.value.body)
    assert bodies[0] == bodies[2] and bodies[1] == bodies[3]


async def test_a_reference_to_a_soft_deleted_record_is_accepted(api: Api) -> None:
    _, (line, other) = await shop(api)
    category = (await line.push(insert("item_categories", "c", name="C")))["id_mappings"]["c"]
    await line.push(delete("item_categories", category))
    assert (await other.push_one(insert("products", "p", name="Tea", category_id=category)))["status"] == "applied"
    assert (await line.push_one(insert("products", "q", name="Tea", category_id="c")))["status"] == "applied"


def _touching(key: int) -> list[Change]:
    """Every way to name a row by its id."""
    return [
        update("parties", key, name="Mine"),
        update("parties", None, name="Mine", more={"record_id": key}),
        update("companies", key, name="Mine"),
        delete("parties", key),
        delete("parties", None, more={"record_id": key}),
        insert("transactions", f"t{key}", type="sale", date="2026-01-01", party_id=key),
    ]
