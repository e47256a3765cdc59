"""From a committed row to a version: every way of writing, in commit order, exactly once; what cannot be exact halts."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest

from cli.embedded.process import Child
from tests.oracle import SYNCED, Oracle
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

HALTED = 3


@pytest.fixture(scope="module")
def database(stack: Stack) -> Iterator[Database]:
    """One for the file; each test has companies of its own."""
    with stack.database() as shared:
        yield shared


@pytest.fixture(scope="module", autouse=True)
def tailer(stack: Stack, database: Database) -> Iterator[Child]:
    """A running `matrix-sync tail`."""
    child = stack.spawn("tail", environ=database.environ)
    yield child
    child.stop()


@pytest.fixture
def company(sql: SqlClient) -> int:
    """A company of the test's own."""
    return sql.company()


def told(sql: SqlClient, company: int, table: str = "parties") -> list[dict[str, Any]]:
    """Changes of one table, oldest first, their data read."""
    changes = [change for change in sql.changes(company) if change["table_name"] == table]
    return [{**change, "data": json.loads(change["data"])} for change in changes]


def operations(sql: SqlClient, company: int, table: str = "parties") -> list[tuple[str, str]]:
    """Operation and name of each change of a table."""
    return [(change["operation"], change["data"]["name"]) for change in told(sql, company, table)]


def assert_log_is_the_tables(sql: SqlClient, company: int) -> None:
    """The newest image of every record is the row as SELECT shows it, and nothing else is live."""
    newest = {(c["table_name"], c["record_id"]): c for c in sql.changes(company) if c["for_device"] is None}
    live: dict[str, dict[int, Any]] = {table: {} for table in SYNCED}
    for (table, record_id), change in newest.items():
        if change["operation"] != "DELETE":
            live[table][record_id] = {**json.loads(change["data"]), **json.loads(change["sealed"] or "{}")}
    assert live == Oracle(sql).rows(company)
    stored = sql.rows("SELECT table_name, record_id, version FROM sync_live WHERE company_id = %s", company)
    assert {row[:2]: row[2] for row in stored} == {key: change["version"] for key, change in newest.items()}


def assert_versions_are_contiguous(sql: SqlClient) -> None:
    """2, 3, …, head, without a gap inside an epoch."""
    head = sql.value("SELECT head FROM sync_state")
    epochs = sql.rows("SELECT version >> 40, MIN(version), MAX(version), COUNT(*) FROM sync_changes GROUP BY 1 ORDER BY 1")
    assert all(count == last - first + 1 for _, first, last, count in epochs)
    assert (epochs[0][1], epochs[-1][2]) == (2, head)


def names(count: int, company: int, word: str = "Party") -> str:
    return ", ".join(f"({company}, '{word} {number}')" for number in range(count))


