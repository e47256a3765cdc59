"""The whole line as a person meets it: `matrix-sync tail` and `matrix-sync serve` as processes, SQL clients, devices over HTTP."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from cli.embedded.process import Child
from tests.device import Device, Habit, Line, Refused, insert
from tests.oracle import Oracle, comparable_rows
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

pytestmark = pytest.mark.asyncio(loop_scope="module")
START_SECONDS = 30


@pytest.fixture(scope="module")
def database(stack: Stack) -> Iterator[Database]:
    """One for the file; each test has companies of its own."""
    with stack.database() as shared:
        yield shared


@pytest.fixture(scope="module")
def tailer(stack: Stack, database: Database) -> Iterator[Child]:
    """`matrix-sync tail`."""
    child = stack.spawn("tail", environ=database.environ)
    yield child
    child.stop()
    assert child.exit_code == 0, child.last_lines()


@pytest.fixture(scope="module")
def url(stack: Stack, database: Database, tailer: Child) -> Iterator[str]:
    """`matrix-sync serve` with two workers."""
    child = stack.spawn("serve", "--port", "0", "--workers", "2", environ=database.environ)
    deadline = time.monotonic() + START_SECONDS
    while not (found := re.search(r"listening on (http://\S+)", child.output())):
        assert child.is_running and time.monotonic() < deadline, child.last_lines()
        time.sleep(0.05)
    yield found[1]
    child.stop()
    assert child.exit_code == 0, child.last_lines()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def register(http: aiohttp.ClientSession, url: str, name: str) -> tuple[str, int]:
    """A new person's token and company."""
    body = {"name": name, "email": f"{name}@example.com", "password": "correct horse battery", "company_name": f"{name} & Co"}
    async with http.post(f"{url}/api/auth/register", json=body) as response:
        answer = await response.json()
        assert response.status == 201, answer
    return answer["token"], answer["user"]["companies"][0]["id"]


async def test_a_row_typed_into_a_sql_client_arrives_on_a_device(http: aiohttp.ClientSession, url: str, sql: SqlClient) -> None:
    token, company = await register(http, url, "ann")
    line = Line(http, url, token, "till-1")
    cursor = (await line.pull(0))["current_version"]
    tea = sql.run(f"INSERT INTO products (company_id, name, sale_price) VALUES ({company}, 'Tea', 12.5)")
    started = time.monotonic()
    while not (page := await line.pull(cursor))["changes"]:
        assert time.monotonic() - started < 10
        await asyncio.sleep(0.01)
    [change] = page["changes"]
    assert (change["table"], change["record_id"], change["operation"], change["origin"]) == ("products", tea, "INSERT", "external")
    assert change["data"]["sale_price"] == "12.50"
    assert (await line.pull(page["current_version"]))["changes"] == []


@pytest.mark.parametrize("habit", list(Habit))
async def test_a_days_work_offline_arrives_in_mysql_and_on_every_other_device(
    http: aiohttp.ClientSession, url: str, sql: SqlClient, habit: Habit
) -> None:
    token, company = await register(http, url, f"bob-{habit}")
    one, other = (Device(Line(http, url, token, f"{habit}-{number}"), habit) for number in range(2))
    await one.sync()
    await other.sync()
    tea = one.insert("products", name="Tea", sale_price="4.00")
    cash = one.insert("accounts", name="Cash", account_type="asset")
    income = one.insert("accounts", name="Sales", account_type="revenue")
    for number in range(3):
        sale = one.insert("transactions", type="sale", date="2026-02-03", total_amount="8.00")
        one.insert("transaction_lines", transaction_id=sale, product_id=tea, quantity="2", unit_price="4.00", line_amount="8.00")
        one.insert("invoices", transaction_id=sale, invoice_type="sale", invoice_number=f"INV-{number}", invoice_date="2026-02-03")
        for account, side in ((cash, "debit"), (income, "credit")):
            entry = {"account_id": account, "transaction_id": sale, "transaction_type": "saleInvoice", side: "8.00"}
            one.insert("account_transactions", transaction_date="2026-02-03", **entry)
    one.update("products", tea, name="Green Tea")
    with pytest.raises(ConnectionError):
        await one.push(is_answer_lost=True)
    for _ in range(2):
        await one.sync()
        await other.sync()
    rows = Oracle(sql).rows(company)
    counted = ("products", "transactions", "transaction_lines", "invoices", "account_transactions")
    assert [len(rows[table]) for table in counted] == [1, 3, 3, 3, 6]
    assert next(iter(rows["products"].values()))["name"] == "Green Tea"
    assert comparable_rows(one.held()) == comparable_rows(other.held()) == comparable_rows(rows)
    assert not one.outbox and not one.drafts and not one.store.refused


