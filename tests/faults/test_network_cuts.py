"""Acknowledged: rows of plain SQL. Cut: the tailer's connections, after a random number of bytes, in the middle of anything.

What must hold: nothing lost, doubled, out of order or torn; no version missing. `figures cuts` does the same at length.
"""

from __future__ import annotations

import random
import threading

from tests.faults.conftest import StartTail
from tests.faults.kit import assert_nothing_is_wrong, new_seed, with_settings, writing
from tests.faults.waiting import wait_until
from tests.ledger import Ledger
from tests.proxy import Cut, Proxy
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

CUTS = 12


class Scissors:
    """A spoiler that cuts whichever connection brings the n-th byte; n is drawn anew for each cut, small ones more often."""

    def __init__(self, chance: random.Random, cuts: int) -> None:
        self._chance = chance
        self._lock = threading.Lock()
        self.left = cuts
        self._bytes = self._draw()

    def _draw(self) -> int:
        return int(2 ** self._chance.uniform(9, 18))

    def __call__(self, data: bytes) -> bytes:
        with self._lock:
            if not self.left or len(data) < self._bytes:
                self._bytes -= len(data)
                return data
            kept, self._bytes = data[: self._bytes], self._draw()
            self.left -= 1
        raise Cut(kept)


def test_cuts_at_random_bytes_lose_and_repeat_nothing(
    stack: Stack, database: Database, sql: SqlClient, start_tail: StartTail, ledger: Ledger
) -> None:
    company, chance = sql.company(), new_seed()
    scissors = Scissors(chance, CUTS)
    with Proxy(database.settings.tailer(), scissors, hides_tls=True) as proxy:
        through = with_settings(database, mysql_tailer_url=proxy.connect.url(), mysql_socket="", tailer_backoff_seconds_max=1)
        tailer = start_tail(through, "--standby")
        with writing(database, company, ledger, chance):
            wait_until(lambda: not scissors.left, 120)
        found = assert_nothing_is_wrong(database, ledger, company, stack.mysql)
        assert tailer.is_running and found.changes > 100