def test_every_form_of_writing_reaches_the_log_once_in_order(sql: SqlClient, company: int, tmp_path: Path) -> None:
    file = tmp_path / "rows.tsv"
    file.write_text("".join(f"{company}\tLoaded {number}\n" for number in range(500)))
    insert = "INSERT INTO parties (company_id, name) VALUES"
    with sql.connection.cursor() as cursor:
        cursor.executemany(f"{insert} (%s, %s)", [(company, f"Many {number}") for number in range(100)])
    for number in range(100):
        sql.run(f"{insert} ({company}, 'One {number}')")
    sql.run(f"{insert} {names(1000, company, 'Multi')}")
    sql.run("SET GLOBAL local_infile = ON")
    sql.run(f"LOAD DATA LOCAL INFILE '{file}' INTO TABLE parties (company_id, name)")
    sql.run(
        "INSERT INTO parties (company_id, name) "
        f"SELECT company_id, CONCAT('Copy of ', name) FROM parties WHERE company_id = {company}"
    )
    sql.run(f"UPDATE parties SET phone = name WHERE company_id = {company}")
    sql.run(f"UPDATE parties SET phone = name WHERE company_id = {company}")  # changes nothing
    sql.run(f"DELETE FROM parties WHERE company_id = {company} AND name LIKE '%0'")
    key = sql.value("SELECT MIN(id) FROM parties WHERE company_id = %s", company)
    sql.run(f"REPLACE INTO parties (id, company_id, name) VALUES ({key}, {company}, 'Replaced')")
    sql.run(f"INSERT INTO parties (id, company_id, name) VALUES ({key}, {company}, 'x') ON DUPLICATE KEY UPDATE name = 'Doubled'")
    sql.run(f"INSERT IGNORE INTO parties (id, company_id, name) VALUES ({key}, {company}, 'ignored')")
    sql.wait_for_tailer(60)
    found = told(sql, company)
    counts = {operation: sum(c["operation"] == operation for c in found) for operation in ("INSERT", "UPDATE", "DELETE")}
    rows = 2 * (100 + 100 + 1000 + 500)
    is_twice = counts["INSERT"] - rows
    assert is_twice in (0, 1), "InnoDB makes a REPLACE one UPDATE or a DELETE and an INSERT"
    assert counts["UPDATE"] == rows + 2 - is_twice
    tens = sum(c["data"]["name"].endswith("0") for c in found if c["operation"] == "INSERT")
    assert counts["DELETE"] == tens + is_twice
    assert [c["version"] for c in found] == sorted({c["version"] for c in found})
    assert found[-1]["data"]["name"] == "Doubled"
    assert_log_is_the_tables(sql, company)
    assert_versions_are_contiguous(sql)


def test_ten_thousand_rows_of_one_statement_arrive_once_as_one_tx(sql: SqlClient, company: int) -> None:
    for first in range(0, 10_000, 5_000):
        sql.run(f"INSERT INTO parties (company_id, name) VALUES {names(5_000, company, str(first))}")
    sql.run(f"UPDATE parties SET phone = '1' WHERE company_id = {company}")
    sql.wait_for_tailer(60)
    changes = told(sql, company)
    assert len(changes) == 20_000 and len({change["tx"] for change in changes}) == 3
    assert len({(change["record_id"], change["operation"]) for change in changes}) == 20_000
    assert_log_is_the_tables(sql, company)
    assert_versions_are_contiguous(sql)


def test_a_savepoint_that_was_rolled_back_leaves_nothing(sql: SqlClient, company: int) -> None:
    sql.run(
        "START TRANSACTION",
        f"INSERT INTO parties (company_id, name) VALUES ({company}, 'kept')",
        "SAVEPOINT a",
        f"INSERT INTO parties (company_id, name) VALUES ({company}, 'lost')",
        f"UPDATE parties SET name = 'also lost' WHERE company_id = {company}",
        "ROLLBACK TO a",
        "SAVEPOINT b",
        f"INSERT INTO parties (company_id, name) VALUES ({company}, 'kept too')",
        "RELEASE SAVEPOINT b",
        "COMMIT",
        "START TRANSACTION",
        f"INSERT INTO parties (company_id, name) VALUES ({company}, 'rolled back')",
        "ROLLBACK",
    )
    sql.wait_for_tailer()
    assert operations(sql, company) == [("INSERT", "kept"), ("INSERT", "kept too")]
    assert len({change["tx"] for change in told(sql, company)}) == 1


def test_what_a_trigger_or_a_procedure_writes_is_in_the_tx_that_fired_it(sql: SqlClient, company: int) -> None:
    sql.run(
        "CREATE TRIGGER echo_unit AFTER INSERT ON units_of_measure FOR EACH ROW "
        "INSERT INTO item_categories (company_id, name) VALUES (NEW.company_id, CONCAT('of ', NEW.name))",
        "CREATE PROCEDURE two_units() BEGIN "
        f"INSERT INTO units_of_measure (company_id, name) VALUES ({company}, 'kg'), ({company}, 'g'); END",
    )
    try:
        sql.run("CALL two_units()")
    finally:
        sql.run("DROP TRIGGER echo_unit", "DROP PROCEDURE two_units")
    sql.wait_for_tailer()
    units, categories = told(sql, company, "units_of_measure"), told(sql, company, "item_categories")
    assert [c["data"]["name"] for c in units] == ["kg", "g"] and [c["data"]["name"] for c in categories] == ["of kg", "of g"]
    assert len({change["tx"] for change in (*units, *categories)}) == 1


