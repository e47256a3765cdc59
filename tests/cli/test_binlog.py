"""`matrix-sync binlog show`: what the tailer makes of a stretch of binlog, from any place an operator may name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cli.books import write_every_form, write_push
from tests.cli.commands import run, run_json
from tests.servers import Database, Stack
from tests.sql_client import SqlClient


@pytest.fixture(scope="module")
def database(stack: Stack) -> Iterator[Database]:
    """One for the whole file: nothing here writes once the books are written."""
    with stack.database() as shared:
        yield shared


@pytest.fixture(scope="module")
def start(database: Database, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the books begin in the binlog."""
    with SqlClient(database.settings) as sql:
        sql.run("FLUSH BINARY LOGS")
        place = f"{sql.rows('SHOW BINARY LOGS')[-1][0]}:4"
        company = write_every_form(sql, tmp_path_factory.mktemp("loads"))
        sql.run(
            "ALTER TABLE products COMMENT = 'checked'",
            f"INSERT INTO units_of_measure (company_id, name) VALUES ({company}, '\\x1b[31mred\u202e')",
        )
        return place


@pytest.fixture(scope="module")
def lines(database: Database, start: str) -> list[dict[str, Any]]:
    return run_json(database, "binlog", "show", "--from", start)


def txs(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in lines if line["type"] == "tx"]


def test_it_shows_what_the_tailer_will_store(database: Database, start: str, lines: list[dict[str, Any]], stack: Stack) -> None:
    shown = [line for line in lines if line["type"] == "change"]
    tailer = stack.spawn("tail", environ=database.environ)
    with SqlClient(database.settings) as sql:
        sql.wait_for_tailer()
        stored = sql.rows(
            "SELECT t.gtid, c.operation, c.table_name, c.record_id, c.company_id, c.is_exact FROM sync_changes c"
            " JOIN sync_tx t ON t.tx = c.tx WHERE c.for_device IS NULL ORDER BY c.version"
        )
    tailer.stop()
    names = ("gtid", "operation", "table", "record_id", "company_id")
    assert [(*(line[name] for name in names), line["exact_after"] is not None) for line in shown] == stored


def test_a_transaction_names_who_made_it(lines: list[dict[str, Any]]) -> None:
    assert txs(lines)[0]["origin"] == {"kind": "external", "id": None, "device_id": None}
    (pushed,) = [tx for tx in txs(lines) if tx["origin"]["kind"] == "device"]
    assert pushed["origin"]["device_id"] == "till-1"
    assert pushed["origin"]["request_id"] == "request-p-1"
    again = [line for line in lines if line["type"] == "redelivery"]
    assert {(line["table"], line["for_device"]) for line in again} == {("companies", "till-1"), ("parties", "till-1")}


def test_a_statement_is_shown_where_the_server_logs_it(lines: list[dict[str, Any]]) -> None:
    assert any("sale_price = sale_price + 1" in statement for tx in txs(lines) for statement in tx["statements"])


def test_a_ddl_of_a_synced_table_is_shown(lines: list[dict[str, Any]]) -> None:
    assert any("COMMENT = 'checked'" in statement for tx in txs(lines) for statement in tx["statements"])


def test_changed_values_are_shown_before_and_after(database: Database, start: str) -> None:
    shown = run(database, "binlog", "show", "--from", start, "--table", "products").stdout
    assert 'sale_price: "12.50" → "13.50"' in shown
    assert "INSERT parties" not in shown


def test_text_cannot_steer_the_terminal(database: Database, start: str) -> None:
    shown = run(database, "binlog", "show", "--from", start).stdout
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "\\u202e" in shown


def test_restricted_values_and_their_statements_are_masked(database: Database, start: str) -> None:
    for form in ((), ("--json",)):
        hidden = run(database, "binlog", "show", "--from", start, "--table", "payment_accounts", *form).stdout
        told = run(database, "binlog", "show", "--from", start, "--table", "payment_accounts", "--sealed", *form).stdout
        assert "'43'" not in hidden
        assert '"43"' not in hidden
        assert '"43"' in told
        assert "account_number = '43'" in told