async def test_ten_thousand_rows_by_plain_sql_reach_a_device_once_in_commit_order(
    http: aiohttp.ClientSession, url: str, sql: SqlClient, tmp_path: Path
) -> None:
    token, company = await register(http, url, "cy")
    line = Line(http, url, token, "till-cy")
    cursor = (await line.pull(0))["current_version"]
    file = tmp_path / "rows.tsv"
    file.write_text("".join(f"{company}\tloaded {number}\n" for number in range(4000)))
    sql.run("SET GLOBAL local_infile = ON")
    for first in range(0, 5000, 1000):
        rows = ", ".join(f"({company}, 'multi {number}')" for number in range(first, first + 1000))
        sql.run(f"INSERT INTO parties (company_id, name) VALUES {rows}")
    sql.run(
        f"LOAD DATA LOCAL INFILE '{file}' INTO TABLE parties (company_id, name)",
        *(f"INSERT INTO parties (company_id, name) VALUES ({company}, 'single {number}')" for number in range(1000)),
        f"UPDATE parties SET phone = '1' WHERE company_id = {company} AND MOD(id, 3) = 0",
        f"DELETE FROM parties WHERE company_id = {company} AND MOD(id, 5) = 0",
    )
    sql.wait_for_tailer(90)
    history, _ = await line.pull_all(cursor, history=True, limit=5000)
    versions = [change["version"] for change in history]
    assert versions == sorted(set(versions))
    assert [c["record_id"] for c in history if c["operation"] == "INSERT"] == sorted(
        {c["record_id"] for c in history if c["operation"] == "INSERT"}
    )
    inserted = sum(change["operation"] == "INSERT" for change in history)
    deleted = sum(change["operation"] == "DELETE" for change in history)
    assert inserted == 10_000 and deleted == inserted - len(Oracle(sql).table("parties", company))
    device = Device(Line(http, url, token, "fresh"), Habit.FULL)
    await device.pull(limit=777)
    assert comparable_rows(device.held()) == comparable_rows(Oracle(sql).rows(company))


async def test_a_push_is_in_the_very_next_pull_of_any_worker(http: aiohttp.ClientSession, url: str) -> None:
    token, _ = await register(http, url, "dee")
    for number in range(12):
        async with aiohttp.ClientSession() as first, aiohttp.ClientSession() as second:
            made = await Line(first, url, token, f"w-{number}").push(insert("parties", "a", name="Ann"))
            changes, _ = await Line(second, url, token, f"r-{number}").pull_all(tables=["parties"])
            assert made["pending"] is False
            assert made["id_mappings"]["a"] in {change["record_id"] for change in changes}


async def test_copies_of_one_push_over_many_connections_make_one_row(http: aiohttp.ClientSession, url: str, sql: SqlClient) -> None:
    token, company = await register(http, url, "eve")
    change = insert("parties", "temp_001", name="Ann")

    async def push() -> Any:
        async with aiohttp.ClientSession() as own:
            return await Line(own, url, token, "busy").push(change)

    answers = await asyncio.gather(*(push() for _ in range(10)))
    assert len({answer["id_mappings"]["temp_001"] for answer in answers}) == 1
    assert len(Oracle(sql).table("parties", company)) == 1


async def test_without_a_token_nothing_is_told(http: aiohttp.ClientSession, url: str) -> None:
    for token in ("", "nonsense"):
        with pytest.raises(Refused) as refused:
            await Line(http, url, token, "stranger").pull(0)
        assert refused.value.status == 401 and refused.value.body["success"] is False


async def test_devices_hold_what_select_gives_after_the_tailer_was_killed_and_sql_and_devices_wrote(
    http: aiohttp.ClientSession, url: str, sql: SqlClient, tailer: Child
) -> None:
    token, company = await register(http, url, "fay")
    devices = [Device(Line(http, url, token, f"fay-{n}"), habit) for n, habit in enumerate((Habit.NAIVE, Habit.FULL, Habit.NAIVE))]
    for round_ in range(6):
        for at, device in enumerate(devices):
            device.insert("item_categories", name=f"{round_}-{at}")
            held = sorted(device.held().get("item_categories", {}))
            if held:
                device.update("item_categories", held[(round_ + at) % len(held)], name=f"edited {round_}-{at}")
            if round_ == 3 and held:
                device.delete("item_categories", held[at])
            await device.sync()
        sql.run(f"UPDATE item_categories SET name = CONCAT(name, '.') WHERE company_id = {company} AND MOD(id, 4) = 0")
        if round_ % 2:
            tailer.kill()
            tailer.start()
    sql.wait_for_tailer(60)
    for _ in range(3):
        for device in devices:
            await device.sync()
    wanted = comparable_rows(Oracle(sql).rows(company))
    for device in devices:
        assert comparable_rows(device.held()) == wanted
        assert not device.outbox
