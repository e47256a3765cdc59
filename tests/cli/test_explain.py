"""`matrix-sync explain`: a record's history, by whom and what each change changed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.books import write_every_form
from tests.cli.commands import run, run_json
from tests.servers import Database, Stack
from tests.sql_client import SqlClient


@pytest.fixture(scope="module")
def database(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """One for the whole file, its books written and in the change log."""
    with stack.database() as shared, SqlClient(shared.settings) as sql:
        tailer = stack.spawn("tail", environ=shared.environ)
        write_every_form(sql, tmp_path_factory.mktemp("loads"))
        sql.wait_for_tailer()
        tailer.stop()
        yield shared


def record(sql: SqlClient, table: str, name: str) -> str:
    return str(sql.value(f"SELECT id FROM {table} WHERE name = %s", name))


def test_each_change_tells_when_who_and_what(database: Database, sql: SqlClient) -> None:
    tea = record(sql, "products", "Tea again")
    told = run_json(database, "explain", "products", tea)
    assert [change["operation"] for change in told] == ["INSERT", "UPDATE", "UPDATE", "UPDATE"]
    assert told[1]["changed"]["sale_price"] == {"before": "12.50", "after": "13.50"}
    assert told[2]["changed"]["name"] == {"before": "Tea", "after": "Tea again"}
    assert [change["prev_version"] for change in told[1:]] == [change["version"] for change in told[:-1]]
    assert told[0]["origin"] == "external"
    assert "sale_price + 1" in told[1]["statement"]
    assert {"gtid", "server_id", "timestamp"} <= told[0].keys()
    shown = run(database, "explain", "products", tea).stdout
    assert f"products {tea} in company 1, live" in shown
    assert 'sale_price: "12.50" → "13.50"' in shown
    assert told[0]["gtid"] in shown


def test_a_change_by_a_device_names_device_and_request(database: Database, sql: SqlClient) -> None:
    party = record(sql, "parties", "From the till")
    told = run_json(database, "explain", "parties", party)
    assert (told[0]["origin_device_id"], told[0]["request_id"], told[0]["local_id"]) == ("till-1", "request-p-1", "p-1")
    assert "device, device till-1, request request-p-1" in run(database, "explain", "parties", party).stdout


def test_a_record_that_moved_has_a_history_in_both_companies(database: Database, sql: SqlClient) -> None:
    kept = record(sql, "products", "kept")
    told = run_json(database, "explain", "products", kept)
    assert [(change["company_id"], change["operation"]) for change in told] == [(1, "INSERT"), (1, "DELETE"), (2, "INSERT")]
    assert [change["company_id"] for change in run_json(database, "explain", "products", kept, "--company", "2")] == [2]
    assert "in company 1, deleted" in run(database, "explain", "products", kept).stdout


def test_a_record_without_history_is_said_to_have_none(database: Database) -> None:
    result = run(database, "explain", "products", "999999")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "the change log has nothing of products 999999" in result.stderr
    assert run(database, "explain", "teapots", "1").exit_code == 2


def test_restricted_values_are_masked_but_their_change_is_told(database: Database, sql: SqlClient) -> None:
    account = str(sql.value("SELECT id FROM payment_accounts"))
    for form in ((), ("--json",)):
        hidden = run(database, "explain", "payment_accounts", account, *form).stdout
        told = run(database, "explain", "payment_accounts", account, "--sealed", *form).stdout
        assert "account_number" in hidden
        assert '"42"' not in hidden
        assert "'43'" not in hidden
        assert '"42"' in told
    assert 'account_number: "42" → "43"' in run(database, "explain", "payment_accounts", account, "--sealed").stdout


def test_a_history_that_is_broken_says_where_and_what_helps(database: Database, sql: SqlClient) -> None:
    tea = record(sql, "products", "Tea again")
    versions = [change["version"] for change in run_json(database, "explain", "products", tea)]
    sql.rows("CREATE TEMPORARY TABLE kept SELECT * FROM sync_changes WHERE version = %s", versions[1])
    sql.rows("DELETE FROM sync_changes WHERE version = %s", versions[1])
    result = run(database, "explain", "products", tea)
    left = run_json(database, "explain", "products", tea)
    sql.run("INSERT INTO sync_changes SELECT * FROM kept")
    assert f"version {versions[1]} is missing: `matrix-sync replay` can put it back" in result.stdout
    assert [change["version"] for change in left] == versions[2:]
