"""`matrix-sync tail` on a real MySQL: every form of write arrives exactly once, in commit order, whatever tool made it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest

from schema.connect import open_connection
from tests.servers import Database, Stack
from tests.sql_client import SqlClient


@pytest.fixture(scope="module")
def books(stack: Stack) -> Iterator[Database]:
    """A database that the tests of this file share: each has a company of its own."""
    with stack.database() as database:
        yield database


@pytest.fixture(scope="module", autouse=True)
def tailer(stack: Stack, books: Database) -> Iterator[Any]:
    child = stack.spawn("tail", environ=books.environ)
    yield child
    child.stop()


@pytest.fixture
def sql(books: Database) -> Iterator[SqlClient]:
    with SqlClient(books.settings) as client:
        yield client


def replayed(sql: SqlClient, company: int) -> dict[tuple[str, int], dict[str, Any]]:
    """The change log of a company as the live rows it leaves."""
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for change in sql.changes(company):
        key = (change["table_name"], change["record_id"])
        if change["operation"] == "DELETE":
            rows.pop(key, None)
        else:
            rows[key] = json.loads(change["data"])
    return rows


def names(sql: SqlClient, company: int, table: str = "products") -> dict[int, str]:
    return {key[1]: row["name"] for key, row in replayed(sql, company).items() if key[0] == table}


def selected(sql: SqlClient, company: int) -> dict[int, str]:
    return dict(sql.rows("SELECT id, name FROM products WHERE company_id = %s AND deleted_at IS NULL", company))


def test_every_form_of_write_is_in_the_change_log_as_the_table_has_it(sql: SqlClient, stack: Stack, tmp_path: Path) -> None:
    company = sql.company()
    values = ",".join(f"({company}, 's{n}', 'p{n}')" for n in range(1000))
    sql.run(
        f"INSERT INTO products (company_id, sku, name) VALUES {values}",
        f"INSERT INTO products (company_id, name) VALUES ({company}, 'one')",
        f"INSERT INTO products (company_id, name) SELECT company_id, CONCAT(name, '+') FROM products WHERE company_id = {company}",
        f"UPDATE products SET name = CONCAT(name, '!') WHERE company_id = {company} AND id % 2 = 0",
        f"DELETE FROM products WHERE company_id = {company} AND id % 7 = 0",
        f"UPDATE products SET deleted_at = NOW(6) WHERE company_id = {company} AND id % 11 = 0",
        f"REPLACE INTO products (company_id, sku, name) VALUES ({company}, 's1', 'replaced'), ({company}, 'new', 'new')",
        f"INSERT INTO products (company_id, sku, name) VALUES ({company}, 's2', 'x') ON DUPLICATE KEY UPDATE name = 'updated'",
        f"UPDATE products p JOIN products q ON q.id = p.id SET p.sale_price = 5 WHERE q.company_id = {company} AND q.id % 3 = 0",
        f"UPDATE products SET deleted_at = NULL WHERE company_id = {company} AND id % 22 = 0",
    )
    csv = tmp_path / "load.csv"
    csv.write_text("".join(f"{company}\tloaded {n}\n" for n in range(500)))
    sql.run(f"LOAD DATA LOCAL INFILE '{csv}' INTO TABLE products (company_id, name)")
    sql.wait_for_tailer()
    assert names(sql, company) == selected(sql, company)
    assert len(selected(sql, company)) > 2000


def test_versions_have_no_gap_and_follow_the_order_of_commits(sql: SqlClient) -> None:
    one, other = sql.company("one"), sql.company("other")
    before = sql.wait_for_tailer()
    with SqlClient(sql.settings) as second:
        second.connection.autocommit(False)
        second.run(f"INSERT INTO parties (company_id, name) VALUES ({one}, 'began first')")
        sql.run(f"INSERT INTO parties (company_id, name) VALUES ({other}, 'committed first')")
        second.connection.commit()
    head = sql.wait_for_tailer()
    rows = sql.rows("SELECT version, JSON_VALUE(data, '$.name') FROM sync_changes WHERE version > %s ORDER BY version", before)
    assert rows == [(before + 1, "committed first"), (before + 2, "began first")] and head == before + 2
    assert sql.value("SELECT COUNT(*) = MAX(version) - 1 AND MIN(version) = 2 FROM sync_changes") == 1


def test_what_a_savepoint_took_back_never_arrives(sql: SqlClient) -> None:
    company = sql.company()
    sql.run(
        "BEGIN",
        f"INSERT INTO products (company_id, name) VALUES ({company}, 'kept')",
        "SAVEPOINT a",
        f"INSERT INTO products (company_id, name) VALUES ({company}, 'undone')",
        "ROLLBACK TO a",
        f"INSERT INTO products (company_id, name) VALUES ({company}, 'also kept')",
        "COMMIT",
        "BEGIN",
        f"INSERT INTO products (company_id, name) VALUES ({company}, 'rolled back')",
        "ROLLBACK",
    )
    sql.wait_for_tailer()
    assert sorted(names(sql, company).values()) == ["also kept", "kept"]
    assert len({change["tx"] for change in sql.changes(company) if change["table_name"] == "products"}) == 1


def test_what_a_trigger_writes_arrives_in_the_same_transaction(sql: SqlClient) -> None:
    company = sql.company()
    sql.run(
        "CREATE TRIGGER note AFTER INSERT ON products FOR EACH ROW "
        "INSERT INTO settings (company_id, name, value) VALUES (NEW.company_id, CONCAT('made ', NEW.id), '1')"
    )
    try:
        sql.run(f"INSERT INTO products (company_id, name) VALUES ({company}, 'Tea')")
    finally:
        sql.run("DROP TRIGGER note")
    sql.wait_for_tailer()
    made = [(change["table_name"], change["tx"]) for change in sql.changes(company)][1:]
    assert sorted(table for table, _ in made) == ["products", "settings"] and len({tx for _, tx in made}) == 1


def test_an_update_keeps_what_it_changed_and_who_made_it(sql: SqlClient) -> None:
    company = sql.company()
    record_id = sql.run(f"INSERT INTO products (company_id, name, sale_price) VALUES ({company}, 'Tea', 1.5)")
    sql.run(f"UPDATE products SET sale_price = 2 WHERE id = {record_id}")
    sql.wait_for_tailer()
    change = sql.changes(company)[-1]
    before = json.loads(change["before"])
    assert (before.pop("sale_price"), set(before)) == ("1.50", {"updated_at"})
    assert (change["origin"], change["origin_id"], change["prev_version"]) == ("external", None, change["version"] - 1)
    [(gtid, server_id, statement)] = sql.rows("SELECT gtid, server_id, statement FROM sync_tx WHERE tx = %s", change["tx"])
    assert statement == f"UPDATE products SET sale_price = 2 WHERE id = {record_id}"
    assert gtid.startswith(sql.value("SELECT @@server_uuid")) and server_id == sql.value("SELECT @@server_id")


def test_a_row_that_moves_to_another_company_leaves_one_feed_and_enters_the_other(sql: SqlClient) -> None:
    old, new = sql.company("old"), sql.company("new")
    record_id = sql.run(f"INSERT INTO products (company_id, name) VALUES ({old}, 'Tea')")
    sql.run(f"UPDATE products SET company_id = {new}, name = 'secret of the new one' WHERE id = {record_id}")
    sql.wait_for_tailer()
    left, entered = sql.changes(old)[-1], sql.changes(new)[-1]
    assert (left["operation"], entered["operation"], left["tx"]) == ("DELETE", "INSERT", entered["tx"])
    assert json.loads(left["data"])["name"] == "Tea" and "secret" not in left["data"]
    assert json.loads(left["data"])["deleted_at"] is not None


def test_soft_deletes_hard_deletes_and_restores_look_as_a_device_needs_them(sql: SqlClient) -> None:
    company = sql.company()
    soft = sql.run(f"INSERT INTO products (company_id, name) VALUES ({company}, 'soft')")
    hard = sql.run(f"INSERT INTO products (company_id, name) VALUES ({company}, 'hard')")
    sql.run(
        f"UPDATE products SET deleted_at = NOW(6) WHERE id = {soft}",
        f"UPDATE products SET deleted_at = NULL WHERE id = {soft}",
        f"DELETE FROM products WHERE id = {hard}",
    )
    sql.wait_for_tailer()
    told = [(c["record_id"], c["operation"], json.loads(c["data"])["deleted_at"] is None) for c in sql.changes(company)[3:]]
    assert told == [(soft, "DELETE", False), (soft, "INSERT", True), (hard, "DELETE", False)]


def test_definitions_and_other_schemas_move_the_checkpoint_and_nothing_else(sql: SqlClient, books: Database) -> None:
    head = sql.wait_for_tailer()
    other = f"{books.name}_other"
    sql.run(
        f"CREATE DATABASE {other}",
        f"CREATE TABLE {other}.products (id INT PRIMARY KEY, name TEXT)",
        f"INSERT INTO {other}.products VALUES (1, 'not ours')",
        "ALTER TABLE products ADD COLUMN unregistered INT NULL DEFAULT 7 AFTER id, COMMENT = 'a comment'",
        "CREATE INDEX products_price ON products (company_id, sale_price)",
        "CREATE TABLE notes (id INT PRIMARY KEY, body TEXT)",
        "INSERT INTO notes VALUES (1, 'untracked')",
        f"DROP DATABASE {other}",
        "DROP TABLE notes",
        "DROP INDEX products_price ON products",
    )
    last = sql.value("SELECT @@GLOBAL.gtid_executed").replace("\n", "")
    assert sql.wait_for_tailer() == head
    _wait(lambda: sql.value("SELECT GTID_SUBSET(%s, gtid_set) FROM sync_state", last))
    company = sql.company()
    sql.run(f"INSERT INTO products (company_id, name, unregistered) VALUES ({company}, 'Tea', 1)")
    sql.wait_for_tailer()
    assert "unregistered" not in sql.changes(company)[-1]["data"], "a column is invisible until it is registered"


def test_an_idle_tailer_writes_nothing(sql: SqlClient, books: Database) -> None:
    sql.wait_for_tailer()
    time.sleep(books.settings.tailer_idle_checkpoint_seconds + 2)
    before = sql.value("SELECT @@GLOBAL.gtid_executed")
    time.sleep(3)
    assert sql.value("SELECT @@GLOBAL.gtid_executed") == before


def test_the_accounts_of_api_and_tailer_cannot_bypass_the_log(books: Database) -> None:
    for address, statement in (
        (books.settings.api(), "INSERT INTO sync_changes (company_id) VALUES (1)"),
        (books.settings.api(), "UPDATE sync_state SET head = 1"),
        (books.settings.api(), "DELETE FROM sync_live"),
        (books.settings.tailer(), "UPDATE products SET name = 'x'"),
        (books.settings.tailer(), "DELETE FROM sync_origins"),
        (books.settings.operator(), "INSERT INTO parties (company_id, name) VALUES (1, 'x')"),
    ):
        with open_connection(address) as session, session.cursor() as cursor, pytest.raises(pymysql.err.MySQLError) as refused:
            cursor.execute(statement)
        assert refused.value.args[0] == 1142, statement


def _wait(is_true: Any, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.05)
