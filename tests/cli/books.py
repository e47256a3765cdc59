"""A day's work by plain SQL: every form of DML, and what an API transaction leaves beside its rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pymysql.cursors import DictCursor

from tests.sql_client import SqlClient

LOG_TABLES = ("sync_changes", "sync_tx", "sync_live")


def write_every_form(sql: SqlClient, directory: Path) -> int:
    """Write rows in every way SQL has; returns the company."""
    company = sql.company()
    other = sql.company("Other")
    sql.run("SET SESSION binlog_rows_query_log_events = ON")
    sql.run(
        f"INSERT INTO products (company_id, name, sale_price) VALUES ({company}, 'Tea', 12.5)",
        "INSERT INTO products (company_id, sku, name) VALUES"
        f" ({company}, 'a', 'One'), ({company}, 'b', 'چائے'), ({company}, 'c', '茶')",
        f"INSERT INTO products (company_id, name, description) SELECT {company}, CONCAT(name, ' copy'), description FROM products",
        f"UPDATE products SET sale_price = sale_price + 1 WHERE company_id = {company}",
        f"UPDATE products SET deleted_at = NOW(6) WHERE name = 'One' AND company_id = {company}",
        f"UPDATE products SET deleted_at = NULL WHERE name = 'One' AND company_id = {company}",
        "INSERT INTO products (id, company_id, name) SELECT id, company_id, 'Tea again' FROM products"
        " WHERE name = 'Tea' ON DUPLICATE KEY UPDATE name = VALUES(name)",
        f"INSERT INTO settings (company_id, name, value) VALUES ({company}, 'theme', '{{\"b\": 1.50, \"a\": [null, true]}}')",
        f"REPLACE INTO settings (company_id, name, value) VALUES ({company}, 'theme', '\"dark\"')",
        "UPDATE products p JOIN companies c ON c.id = p.company_id SET p.sku = CONCAT('j', p.id), c.phone = '1'"
        f" WHERE c.id = {company}",
        "BEGIN",
        f"INSERT INTO products (company_id, name) VALUES ({company}, 'kept')",
        "SAVEPOINT a",
        f"INSERT INTO products (company_id, name) VALUES ({company}, 'undone')",
        "ROLLBACK TO a",
        "COMMIT",
        f"UPDATE products SET company_id = {other} WHERE name = 'kept'",
        f"DELETE FROM products WHERE name LIKE '%copy' AND company_id = {company}",
        "INSERT INTO payment_accounts (company_id, account_type, account_name, account_number)"
        f" VALUES ({company}, 'bank', 'B', '42')",
        "UPDATE payment_accounts SET account_number = '43'",
        "SET SESSION binlog_rows_query_log_events = OFF",
        "SET SESSION binlog_transaction_compression = ON",
        f"INSERT INTO item_categories (company_id, name) VALUES ({company}, 'compressed'), ({company}, 'too')",
        "SET SESSION binlog_transaction_compression = OFF",
        "XA START 'books'",
        f"INSERT INTO item_categories (company_id, name) VALUES ({company}, 'in two steps')",
        "XA END 'books'",
        "XA PREPARE 'books'",
        "XA COMMIT 'books'",
    )
    loaded = directory / "parties.csv"
    loaded.write_text(f"{company},Ada\n{company},Bo\n{company},Çem\n")
    sql.run(
        f"LOAD DATA LOCAL INFILE '{loaded}' INTO TABLE parties CHARACTER SET utf8mb4 FIELDS TERMINATED BY ',' (company_id, name)",
        "CREATE TRIGGER echo AFTER INSERT ON parties FOR EACH ROW"
        " INSERT INTO units_of_measure (company_id, name) VALUES (NEW.company_id, NEW.name)",
        f"INSERT INTO parties (company_id, name) VALUES ({company}, 'Dee')",
        "DROP TRIGGER echo",
    )
    write_push(sql, company)
    return company


def write_push(sql: SqlClient, company: int, local_id: str = "p-1") -> int:
    """A device's push as the API writes it: origin, a made record, an edit, a record asked for again. Returns the origin."""
    sql.run("BEGIN")
    origin = sql.run(
        "INSERT INTO sync_origins (kind, company_id, device_id, user_id, request_id, push_id)"
        f" VALUES ('device', {company}, 'till-1', NULL, 'request-{local_id}', 'push-1')"
    )
    party = sql.run(f"INSERT INTO parties (company_id, name) VALUES ({company}, 'From the till')")
    sql.rows(
        "INSERT INTO sync_pushed (origin_id, seq, company_id, device_id, table_name, record_id, local_id, operation, payload,"
        " fingerprint, status, is_change, is_exact, is_maker)"
        " VALUES (%s, 1, %s, 'till-1', 'parties', %s, %s, 'INSERT', '{}', '', 'applied', 1, 1, 1)",
        origin,
        company,
        party,
        local_id,
    )
    sql.run(
        "INSERT INTO sync_redeliveries (company_id, device_id, table_name, record_id)"
        f" VALUES ({company}, 'till-1', 'companies', {company}), ({company}, 'till-1', 'parties', {party})",
        "COMMIT",
        f"UPDATE parties SET phone = '5' WHERE id = {party}",
    )
    return origin


def write_exact_edit(sql: SqlClient, company: int, party: int, phone: str, *, held_version: int | None) -> None:
    """A device's edit that is stored as it was sent, by one that held the record up to a version, or does not say."""
    sql.run("BEGIN")
    origin = sql.run(
        f"INSERT INTO sync_origins (kind, company_id, device_id, request_id) VALUES ('device', {company}, 'till-1', 'edit-{phone}')"
    )
    sql.rows("UPDATE parties SET phone = %s WHERE id = %s", phone, party)
    sql.rows(
        "INSERT INTO sync_pushed (origin_id, seq, company_id, device_id, table_name, record_id, operation, payload, fingerprint,"
        " status, is_change, is_exact, held_version, is_maker)"
        " VALUES (%s, 1, %s, 'till-1', 'parties', %s, 'UPDATE', '{}', '', 'applied', 1, 1, %s, 0)",
        origin,
        company,
        party,
        held_version,
    )
    sql.run("COMMIT")


def dump(sql: SqlClient) -> dict[str, list[dict[str, Any]]]:
    """Every byte of the change log's tables."""
    found = {}
    with sql.connection.cursor(DictCursor) as cursor:
        for table in LOG_TABLES:
            cursor.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3")
            found[table] = list(cursor.fetchall())
    return found


def load(sql: SqlClient, dumped: Mapping[str, list[dict[str, Any]]]) -> None:
    """Put a dump back, so that one failed test does not fail the next."""
    with sql.connection.cursor() as cursor:
        for table, rows in dumped.items():
            cursor.execute(f"DELETE FROM {table}")
            if rows:
                columns = ", ".join(f"`{name}`" for name in rows[0])
                places = ", ".join(["%s"] * len(rows[0]))
                cursor.executemany(f"INSERT INTO {table} ({columns}) VALUES ({places})", [tuple(row.values()) for row in rows])
