"""`python -m tests.faults.figures kills --times 1000 --changes 1000000 --seed 7`: a fault many times over, and what came of it.

| what | the fault, under load |
|---|---|
| `kills` | SIGKILL of the tailer, in turn at a random moment and at a named point of its work |
| `cuts` | the tailer's connections cut after a random number of bytes |
| `mysqld` | SIGKILL of MySQL |
| `handovers` | the active tailer stopped, killed, or its lock connection ended; a standby takes over |
| `commit-answers` | the answer of a COMMIT lost |

Prints a line: changes, acknowledged transactions, and lost, doubled, out of order, torn, gaps: all must be 0. Exit code 1 where one
is not. Order is judged by `mysqlbinlog` over the whole run.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.embedded import MySQLServer
from cli.embedded.process import Child
from schema.settings import MySQLAddress
from tests.faults.dying_tail import EARLY, POINTS
from tests.faults.kit import Pace, assert_nothing_is_wrong, is_held_by, tail_that_dies, with_settings, writing
from tests.faults.test_network_cuts import Scissors
from tests.faults.waiting import wait_until
from tests.ledger import Ledger
from tests.proxy import APPENDS, Proxy
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

PATIENCE_SECONDS = 300
WRITERS = 3
CHANGES_PER_FAULT = 1000


@dataclass
class Lab:
    """A MySQL of its own, a database whose tailer stores in small parts, and chance."""

    stack: Stack
    server: MySQLServer
    database: Database
    chance: random.Random
    undo: ExitStack
    pace: Pace

    def tail(self, database: Database | None = None) -> Child:
        """A tailer or standby; it ends with the lab."""
        return self.stack.spawn("tail", "--standby", environ=(database or self.database).environ)

    def proxy(self, spoil: Callable[[bytes], bytes] = lambda data: data) -> Proxy[MySQLAddress]:
        """Between a tailer and MySQL."""
        return self.undo.enter_context(Proxy(self.database.settings.tailer(), spoil, hides_tls=True))

    def through(self, proxy: Proxy[MySQLAddress]) -> Database:
        """The database as the proxy shows it."""
        return with_settings(self.database, mysql_tailer_url=proxy.connect.url(), mysql_socket="", tailer_backoff_seconds_max=1)

    def head(self) -> int:
        with SqlClient(self.database.settings) as sql:
            return int(sql.value("SELECT head FROM sync_state"))


def kills(lab: Lab, times: int) -> None:
    """In turn at a named point and at a random moment; every successor has gone on before it dies, so it is work that is cut."""
    points = list(POINTS)
    for number in range(times):
        if number % 2:
            point = points[number // 2 % len(points)]
            child = tail_that_dies(lab.stack, lab.database, point, 1 if point.startswith(EARLY) else lab.chance.randint(1, 6))
            assert child.wait(PATIENCE_SECONDS) == -signal.SIGKILL, f"{point}: {child.last_lines()}"
        else:
            child = lab.tail()
            head = lab.head()
            wait_until(lambda head=head: lab.head() > head, PATIENCE_SECONDS)  # type: ignore[misc]
            time.sleep(lab.chance.random() / 2)
            child.kill()
        lab.pace.count(number + 1)
    lab.tail()


def cuts(lab: Lab, times: int) -> None:
    """Any connection, after any byte."""
    scissors = Scissors(lab.chance, times)
    lab.tail(lab.through(lab.proxy(scissors)))

    def is_over() -> bool:
        lab.pace.count(times - scissors.left)
        return not scissors.left

    wait_until(is_over, PATIENCE_SECONDS + 3 * times)


def mysqld(lab: Lab, times: int) -> None:
    """Under load, with the tailer reading."""
    lab.tail()
    for number in range(times):
        time.sleep(0.5 + 2 * lab.chance.random())
        lab.server.kill()
        lab.server.stop()
        lab.server.start()
        lab.pace.count(number + 1)


def handovers(lab: Lab, times: int) -> None:
    """Stopped for 5 to 6 s, killed, or its session ended; prints how long the successor took at most."""
    pair = [lab.tail(), lab.tail()]
    longest = 0.0
    with SqlClient(lab.database.settings) as sql:
        for number in range(times):
            wait_until(lambda: any(is_held_by(sql, child) for child in pair), PATIENCE_SECONDS)
            leader = next(child for child in pair if is_held_by(sql, child))
            other = pair[1 - pair.index(leader)]
            wait_until(lambda other=other: '"standby"' in other.output(), PATIENCE_SECONDS)  # type: ignore[misc]
            time.sleep(lab.chance.random())
            began = time.monotonic()
            how = ("stopped", "killed", "session")[number % 3]
            if how == "stopped":
                leader.pause()
                wait_until(lambda other=other: is_held_by(sql, other), PATIENCE_SECONDS)  # type: ignore[misc]
                longest = max(longest, time.monotonic() - began)
                leader.resume()
            elif how == "killed":
                leader.kill()
                wait_until(lambda other=other: is_held_by(sql, other), PATIENCE_SECONDS)  # type: ignore[misc]
                longest = max(longest, time.monotonic() - began)
                pair[pair.index(leader)] = lab.tail()
            else:
                sql.run(f"KILL {sql.value('SELECT connection_id FROM sync_lease')}")
            lab.pace.count(number + 1)
    print(f"longest takeover {longest:.1f} s")


def commit_answers(lab: Lab, times: int) -> None:
    """MySQL committed; the tailer is never told."""
    proxy = lab.proxy()
    proxy.commits_to_lose, proxy.loss_probability, proxy.chance, proxy.writes = times, 0.5, lab.chance, APPENDS
    lab.tail(lab.through(proxy))

    def is_over() -> bool:
        lab.pace.count(proxy.commits_lost)
        return proxy.commits_lost == times

    wait_until(is_over, PATIENCE_SECONDS + 3 * times)


FAULTS = {"kills": kills, "cuts": cuts, "mysqld": mysqld, "handovers": handovers, "commit-answers": commit_answers}


def main() -> int:
    """Run one figure."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.figures", description=__doc__)
    parser.add_argument("what", choices=FAULTS)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--changes", type=int, default=0, help="over at least so many changes (1,000 a fault)")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    words = parser.parse_args()
    print(f"{words.what} × {words.times}, seed {words.seed}", flush=True)
    with ExitStack() as undo:
        directory = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="matrix-figures-")))
        stack = undo.enter_context(Stack(directory))
        server = undo.enter_context(stack.private_mysql("figures"))
        database = undo.enter_context(stack.database(server))
        small = with_settings(database, tailer_part_changes_max=150, tailer_batch_changes=200)
        changes = words.changes or words.times * CHANGES_PER_FAULT
        lab = Lab(stack, server, small, random.Random(words.seed), undo, Pace(words.times, changes))
        ledger = Ledger(directory / "ledger")
        undo.callback(ledger.close)
        with SqlClient(database.settings) as sql:
            company = sql.company()
        load: dict[str, Any] = {"writers": WRITERS, "rows_max": 200, "pause_seconds": 0.02}
        with writing(database, company, ledger, lab.chance, **load, changes_allowed=lab.pace.changes_allowed):
            FAULTS[words.what](lab, words.times)
            wait_until(lambda: ledger.changes >= changes, PATIENCE_SECONDS + changes / 100)
        try:
            assert_nothing_is_wrong(lab.database, ledger, company, server, seconds=PATIENCE_SECONDS + changes / 1000)
        except AssertionError as problem:
            print(f"wrong: {problem}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
