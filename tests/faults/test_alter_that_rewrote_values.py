"""Rewritten: amounts, rounded by an ALTER that was undone by another. Neither has row events.

What must hold: the tailer halts before each; after the skips and a run the change log and every device have the values as they are.
"""

from __future__ import annotations

import json

from tests.cdc.hidden import assert_log_is_the_tables
from tests.device import Habit
from tests.faults.reconciling import assert_phones_hold_the_tables, phones, reconciled, tail_past_halts
from tests.servers import Database, Stack
from tests.sql_client import SqlClient


async def test_devices_get_the_values_as_they_are_now(stack: Stack, database: Database, sql: SqlClient) -> None:
    tailer = stack.spawn("tail", environ=database.environ)
    async with phones(database, Habit.NAIVE, Habit.FULL) as (company, devices):
        sql.run(
            f"INSERT INTO products (company_id, name, sale_price) VALUES ({company}, 'Tea', 12.50), ({company}, 'Rice', 7.00)",
            f"INSERT INTO products (company_id, name, sale_price) VALUES ({company}, 'Salt', 0.49)",
        )
        sql.wait_for_tailer()
        for device in devices:
            await device.sync()
        sql.run(
            "ALTER TABLE products MODIFY sale_price DECIMAL(15,0) NOT NULL DEFAULT 0",
            "ALTER TABLE products MODIFY sale_price DECIMAL(15,2) NOT NULL DEFAULT 0",
            f"UPDATE products SET description = 'written after it' WHERE company_id = {company} AND name = 'Salt'",
        )
        tailer = tail_past_halts(stack, database, "ddl_changed_rows", "ddl_changed_rows")
        counts = reconciled(database)
        assert counts["updated"] == 1, "7.00 did not change, and Salt was written since"
        (change,) = [change for change in sql.changes(company) if change["origin"] == "reconcile"]
        assert json.loads(change["before"]) == {"sale_price": "12.50"}
        assert json.loads(change["data"])["sale_price"] == "13.00"
        assert_log_is_the_tables(sql, company)
        await assert_phones_hold_the_tables(devices, sql, company)
    tailer.stop()
