"""Deleted: a parent whose children a foreign key deletes, by MySQL's SQL layer and by InnoDB, which logs no rows for them.

What must hold: no tailer runs with such a key, and one that is added halts it, naming the table, before anything is lost.
"""

from __future__ import annotations

import pytest

from tests.cdc.background import Background
from tests.cdc.test_tailer import operations
from tests.oracle import Oracle
from tests.servers import Stack
from tests.sql_client import SqlClient

CASCADE = (
    "ALTER TABLE parties DROP FOREIGN KEY parties_company, "
    "ADD CONSTRAINT cascading FOREIGN KEY (company_id) REFERENCES companies (id) ON DELETE CASCADE"
)
BACK = (
    "ALTER TABLE parties DROP FOREIGN KEY cascading, "
    "ADD CONSTRAINT parties_company FOREIGN KEY (company_id) REFERENCES companies (id)"
)


@pytest.mark.parametrize("by_innodb", ["OFF", "ON"])
def test_a_cascade_added_while_running_halts_and_none_may_be_there_at_start(stack: Stack, by_innodb: str) -> None:
    server = stack.private_mysql("cascades", {"loose-innodb-native-foreign-keys": by_innodb})
    with server, stack.database(server) as database, SqlClient(database.settings) as sql:
        company = sql.company()
        sql.run(f"INSERT INTO parties (company_id, name) VALUES ({company}, 'child')")
        tailer = Background(database.settings)
        with tailer:
            sql.wait_for_tailer()
            sql.run(CASCADE, f"DELETE FROM companies WHERE id = {company}")
            halt = tailer.wait_for_halt()
            assert halt.code == "cascade" and "parties" in halt.message
            assert sql.value("SELECT GTID_SUBSET(%s, gtid_set) FROM sync_state", halt.details["gtid"]) == 0
        child = stack.spawn("tail", environ=database.environ)
        assert child.wait(60) == 1 and "cascading" in child.output(), "refused by name"
        sql.run(BACK)
        with tailer:
            tailer.wait_for_halt()
            tailer.pass_over(database)
            sql.wait_for_tailer()
        assert Oracle(sql).rows(company)["parties"] == {}
        is_native = sql.rows("SHOW VARIABLES LIKE 'innodb_native_foreign_keys'") == [("innodb_native_foreign_keys", "ON")]
        told = [("INSERT", "child")] if is_native else [("INSERT", "child"), ("DELETE", "child")]
        assert operations(sql, company) == told, "what the halt was for: InnoDB's own deletions are in no binlog"
        assert is_native == (by_innodb == "ON") or sql.value("SELECT VERSION()") < "9.6"