def test_multi_table_statements_and_unchecked_foreign_keys_are_told(sql: SqlClient, company: int) -> None:
    category = sql.run(f"INSERT INTO item_categories (company_id, name) VALUES ({company}, 'C')")
    product = sql.run(f"INSERT INTO products (company_id, name, category_id) VALUES ({company}, 'P', {category})")
    sql.run(
        "UPDATE products p JOIN item_categories c ON c.company_id = p.company_id AND c.id = p.category_id "
        f"SET p.sale_price = 5, c.name = 'D' WHERE p.company_id = {company}",
        "SET foreign_key_checks = 0",
        f"DELETE c FROM item_categories c WHERE c.id = {category}",
        "SET foreign_key_checks = 1",
        f"DELETE FROM products WHERE id = {product}",
    )
    sql.wait_for_tailer()
    assert_log_is_the_tables(sql, company)
    assert [c["operation"] for c in told(sql, company, "products")] == ["INSERT", "UPDATE", "DELETE"]


def test_versions_are_in_the_order_of_the_binlog_when_many_commit_at_once(sql: SqlClient, company: int, database: Database) -> None:
    def write(number: int) -> None:
        with SqlClient(database.settings) as client:
            for count in range(30):
                client.run(
                    "START TRANSACTION",
                    f"UPDATE companies SET phone = '{number}/{count}' WHERE id = {company}",
                    f"INSERT INTO parties (company_id, name) VALUES ({company}, '{number}/{count}')",
                    "COMMIT",
                )

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sql.wait_for_tailer()
    phones = [c["data"]["phone"] for c in told(sql, company, "companies")][1:]
    parties = [c["data"]["name"] for c in told(sql, company)]
    assert phones == parties and len(parties) == 240, "the row lock makes their commit order"
    gtids = sql.rows("SELECT gtid FROM sync_tx WHERE first_version IS NOT NULL ORDER BY tx")
    numbers = [int(gtid.rsplit(":", 1)[1]) for (gtid,) in gtids]
    assert numbers == sorted(numbers)
    assert_versions_are_contiguous(sql)


def test_the_order_is_that_of_mysqlbinlog(sql: SqlClient, company: int, stack: Stack) -> None:
    if stack.mysql is None:
        pytest.skip("mysqlbinlog comes with the embedded server")
    sql.run("FLUSH BINARY LOGS")
    file = sql.rows("SHOW BINARY LOGS")[-1][0]
    for number in range(20):
        sql.run(f"INSERT INTO parties (company_id, name) VALUES ({company}, 'a {number}'), ({company}, 'b {number}')")
        sql.run(f"UPDATE parties SET name = REPLACE(name, 'b', 'c') WHERE company_id = {company} AND name LIKE 'b%'")
    sql.wait_for_tailer()
    mysqlbinlog = stack.mysql.programs.client("mysqlbinlog")
    if mysqlbinlog is None:
        pytest.skip("no mysqlbinlog beside this mysqld")
    command = [*mysqlbinlog, "-vv", "--base64-output=DECODE-ROWS", str(stack.mysql.data / file)]
    text = subprocess.run(command, capture_output=True, check=True).stdout.decode(errors="replace")
    seen, after = [], False
    for line in text.splitlines():
        if line.startswith(("### INSERT INTO", "### UPDATE")):
            after, wanted = line.startswith("### INSERT"), f"`{sql.value('SELECT DATABASE()')}`.`parties`" in line
        elif line.startswith("### SET"):
            after = True
        elif line.startswith("### WHERE"):
            after = False
        elif line.startswith("###   @3=") and after and wanted:
            seen.append(line.split("'")[1])
    assert [change["data"]["name"] for change in told(sql, company)] == seen and len(seen) == 60


