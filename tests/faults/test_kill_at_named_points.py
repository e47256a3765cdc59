"""Acknowledged: rows of plain SQL, among them a transaction stored in parts. Killed: the tailer, at each named point of its work.

What must hold: nothing lost, doubled, out of order or torn, no version missing. `figures kills` does the same at length.
"""

from __future__ import annotations

import signal

from tests.faults.conftest import StartTail
from tests.faults.dying_tail import EARLY, POINTS
from tests.faults.kit import Pace, assert_nothing_is_wrong, new_seed, tail_that_dies, with_settings, writing
from tests.ledger import Ledger
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

CHANGES = 5000


def test_a_kill_at_any_point_loses_and_repeats_nothing(
    stack: Stack, database: Database, sql: SqlClient, start_tail: StartTail, ledger: Ledger
) -> None:
    company, chance = sql.company(), new_seed()
    small = with_settings(database, tailer_part_changes_max=40, tailer_batch_changes=60)
    pace = Pace(len(POINTS), CHANGES)
    with writing(database, company, ledger, chance, rows_max=60, pause_seconds=0.02, changes_allowed=pace.changes_allowed):
        for number, point in enumerate(POINTS, 1):
            child = tail_that_dies(stack, small, point, 1 if point.startswith(EARLY) else chance.randint(1, 3))
            assert child.wait(60) == -signal.SIGKILL, f"{point}: {child.last_lines()}"
            pace.count(number)
    tailer = start_tail(small, "--standby")
    found = assert_nothing_is_wrong(database, ledger, company, stack.mysql)
    assert found.unknown == 0 and tailer.is_running
