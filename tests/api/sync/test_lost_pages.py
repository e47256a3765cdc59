"""One cursor for all companies and for changing lists of tables, on a line that loses answers; outboxes that are sent in parts."""

from __future__ import annotations

import itertools

import pytest

from tests.api.conftest import Api
from tests.api.tills import drained, newest, shop, till
from tests.device import Line, insert, update
from tests.oracle import Oracle
from tests.sql_client import SqlClient

pytestmark = pytest.mark.asyncio(loop_scope="module")

_names = itertools.count(1)


async def travelling(api: Api, admin: SqlClient) -> tuple[Line, Line]:
    """One device of somebody who works in two companies."""
    person = await api.register()
    other = admin.company()
    admin.run(f"INSERT INTO users (company_id, login_id, full_name, role) VALUES ({other}, {person.login_id}, 'P', 'owner')")
    admin.wait_for_tailer()
    device = f"traveller-{next(_names)}"
    return till(person, device, company_id=person.company_id), till(person, device, company_id=other)


def party(admin: SqlClient, line: Line) -> int:
    """A row by plain SQL that is in the change log."""
    made = admin.run(f"INSERT INTO parties (company_id, name) VALUES ({line.company_id}, 'P{next(_names)}')")
    admin.wait_for_tailer()
    return made


async def test_a_cursor_from_one_company_hides_nothing_of_another(api: Api, admin: SqlClient) -> None:
    one, other = await travelling(api, admin)
    made = party(admin, other)
    cursor = await drained(one)
    changes, _ = await other.pull_all(cursor)
    assert ("parties", made) in newest(changes)


async def test_an_answer_lost_in_one_company_is_not_proved_by_another_companys(api: Api, admin: SqlClient) -> None:
    one, other = await travelling(api, admin)
    cursor = await drained(one)
    _, cursor = await other.pull_all(cursor)
    made = party(admin, one)
    await one.pull(cursor)  # its answer is lost
    _, cursor = await other.pull_all(cursor)
    changes, _ = await one.pull_all(cursor)
    assert ("parties", made) in newest(changes)


async def test_an_answer_lost_for_one_list_of_tables_is_not_proved_by_another_lists(api: Api, admin: SqlClient) -> None:
    _, (line, other) = await shop(api)
    cursor = await drained(line)
    made = (await other.push_one(insert("parties", "p", name="Ann")))["record_id"]
    await line.pull(cursor)  # its answer is lost
    _, cursor = await line.pull_all(cursor, tables=["products"])
    changes, _ = await line.pull_all(cursor)
    assert ("parties", made) in newest(changes)


async def test_a_page_that_began_further_back_and_is_lost_comes_again(api: Api, admin: SqlClient) -> None:
    _, (line, other) = await shop(api)
    cursor = await drained(line)
    made = (await other.push_one(insert("parties", "p", name="Ann")))["record_id"]
    _, cursor = await line.pull_all(cursor, tables=["products"])
    for _ in range(2):
        page = await line.pull(cursor)  # lost, and asked for again
        assert ("parties", made) in newest(page["changes"])
        assert page["current_version"] != cursor, "the same cursor would not tell whether the page came"
    _, cursor = await line.pull_all(page["current_version"])
    assert (await line.pull(cursor))["changes"] == []


async def test_a_refused_insert_sent_at_every_sync_does_not_bring_the_same_rows_at_every_sync(api: Api, admin: SqlClient) -> None:
    _, (line, other) = await shop(api)
    await other.push(insert("settings", "s", name="tax", value=1))
    await line.pull(0)
    counts = []
    for _ in range(4):
        answer = await line.push(insert("settings", "mine", name="tax", value=2))
        assert answer["results"][0]["status"] == "rejected"
        page = await line.pull(answer["current_version"])
        counts.append(len(page["changes"]))
    assert counts[-2:] == [0, 0]


async def test_a_whole_row_edited_before_a_pull_and_sent_in_a_later_part_of_the_outbox_reverts_nobody(
    api: Api, admin: SqlClient
) -> None:
    owner, (line, other) = await shop(api)
    made = (await other.push_one(insert("payment_accounts", "b", account_type="bank", account_name="Main")))["record_id"]
    row = newest((await line.pull_all())[0])["payment_accounts", made]["data"]
    await other.push(update("payment_accounts", made, account_name="Theirs"))
    await line.pull((await line.status())["last_sync_version"])
    for number in range(3):
        await line.push(insert("units_of_measure", f"u{number}", name=f"u{number}"))
    result = await line.push_one(update("payment_accounts", None, **{**row, "icon": "star"}))
    assert result["status"] == "conflict"
    stored = Oracle(admin).row("payment_accounts", owner.company_id, made)
    assert stored is not None and stored["account_name"] == "Theirs"


async def test_lines_that_come_after_their_document_are_judged_together(api: Api) -> None:
    _, (line, _) = await shop(api)
    await line.push(insert("transactions", "t", type="sale", date="2026-03-01", total_amount="30.00"))
    parts = [insert("transaction_lines", name, transaction_id="t", line_amount=sum_) for name, sum_ in (("a", "10"), ("b", "20"))]
    alone = await line.push_one(parts[0])
    assert (alone["status"], alone["code"], alone["retryable"]) == ("rejected", "unbalanced", True)
    assert [result["status"] for result in (await line.push(*parts))["results"]] == ["applied", "applied"]