def test_a_row_that_moves_to_another_company_or_id_and_one_that_is_deleted(sql: SqlClient, company: int) -> None:
    other = sql.company("Other")
    party = sql.run(f"INSERT INTO parties (company_id, name) VALUES ({company}, 'old')")
    sql.run(f"UPDATE parties SET company_id = {other}, name = 'new' WHERE id = {party}")
    sql.run(f"UPDATE parties SET id = id + 1000000 WHERE id = {party}")
    sql.run(f"DELETE FROM parties WHERE id = {party + 1_000_000}")
    sql.wait_for_tailer()
    assert operations(sql, company) == [("INSERT", "old"), ("DELETE", "old")]
    assert [(c["operation"], c["record_id"]) for c in told(sql, other)] == [
        ("INSERT", party), ("DELETE", party), ("INSERT", party + 1_000_000), ("DELETE", party + 1_000_000),
    ]  # fmt: skip
    left, entered = told(sql, company)[1], told(sql, other)[0]
    assert left["tx"] == entered["tx"] and left["data"]["deleted_at"] and entered["data"]["deleted_at"] is None
    assert_log_is_the_tables(sql, company)
    assert_log_is_the_tables(sql, other)


def test_an_update_keeps_what_it_changed_and_the_statement_that_did_it(sql: SqlClient, company: int) -> None:
    party = sql.run(f"INSERT INTO parties (company_id, name, phone) VALUES ({company}, 'Ann', '1')")
    statement = f"UPDATE parties SET phone = '2' WHERE id = {party}"
    sql.run("SET SESSION binlog_rows_query_log_events = ON", statement)
    sql.wait_for_tailer()
    change = told(sql, company)[-1]
    before = json.loads(change["before"])
    assert before["phone"] == "1" and "name" not in before
    [(gtid, server_id, stored, origin)] = sql.rows(
        "SELECT gtid, server_id, statement, origin FROM sync_tx WHERE tx = %s", change["tx"]
    )
    assert statement in stored and origin == "external" and server_id and ":" in gtid


def test_a_tx_with_an_origin_row_is_stamped_with_it_and_one_without_is_external(sql: SqlClient, company: int) -> None:
    sql.run("START TRANSACTION")
    origin = sql.run("INSERT INTO sync_origins (kind, device_id, request_id) VALUES ('device', 'till-ö', 'r1')")
    sql.run(f"INSERT INTO parties (company_id, name) VALUES ({company}, 'a'), ({company}, 'b')", "COMMIT")
    sql.run(f"INSERT INTO parties (company_id, name) VALUES ({company}, 'c')")
    sql.wait_for_tailer()
    assert [(c["origin"], c["origin_id"], c["origin_device_id"]) for c in told(sql, company)] == [
        ("device", origin, "till-ö"), ("device", origin, "till-ö"), ("external", None, None),
    ]  # fmt: skip


def test_a_partial_update_of_a_json_document_is_told_whole(sql: SqlClient, company: int) -> None:
    sql.run(
        f"INSERT INTO settings (company_id, name, value) VALUES ({company}, 'n', JSON_OBJECT('a', 1, 'b', REPEAT('x', 900)))",
        "SET SESSION binlog_row_value_options = PARTIAL_JSON",
        f"UPDATE settings SET value = JSON_SET(value, '$.a', 2, '$.c', 3.50) WHERE company_id = {company}",
    )
    sql.wait_for_tailer()
    assert [c["operation"] for c in told(sql, company, "settings")] == ["INSERT", "UPDATE"]
    assert_log_is_the_tables(sql, company)


