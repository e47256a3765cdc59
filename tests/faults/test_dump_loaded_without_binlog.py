"""Loaded: the file that mysqldump makes of a server with GTIDs, which switches the binlog off before it makes and fills tables.

What must hold: the tailer sees nothing to halt on, `verify` names every row that is other than before, devices get the dump's rows.
"""

from __future__ import annotations

from cli.embedded.process import Child
from tests.device import Habit
from tests.faults.reconciling import assert_phones_hold_the_tables, differences, phones, reconciled
from tests.servers import Database
from tests.sql_client import SqlClient

_HEAD = """
SET @OLD_FOREIGN_KEY_CHECKS = @@FOREIGN_KEY_CHECKS, FOREIGN_KEY_CHECKS = 0
SET @OLD_SQL_MODE = @@SQL_MODE, SQL_MODE = 'NO_AUTO_VALUE_ON_ZERO'
SET @MYSQLDUMP_TEMP_LOG_BIN = @@SESSION.SQL_LOG_BIN
SET @@SESSION.SQL_LOG_BIN = 0
"""
_TAIL = """
SET @@SESSION.SQL_LOG_BIN = @MYSQLDUMP_TEMP_LOG_BIN
SET SQL_MODE = @OLD_SQL_MODE, FOREIGN_KEY_CHECKS = @OLD_FOREIGN_KEY_CHECKS
"""


def dumped(sql: SqlClient, table: str) -> list[str]:
    """A table as mysqldump writes it. SET commands of a dump's comments are run by MySQL too."""
    rows = sql.rows(f"SELECT * FROM {table}")
    made = sql.rows(f"SHOW CREATE TABLE {table}")[0][1]
    values = ", ".join(f"({', '.join(sql.connection.escape(value) for value in row)})" for row in rows)
    return [
        f"DROP TABLE IF EXISTS {table}",
        made,
        f"LOCK TABLES {table} WRITE",
        f"INSERT INTO {table} VALUES {values}",
        "UNLOCK TABLES",
    ]


async def test_devices_get_the_rows_of_the_dump(database: Database, tailer: Child, sql: SqlClient) -> None:
    async with phones(database, Habit.NAIVE, Habit.FULL) as (company, devices):
        first = sql.run(f"INSERT INTO parties (company_id, name) VALUES {', '.join(f'({company}, {n})' for n in range(50))}")
        dump = dumped(sql, "parties")
        sql.run(
            f"UPDATE parties SET name = 'newer than the dump' WHERE id < {first + 5}",
            f"DELETE FROM parties WHERE id = {first + 49}",
        )
        after = sql.run(f"INSERT INTO parties (company_id, name) VALUES ({company}, 'not in the dump')")
        sql.wait_for_tailer()
        for device in devices:
            await device.sync()
        sql.run(*_HEAD.strip().splitlines(), *dump, *_TAIL.strip().splitlines())
        sql.wait_for_tailer()
        assert tailer.is_running
        assert differences(database) == sorted(
            [
                *(("differs", "parties", first + number) for number in (0, 1, 2, 3, 4, 49)),
                ("missing_in_table", "parties", after),
            ]
        )
        counts = reconciled(database)
        assert (counts["inserted"], counts["updated"], counts["deleted"]) == (1, 5, 1)
        await assert_phones_hold_the_tables(devices, sql, company)
