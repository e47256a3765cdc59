"""Swapped: a table for one with other rows, by one RENAME, as tools that change tables online do; and dropped and made anew.

What must hold: the tailer halts on each statement; after the skips and a run the change log has the rows of the table that stands.
"""

from __future__ import annotations

from tests.cdc.hidden import assert_log_is_the_tables
from tests.faults.reconciling import reconciled, tail_past_halts
from tests.servers import Database, Stack
from tests.sql_client import SqlClient


def test_the_change_log_has_the_rows_of_the_table_that_stands(stack: Stack, database: Database, sql: SqlClient) -> None:
    company = sql.company()
    insert = f"INSERT INTO settings (company_id, name, value) VALUES ({company}, %s, %s)"
    for name in ("theme", "zone", "gone"):
        sql.rows(insert, name, '"old"')
    sql.run(
        "CREATE TABLE settings_new LIKE settings",
        "INSERT INTO settings_new SELECT * FROM settings WHERE name <> 'gone'",
        "UPDATE settings_new SET value = '\"new\"' WHERE name = 'theme'",
        "RENAME TABLE settings TO settings_old, settings_new TO settings",
    )
    made = sql.rows("SHOW CREATE TABLE units_of_measure")[0][1]
    sql.run(f"INSERT INTO units_of_measure (company_id, name) VALUES ({company}, 'kg'), ({company}, 'l')")
    sql.run("SET foreign_key_checks = 0", "DROP TABLE units_of_measure", made, "SET foreign_key_checks = 1")
    tailer = tail_past_halts(stack, database, "ddl_changed_rows", "ddl_changed_rows")
    counts = reconciled(database)
    assert (counts["inserted"], counts["updated"], counts["deleted"]) == (0, 1, 3)
    assert_log_is_the_tables(sql, company)
    tailer.stop()