def test_other_schemas_and_untracked_tables_move_the_checkpoint_and_nothing_else(sql: SqlClient) -> None:
    before = sql.wait_for_tailer()
    name = f"{sql.value('SELECT DATABASE()')}_other"
    sql.run(
        f"CREATE DATABASE {name}",
        f"CREATE TABLE {name}.products (id INT PRIMARY KEY, name TEXT) ENGINE = InnoDB",
        f"INSERT INTO {name}.products VALUES (1, 'not ours')",
        f"ALTER TABLE {name}.products MODIFY name VARCHAR(10)",
        f"DROP DATABASE {name}",
        "CREATE TABLE untracked (id INT PRIMARY KEY, company_id INT)",
        "INSERT INTO untracked VALUES (1, 1)",
        "TRUNCATE untracked",
        "DROP TABLE untracked",
        "CREATE TEMPORARY TABLE parties_copy LIKE parties",
        "INSERT INTO parties_copy (company_id, name) VALUES (1, 'x')",
        "DROP TEMPORARY TABLE parties_copy",
    )
    executed = sql.value("SELECT @@GLOBAL.gtid_executed")
    assert sql.wait_for_tailer() == before
    stored = sql.value("SELECT gtid_set FROM sync_state")
    assert sql.value("SELECT GTID_SUBSET(%s, %s)", executed, stored) == 1


def test_a_truncate_in_another_schema_moves_the_checkpoint_and_nothing_else(stack: Stack) -> None:
    with stack.database() as database, SqlClient(database.settings) as sql:
        child = stack.spawn("tail", environ=database.environ)
        name = f"{database.name}_other"
        sql.run(f"CREATE DATABASE {name}", f"CREATE TABLE {name}.products (id INT PRIMARY KEY)")
        try:
            sql.run(f"TRUNCATE TABLE {name}.products", f"TRUNCATE `{name}` . `products`", f"USE {name}", "TRUNCATE products")
            sql.run(f"USE {database.name}")
            sql.wait_for_tailer()
        finally:
            sql.run(f"DROP DATABASE {name}")
            child.stop()
        assert child.exit_code == 0, child.last_lines()


def test_ddl_that_changes_no_row_passes_and_rows_go_on(sql: SqlClient, company: int, tailer: Child) -> None:
    sql.run(
        "ALTER TABLE parties ADD INDEX parties_phone (phone)",
        "ALTER TABLE parties COMMENT = 'please MODIFY, TRUNCATE and DROP COLUMN'",
        "ALTER TABLE parties ADD COLUMN secret VARCHAR(20) DEFAULT 'x' AFTER name",
        f"INSERT INTO parties (company_id, name, secret) VALUES ({company}, 'with a new column', 'hidden')",
        "ALTER TABLE parties DROP INDEX parties_phone",
        "CREATE OR REPLACE VIEW all_parties AS SELECT * FROM parties",
        "DROP VIEW all_parties",
        "ANALYZE TABLE parties",
        "OPTIMIZE TABLE units_of_measure",
        "CREATE TEMPORARY TABLE products (id INT)",
        "DROP TEMPORARY TABLE products",
    )
    sql.wait_for_tailer()
    [change] = told(sql, company)
    assert "secret" not in change["data"] and change["data"]["name"] == "with a new column"
    assert tailer.is_running


def test_an_idle_system_writes_nothing(sql: SqlClient) -> None:
    sql.wait_for_tailer()
    time.sleep(1)
    before = sql.rows("SELECT @@GLOBAL.gtid_executed, last_commit_at FROM sync_state")
    time.sleep(6.5)
    assert sql.rows("SELECT @@GLOBAL.gtid_executed, last_commit_at FROM sync_state") == before


def test_a_second_tailer_is_refused_by_name_and_a_standby_takes_over(
    stack: Stack, database: Database, sql: SqlClient, company: int
) -> None:
    second = stack.spawn("tail", environ=database.environ)
    assert second.wait(30) == 1 and "another tailer holds the lease" in second.output() and "pid" in second.output()
    assert sql.run(f"INSERT INTO parties (company_id, name) VALUES ({company}, 'x')")
    sql.wait_for_tailer()
    assert len(told(sql, company)) == 1