def test_every_way_to_name_a_place_means_the_same_transaction(
    database: Database, start: str, lines: list[dict[str, Any]], sql: SqlClient
) -> None:
    first, second = txs(lines)[3:5]
    place = f"{first['file']}:{first['pos']}"
    uuid, _, number = first["gtid"].partition(":")
    before = sql.value("SELECT GTID_SUBTRACT(@@GLOBAL.gtid_executed, %s)", f"{uuid}:{number}-999999999")
    for start_at in (place, first["gtid"], before):
        assert txs(run_json(database, "binlog", "show", "--from", start_at))[0] == first
    only = run_json(database, "binlog", "show", "--from", first["gtid"], "--to", first["gtid"])
    assert txs(only) == [first]
    assert txs(run_json(database, "binlog", "show", "--from", place, "--to", f"{second['file']}:{second['pos']}")) == [first]


def test_start_is_the_earliest_binlog_there_is(database: Database, lines: list[dict[str, Any]]) -> None:
    assert run_json(database, "binlog", "show", "--from", "start", "--table", "settings")[-1]["gtid"] in {
        line["gtid"] for line in lines
    }


def test_a_place_inside_a_transaction_is_refused_and_its_neighbours_named(database: Database, lines: list[dict[str, Any]]) -> None:
    first, second = txs(lines)[3:5]
    for inside in (1, 40, 79, 100):
        result = run(database, "binlog", "show", "--from", f"{first['file']}:{first['pos'] + inside}")
        assert (result.exit_code, result.stdout) == (1, "")
        assert "is not the start of a transaction" in result.stderr
        assert f"one starts at {first['file']}:{first['pos']}" in result.stderr
        assert f"the next one at {second['file']}:{second['pos']}" in result.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--from", "tea"), "not a place in the binlog"),
        (("--from", "binlog.999999:4"), "the server has no binlog"),
        (("--from", "{file}:999999999"), "has no position"),
        (("--from", "{file}:3"), "has no position"),
        (("--from", "{uuid}:999999999"), "the server never executed"),
        (("--from", "{file}:4", "--to", "{uuid}:1-5"), "not a set"),
        (("--from", "{second}", "--to", "{first}"), "is not after"),
    ],
)
def test_a_wrong_place_is_one_message(words: tuple[str, ...], told: str, database: Database, lines: list[dict[str, Any]]) -> None:
    first, second = txs(lines)[3:5]
    names = {"file": first["file"], "uuid": first["gtid"].partition(":")[0], "first": first["gtid"], "second": second["gtid"]}
    result = run(database, "binlog", "show", *(word.format(**names) for word in words))
    assert (result.exit_code, result.stdout) == (1, "")
    assert told in result.stderr
    assert "what to do" in result.stderr


def test_an_unknown_table_is_wrong_usage(database: Database) -> None:
    assert run(database, "binlog", "show", "--from", "start", "--table", "teapots").exit_code == 2


def test_what_cannot_be_decoded_ends_it_with_exit_code_3(stack: Stack) -> None:
    with stack.database() as fresh, SqlClient(fresh.settings) as sql:
        company = sql.company()
        before = sql.value("SELECT @@GLOBAL.gtid_executed").replace("\n", "")
        sql.run("SET SESSION binlog_row_image = MINIMAL", f"UPDATE companies SET name = 'x' WHERE id = {company}")
        result = run(fresh, "binlog", "show", "--from", before)
    assert result.exit_code == 3
    assert "lacks the columns" in result.stderr
    assert "  position     " in result.stderr


def test_a_place_inside_an_xa_transaction_says_where_to_begin(database: Database, lines: list[dict[str, Any]]) -> None:
    committed = next(line["gtid"] for line in lines if line.get("data", {}).get("name") == "in two steps")
    result = run(database, "binlog", "show", "--from", committed)
    assert result.exit_code == 3
    assert "begin --from before its XA PREPARE" in result.stderr


def test_a_purged_binlog_is_named(stack: Stack) -> None:
    with stack.private_mysql("purging") as server, stack.database(server) as fresh, SqlClient(fresh.settings) as sql:
        write_push(sql, sql.company())
        gtid = sql.value("SELECT @@GLOBAL.gtid_executed").replace("\n", "").replace(":1-", ":")
        sql.run("FLUSH BINARY LOGS", "FLUSH BINARY LOGS")
        sql.rows("PURGE BINARY LOGS TO %s", sql.rows("SHOW BINARY LOGS")[-1][0])
        result = run(fresh, "binlog", "show", "--from", gtid)
        assert result.exit_code == 1
        assert f"the server has purged {gtid}" in result.stderr
        assert "--from start" in result.stderr
        assert run(fresh, "binlog", "show", "--from", "start").exit_code == 0
