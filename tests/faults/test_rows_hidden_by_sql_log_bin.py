"""Hidden: K writes of a session with sql_log_bin = 0, among acknowledged ones.

What must hold: `verify` names exactly those K; after `reconcile` every device has what SELECT shows, and nothing differs.
"""

from __future__ import annotations

import random

from cli.embedded.process import Child
from tests.cdc.hidden import hidden
from tests.device import Habit
from tests.faults.reconciling import assert_phones_hold_the_tables, differences, phones, reconciled
from tests.servers import Database
from tests.sql_client import SqlClient


async def test_exactly_the_hidden_writes_are_named_and_healed(database: Database, tailer: Child, sql: SqlClient) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    async with phones(database, Habit.NAIVE, Habit.FULL) as (company, devices):
        made = devices[0].insert("parties", name="made by a phone")
        await devices[0].sync()
        first = sql.run(f"INSERT INTO parties (company_id, name) VALUES {', '.join(f'({company}, {n})' for n in range(400))}")
        sql.wait_for_tailer()
        for device in devices:
            await device.sync()
        expected: list[tuple[str, str, int]] = []
        for record in chance.sample(range(first, first + 400), 45):
            kind, query = chance.choice(
                (
                    ("differs", f"UPDATE parties SET name = 'hidden' WHERE id = {record}"),
                    ("missing_in_table", f"DELETE FROM parties WHERE id = {record}"),
                    ("differs", f"UPDATE parties SET deleted_at = NOW(6) WHERE id = {record}"),
                )
            )
            with hidden(sql):
                sql.run(query)
            expected.append((kind, "parties", record))
            sql.run(f"UPDATE parties SET phone = UUID() WHERE company_id = {company} AND name = '{chance.randrange(400)}'")
        with hidden(sql):
            expected.append(
                ("missing_in_log", "products", sql.run(f"INSERT INTO products (company_id, name) VALUES ({company}, 'x')"))
            )
        sql.wait_for_tailer()
        found = differences(database)
        touched = {record for kind, _, record in expected if kind == "differs"}
        assert set(found) <= set(expected), "nothing else is named"
        assert {d for d in expected if d[2] not in touched} <= set(found), "a logged write to a hidden row may heal it, no other"
        counts = reconciled(database)
        assert counts["inserted"] + counts["updated"] + counts["deleted"] == len(found)
        await assert_phones_hold_the_tables(devices, sql, company)
        assert devices[0].store.ids["parties", made] in devices[1].held()["parties"]