HALTS = {
    "a minimal row image": ["SET SESSION binlog_row_image = MINIMAL", "UPDATE parties SET phone = '2' WHERE id = {party}"],
    "a statement instead of rows": ["SET SESSION binlog_format = STATEMENT", "UPDATE parties SET phone = '2' WHERE id = {party}"],
    "a TRUNCATE": ["SET foreign_key_checks = 0", "TRUNCATE TABLE stock_ledger"],
    "an ALTER that rewrites values": ["ALTER TABLE parties MODIFY credit_limit DECIMAL(15,1) NOT NULL DEFAULT 0"],
    "a new cascade": ["ALTER TABLE settings ADD CONSTRAINT c FOREIGN KEY (company_id) REFERENCES companies (id) ON DELETE CASCADE"],
    "a RENAME over a synced table": [
        "CREATE TABLE new_units LIKE units_of_measure",
        "RENAME TABLE units_of_measure TO old_units, new_units TO units_of_measure",
    ],
}


@pytest.mark.parametrize("case", HALTS)
def test_what_cannot_become_exact_changes_halts_before_the_checkpoint_moves(stack: Stack, case: str) -> None:
    with stack.database() as database, SqlClient(database.settings) as sql:
        company = sql.company()
        party = sql.run(f"INSERT INTO parties (company_id, name) VALUES ({company}, 'Ann')")
        child = stack.spawn("tail", environ=database.environ)
        sql.wait_for_tailer()
        for statement in HALTS[case]:
            sql.run(statement.format(party=party, company=company))
        _run_later_write(database, company)
        assert child.wait(30) == HALTED, child.output()[-2000:]
        state = sql.rows("SELECT head, gtid_set FROM sync_state")
        [(details,)] = sql.rows("SELECT details FROM sync_audit WHERE action = 'halted'")
        halted = json.loads(details)
        assert all(halted.get(name) for name in ("code", "message", "hint", "gtid", "file", "pos", "checkpoint")), halted
        assert sql.value("SELECT GTID_SUBSET(%s, %s)", halted["gtid"], state[0][1]) == 0
        assert halted["message"] in child.output() and "Traceback" not in child.output()
        if case == "a TRUNCATE":
            again = stack.spawn("tail", environ=database.environ)
            assert again.wait(30) == HALTED, "it never goes on by itself"
        assert sql.rows("SELECT head, gtid_set FROM sync_state") == state
        assert sql.value("SELECT COUNT(*) FROM sync_changes WHERE data LIKE '%%later%%'") == 0


def _run_later_write(database: Database, company: int) -> None:
    with SqlClient(database.settings) as other:
        try:
            other.run(f"INSERT INTO parties (company_id, name) VALUES ({company}, 'later')")
        except pymysql.err.MySQLError as problem:
            pytest.fail(f"the write after it failed: {problem}")


def test_purged_binlogs_halt_and_say_what_is_missing(stack: Stack) -> None:
    server = stack.private_mysql("purging")
    with server, stack.database(server) as database, SqlClient(database.settings) as sql:
        child = stack.spawn("tail", environ=database.environ)
        company = sql.company()
        sql.wait_for_tailer()
        child.stop()
        sql.run(f"INSERT INTO parties (company_id, name) VALUES ({company}, 'never read')", "FLUSH BINARY LOGS")
        file = sql.rows("SHOW BINARY LOGS")[-1][0]
        sql.run(f"PURGE BINARY LOGS TO '{file}'")
        head = sql.value("SELECT head FROM sync_state")
        child = stack.spawn("tail", environ=database.environ)
        assert child.wait(30) == HALTED and "purged" in child.output()
        assert sql.value("SELECT head FROM sync_state") == head
