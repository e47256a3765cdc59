"""Swapped: a synced table for its ghost, as gh-ost and pt-online-schema-change do it.

What must hold: the ghost's rows are nobody's changes, the RENAME halts, and after a skip every real write is there once.
"""

from __future__ import annotations

from tests.cdc.background import Background
from tests.cdc.test_tailer import assert_versions_are_contiguous, told
from tests.oracle import Oracle
from tests.servers import Database
from tests.sql_client import SqlClient

KEPT = "id, company_id, name, value, created_at, updated_at, deleted_at"
NEW_VALUES = "NEW.id, NEW.company_id, NEW.name, NEW.value, NEW.created_at, NEW.updated_at, NEW.deleted_at"
COPY = f"FOR EACH ROW REPLACE INTO _settings_gho ({KEPT}) VALUES ({NEW_VALUES})"
KEY = "ADD CONSTRAINT ghost FOREIGN KEY (company_id) REFERENCES companies (id)"


def write(sql: SqlClient, company: int, name: str) -> None:
    sql.run(
        f"INSERT INTO settings (company_id, name, value) VALUES ({company}, '{name}', '1')",
        f"UPDATE settings SET value = '2' WHERE company_id = {company} AND name = '{name}'",
    )


def test_a_ghost_tables_rows_are_no_changes_and_the_swap_halts(database: Database, sql: SqlClient) -> None:
    company, oracle = sql.company(), Oracle(sql)
    tailer = Background(database.settings)
    with tailer:
        write(sql, company, "before")
        sql.run(
            "CREATE TABLE _settings_gho LIKE settings",
            f"ALTER TABLE _settings_gho ADD COLUMN note TEXT, {KEY}",
            f"CREATE TRIGGER osc_insert AFTER INSERT ON settings {COPY}",
            f"CREATE TRIGGER osc_update AFTER UPDATE ON settings {COPY}",
        )
        write(sql, company, "during")
        sql.run(f"INSERT IGNORE INTO _settings_gho ({KEPT}) SELECT {KEPT} FROM settings LOCK IN SHARE MODE")
        sql.run("RENAME TABLE settings TO _settings_del, _settings_gho TO settings")
        write(sql, company, "after")
        sql.run("DROP TABLE _settings_del")
        halt = tailer.wait_for_halt()
        assert halt.code == "ddl_changed_rows" and "settings" in halt.message
        assert [(c["operation"], c["data"]["name"]) for c in told(sql, company, "settings")] == [
            ("INSERT", "before"), ("UPDATE", "before"), ("INSERT", "during"), ("UPDATE", "during"),
        ]  # fmt: skip
        tailer.pass_over(database)
        sql.wait_for_tailer()
    assert [(c["operation"], c["data"]["name"]) for c in told(sql, company, "settings")][4:] == [
        ("INSERT", "after"), ("UPDATE", "after"),
    ]  # fmt: skip
    newest = {c["record_id"]: c["data"] for c in told(sql, company, "settings")}
    assert newest == oracle.table("settings", company), "without the new column, which is not declared"
    assert_versions_are_contiguous(sql)
