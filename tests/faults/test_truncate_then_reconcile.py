"""Emptied: a table with the rows of two companies, by TRUNCATE, which has no row events.

What must hold: the tailer halts and says what to do; after the skip and a run devices of both companies know of each deletion.
"""

from __future__ import annotations

from tests.cdc.hidden import assert_log_is_the_tables
from tests.device import Habit
from tests.faults.reconciling import assert_phones_hold_the_tables, phones, reconciled, tail_past_halts
from tests.servers import Database, Stack
from tests.sql_client import SqlClient


async def test_every_deletion_reaches_the_devices_of_both_companies(stack: Stack, database: Database, sql: SqlClient) -> None:
    tailer = stack.spawn("tail", environ=database.environ)
    async with phones(database, Habit.NAIVE, Habit.FULL) as (company, devices):
        other = sql.company("Other")
        for owner in (company, other):
            sql.run(f"INSERT INTO parties (company_id, name) VALUES {', '.join(f'({owner}, {n})' for n in range(100))}")
        sql.wait_for_tailer()
        for device in devices:
            await device.sync()
        assert all(len(device.held()["parties"]) == 100 for device in devices)
        sql.run("SET foreign_key_checks = 0", "TRUNCATE TABLE parties", "SET foreign_key_checks = 1")
        sql.run(f"INSERT INTO parties (company_id, name) VALUES ({company}, 'has a number of the past')")
        tailer = tail_past_halts(stack, database, "ddl_changed_rows")
        counts = reconciled(database)
        assert (counts["inserted"], counts["deleted"]) == (0, 199), "one number was given again, and its event came"
        assert_log_is_the_tables(sql, company, other)
        await assert_phones_hold_the_tables(devices, sql, company)
    tailer.stop()
