"""What was acknowledged, kept outside MySQL, and what came of it: lost, doubled, out of order, torn, gaps.

A writer notes each transaction after the answer of its COMMIT, on a file that is synced. `tally` compares that with the change
log, and with `mysqlbinlog -v`, where it is at hand: a reader of the binlog that shares no code with ours.
"""

from __future__ import annotations

import itertools
import math
import os
import random
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path

import pymysql

from cli.embedded import MySQLServer
from schema.settings import Settings
from tests.sql_client import SqlClient

TABLE = "units_of_measure"
_numbers = itertools.count(1)
_NAME_COLUMN = 3
"""Of `name` in that table, as mysqlbinlog numbers columns."""


class Outcome(StrEnum):
    """What a client knows of its transaction. UNKNOWN: the COMMIT was sent, and no answer came."""

    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Noted:
    """Transaction `name` with rows `name/0` … `name/(rows − 1)`."""

    name: str
    rows: int
    outcome: Outcome


class Ledger:
    """A file of what writers were told."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a+b", buffering=0)
        self._lock = threading.Lock()
        self.changes = 0

    def note(self, noted: Noted) -> None:
        """Add a line and sync it."""
        with self._lock:
            self._file.write(f"{noted.name} {noted.rows} {noted.outcome}\n".encode())
            os.fdatasync(self._file.fileno())
            self.changes += noted.rows if noted.outcome is Outcome.ACKNOWLEDGED else 0

    def read(self) -> list[Noted]:
        """All lines."""
        self._file.seek(0)
        lines = (line.split() for line in self._file.read().decode().splitlines())
        return [Noted(name, int(rows), Outcome(outcome)) for name, rows, outcome in lines]

    def close(self) -> None:
        self._file.close()


class Writer(threading.Thread):
    """A plain SQL client: one transaction after the other, of one row or many, reconnecting whenever MySQL goes away.

    It rests while the ledger holds `changes_allowed` changes.
    """

    def __init__(
        self,
        settings: Settings,
        company: int,
        ledger: Ledger,
        chance: random.Random,
        *,
        rows_max: int = 20,
        pause_seconds: float = 0.002,
        changes_allowed: Callable[[], float] = lambda: math.inf,
    ) -> None:
        super().__init__(daemon=True)
        self._settings = settings
        self._company = company
        self._ledger = ledger
        self._chance = random.Random(chance.random())
        self._rows_max = rows_max
        self._pause_seconds = pause_seconds
        self._changes_allowed = changes_allowed
        self._ended = threading.Event()
        self._number = next(_numbers)
        self._count = 0

    def run(self) -> None:
        while not self._ended.is_set():
            try:
                with SqlClient(self._settings) as sql:
                    while not self._ended.is_set():
                        if self._ledger.changes < self._changes_allowed():
                            self._write(sql)
                        self._ended.wait(self._chance.random() * 2 * self._pause_seconds)
            except (pymysql.err.MySQLError, OSError):
                self._ended.wait(0.05)

    def end(self) -> None:
        """Stop after the present transaction."""
        self._ended.set()
        self.join()

    def _write(self, sql: SqlClient) -> None:
        self._count += 1
        rows = self._chance.randint(1, self._rows_max)
        name = f"{self._number}-{self._count}"
        values = ", ".join(f"({self._company}, '{name}/{row}')" for row in range(rows))
        outcome = Outcome.REFUSED
        try:
            sql.run("START TRANSACTION", f"INSERT INTO {TABLE} (company_id, name) VALUES {values}")
            outcome = Outcome.UNKNOWN
            sql.run("COMMIT")
            outcome = Outcome.ACKNOWLEDGED
        except pymysql.err.MySQLError as problem:
            if outcome is Outcome.UNKNOWN and problem.args[0] < 2000:
                outcome = Outcome.REFUSED  # an answer came, and it was an error
            raise
        finally:
            self._ledger.note(Noted(name, rows, outcome))


@dataclass
class Tally:
    """What must all be 0, over `changes` changes of `transactions` acknowledged transactions."""

    changes: int
    transactions: int
    unknown: int
    lost: int = 0
    doubled: int = 0
    out_of_order: int = 0
    torn: int = 0
    gaps: int = 0

    @property
    def faults(self) -> int:
        return self.lost + self.doubled + self.out_of_order + self.torn + self.gaps

    def __str__(self) -> str:
        return ", ".join(f"{field.name.replace('_', ' ')} {getattr(self, field.name):,}" for field in fields(self))


def tally(settings: Settings, ledger: Ledger, company: int, server: MySQLServer | None) -> Tally:
    """Compare once the tailer has passed everything."""
    with SqlClient(settings) as sql:
        query = f"SELECT data->>'$.name', tx FROM sync_changes WHERE company_id = %s AND table_name = '{TABLE}' ORDER BY version"
        told = [(str(name), int(tx)) for name, tx in sql.rows(query, company)]
        head = sql.value("SELECT head FROM sync_state")
        low, high, count = sql.rows("SELECT MIN(version), MAX(version), COUNT(*) FROM sync_changes")[0]
        stored = {row[0] for row in sql.rows(f"SELECT name FROM {TABLE} WHERE company_id = %s", company)}
    noted = ledger.read()
    by_outcome = Counter(note.outcome for note in noted)
    names = [name for name, _ in told]
    found = Tally(len(told), by_outcome[Outcome.ACKNOWLEDGED], by_outcome[Outcome.UNKNOWN])
    acknowledged = {row for note in noted if note.outcome is Outcome.ACKNOWLEDGED for row in _rows(note)}
    found.lost = len((acknowledged | stored) - set(names))
    found.doubled = len(names) - len(set(names)) + len(set(names) - stored)
    found.torn = _count_torn(noted, told)
    found.gaps = (high - low + 1 - count) + abs(head - high)
    mysqlbinlog = server.programs.client("mysqlbinlog") if server is not None else None
    if server is not None and mysqlbinlog is not None:
        truth = list(_names_in_binlog(mysqlbinlog, server.data, settings.admin().database))
        assert set(truth) == stored, "mysqlbinlog was read wrongly"
        places = {name: ("", place) for place, name in enumerate(truth)}
    else:
        places = _by_writer(noted)
    found.out_of_order = _count_disorder(places, names)
    return found


def _rows(note: Noted) -> Iterator[str]:
    return (f"{note.name}/{row}" for row in range(note.rows))


def _count_torn(noted: Iterable[Noted], told: Iterable[tuple[str, int]]) -> int:
    """Transactions that are there in part, under more than one tx, or although they were refused."""
    by_name: dict[str, list[int]] = {}
    for name, tx in told:
        by_name.setdefault(name.partition("/")[0], []).append(tx)
    torn = 0
    for note in noted:
        txs = by_name.get(note.name, [])
        is_whole = len(txs) == note.rows and len(set(txs)) == 1 and note.outcome is not Outcome.REFUSED
        is_absent = not txs and note.outcome is not Outcome.ACKNOWLEDGED
        torn += not (is_whole or is_absent)
    return torn


def _by_writer(noted: Iterable[Noted]) -> dict[str, tuple[str, int]]:
    """Without mysqlbinlog: each writer's own order."""
    rows = (row for note in noted for row in _rows(note))
    return {row: (row.partition("-")[0], place) for place, row in enumerate(rows)}


def _count_disorder(places: dict[str, tuple[str, int]], names: Iterable[str]) -> int:
    """Changes that come after one with a later place in the same order."""
    newest: dict[str, int] = {}
    disorder = 0
    for name in names:
        order, place = places.get(name, ("", -1))
        disorder += place < newest.get(order, -1)
        newest[order] = max(place, newest.get(order, -1))
    return disorder


def _names_in_binlog(program: Sequence[str], directory: Path, database: str) -> Iterator[str]:
    """Names of inserted rows in binlog order, as MySQL's own tool reads them."""
    files = sorted(directory.glob("binlog.[0-9]*"))
    command = [*program, "-v", "--base64-output=DECODE-ROWS", *map(str, files)]
    insert, value = f"### INSERT INTO `{database}`.`{TABLE}`", f"###   @{_NAME_COLUMN}='"
    is_wanted = False
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("### "):
                if line.startswith(value) and is_wanted:
                    yield line[len(value) : line.rindex("'")]
                elif not line.startswith(("###  ", "### SET")):
                    is_wanted = line.startswith(insert)
    assert process.returncode == 0, "mysqlbinlog failed"
