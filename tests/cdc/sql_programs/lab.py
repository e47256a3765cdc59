"""Runs SQL programs in one database beside a tailer in a thread, and judges what the change log got of them."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pymysql

from schema.errors import Halt
from tests.cdc.background import Background
from tests.cdc.sql_programs import ledger
from tests.cdc.sql_programs.ledger import Change, Entry
from tests.cdc.sql_programs.program import SEED, Meanwhile, Program, Unit
from tests.oracle import Oracle
from tests.servers import Database
from tests.sql_client import SqlClient

PASS_SECONDS = 60
PROGRAMS_A_CLEARING = 50
RIGHT_HALTS = {"row_image_not_full", "statement_format", "ddl_changed_rows", "schema_differs"}
_SETUP = (
    "CREATE TABLE beside (id INT PRIMARY KEY, a TEXT)",
    "CREATE TRIGGER of_units AFTER INSERT ON units_of_measure FOR EACH ROW "
    "IF NEW.name LIKE 'trigger%' THEN INSERT INTO parties (company_id, name) VALUES (NEW.company_id, NEW.name); END IF",
    "CREATE PROCEDURE mixed(IN company BIGINT) BEGIN DECLARE n INT DEFAULT 0; "
    "INSERT INTO parties (company_id, name) VALUES (company, 'called'); "
    "WHILE n < 3 DO SET n = n + 1, @unit = CONCAT(SUBSTRING_INDEX(@unit, '~', 1), '~', n); "  # each commits by itself
    "UPDATE parties SET phone = n WHERE company_id = company ORDER BY id DESC LIMIT 1; END WHILE; END",
    "SET GLOBAL local_infile = ON",
)
_LOADED = "loaded\nlöaded \\N\n\\\\ \\t \\0\nd\n"
_CHANGES = """
SELECT table_name, record_id, company_id, operation, data, sealed FROM sync_changes
WHERE company_id IN %s AND for_device IS NULL ORDER BY version
"""
_STREAMS = """
SELECT PROCESSLIST_ID FROM performance_schema.threads WHERE PROCESSLIST_COMMAND LIKE 'Binlog Dump%%' AND PROCESSLIST_USER = %s
"""


class Wrong(AssertionError):
    """A program's changes are not in the change log as they must be, and the tailer said nothing."""


@dataclass
class Lab:
    """One database with a ledger, one tailer."""

    database: Database
    sql: SqlClient
    file: Path
    tailer: Background
    counts: Counter[str] = field(default_factory=Counter)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def run(self, program: Program) -> None:
        """Run a program and judge it. Raises Wrong."""
        name = f"p{next(self._numbers)}"
        companies = (self.sql.company("c"), self.sql.company("d"))
        middle = len(program.units) // 2
        self.counts.update(programs=1, units=len(program.units))
        if self.counts["programs"] % PROGRAMS_A_CLEARING == 0:
            self._clear()
        if program.meanwhile is Meanwhile.IS_DOWN:
            self.tailer.stop()
        order: list[str] = []
        with SqlClient(self.database.settings) as session:
            session.run("SET SESSION innodb_lock_wait_timeout = 1")  # a prepared XA transaction may hold what comes next
            order += _run_unit(session, SEED, f"{name}/seed", self._names(companies))
            for number, unit in enumerate(program.units):
                if number == middle:
                    self._disturb(program.meanwhile)
                order += _run_unit(session, unit, f"{name}/{number}", self._names(companies))
        self.tailer.start()
        halts = self._settle()
        self.counts.update(halts)
        self._judge(program, name, companies, order, halts)

    def _clear(self) -> None:
        """Keep the ten thousandth program as fast as the first: ALTERs copy all rows, and a tailer that starts has MySQL read a
        binlog file from its beginning.
        """
        for table in (*reversed(ledger.TABLES[1:]), "ledger"):  # companies stay: much refers to them
            self.sql.run(f"DELETE FROM {table}")
        self.sql.run("FLUSH BINARY LOGS")

    def _names(self, companies: tuple[int, int]) -> dict[str, str]:
        c, d = map(str, companies)
        return {"{c}": c, "{d}": d, "{f}": str(self.file), "{o}": f"{self.database.name}_other"}

    def _disturb(self, meanwhile: Meanwhile) -> None:
        if meanwhile is Meanwhile.RESTARTS:
            self.tailer.stop()
            self.tailer.start()
        elif meanwhile is Meanwhile.LOSES_ITS_STREAM:
            for (stream,) in self.sql.rows(_STREAMS, self.database.settings.tailer().user):
                with suppress(pymysql.err.OperationalError):
                    self.sql.run(f"KILL {stream}")

    def _settle(self) -> list[str]:
        """Wait until everything is read; the codes of the halts on the way, each skipped as an operator would."""
        marker = self.sql.run("INSERT INTO sync_origins (kind, request_id) VALUES ('system', 'marker')")
        halts: list[str] = []
        deadline = time.monotonic() + PASS_SECONDS
        while not self.sql.rows("SELECT 1 FROM sync_tx WHERE origin_id = %s", marker):
            if time.monotonic() > deadline:
                raise Wrong(f"the tailer did not pass in {PASS_SECONDS} s")
            if self.tailer.has_ended:
                halts += self._pass_over()
            time.sleep(0.01)
        return halts

    def _pass_over(self) -> list[str]:
        reason = self.tailer.reason
        if isinstance(reason, Halt):
            return [self.tailer.pass_over(self.database).code]
        if reason is None or reason.code != "schema_differs":  # it may have started between a DDL and the way back
            raise Wrong(f"the tailer ended: {reason!r}")
        self.tailer.stop()
        self.tailer.start()
        return []

    def _judge(self, program: Program, name: str, companies: tuple[int, int], order: list[str], halts: list[str]) -> None:
        entries = ledger.read(self.sql, name)
        by_unit: dict[str, list[Entry]] = {}
        for entry in sorted(entries, key=lambda entry: order.index(_statement(entry.unit))):
            commits_alone = "." in entry.unit
            by_unit.setdefault(entry.unit if commits_alone else _statement(entry.unit), []).append(entry)
        told = [_told(*row) for row in self.sql.rows(_CHANGES, companies)][2:]  # after the companies' own INSERTs
        missing = _match(by_unit, told, halts)
        self.counts.update(f"{change.operation}s" for change in told)
        self.counts.update(missing=len(missing), hidden=sum(entry.is_hidden for entry in entries))
        may_halt = any(unit.may_halt for unit in program.units) or any(entry.is_shaky for entry in entries)
        if halts and not (may_halt and set(halts) <= RIGHT_HALTS):
            raise Wrong(f"halted for nothing: {halts}")
        if len(halts) < len({_statement(unit) for unit in missing}):
            raise Wrong(f"{missing} are missing, and there are {len(halts)} halts")
        if not halts:
            hidden = {(c.table, c.record_id) for entry in entries if entry.is_hidden for c in entry.changes}
            self._compare_with_tables(companies, told, hidden)

    def _compare_with_tables(self, companies: tuple[int, int], told: Sequence[Change], hidden: set[tuple[str, int]]) -> None:
        """The newest image of each record is what SELECT gives; no other record is live."""
        oracle = Oracle(self.sql)
        for company in companies:
            newest = {(change.table, change.record_id): change for change in told if change.company_id == company}
            for table in ledger.TABLES:
                rows = {key: row for key, row in oracle.table(table, company).items() if (table, key) not in hidden}
                live = {
                    key: {column: _plain(value) for column, value in change.image.items()}
                    for (of, key), change in newest.items()
                    if of == table and change.operation != "DELETE" and (table, key) not in hidden
                }
                if table == "companies" and company not in live:
                    rows.pop(company, None)
                if live != rows:
                    raise Wrong(f"{table} of {company}: the change log has {live}, SELECT gives {rows}")


def _run_unit(session: SqlClient, unit: Unit, name: str, words: dict[str, str]) -> list[str]:
    """Run one unit, whatever of it MySQL refuses; the names under which its rows stand, in the order of their commits.

    A name is for what commits at once: a transaction, or one statement of those that commit each.
    """
    words = {**words, "{x}": f"'{name}'"}
    names: list[str] = []

    def run(statements: Sequence[str], label: str | None = None) -> None:
        for statement in statements:
            names.append(label or f"{name}.{len(names)}")
            for word, value in words.items():
                statement = statement.replace(word, value)
            for one in (f"SET @unit = '{names[-1]}'", statement):
                with suppress(pymysql.err.MySQLError), session.connection.cursor() as cursor:
                    cursor.execute(one)

    run(unit.before)
    run(unit.statements, name if unit.is_transaction else None)
    run(unit.interlude)
    run((*unit.outcome, *unit.after))
    return [*(label for label in dict.fromkeys(names) if label != name), name]


def _statement(unit: str) -> str:
    """The name without what the procedure adds to it."""
    return unit.partition("~")[0]


def _match(by_unit: dict[str, list[Entry]], told: Sequence[Change], halts: Sequence[str]) -> list[str]:
    """Walk through the units in commit order; the names of those that are missing because the tailer refused them.

    What was refused may look like what came after it, as a soft deletion before a hard one does: then both ways are tried.
    """
    units = list(by_unit.items())
    problems: list[str] = []

    def walk(number: int, at: int) -> list[str] | None:
        if number == len(units):
            if at == len(told):
                return []
            problems.append(f"nobody of {list(by_unit)} wrote\n{_lines(told[at:])}")
            return None
        unit, entries = units[number]
        wanted = [change for entry in entries if not entry.is_hidden for change in entry.changes]
        end = _walk(wanted, told, at)
        if end is None:
            problems.append(f"{unit} should give\n{_lines(wanted)}\nbut from its place on there is\n{_lines(told[at:])}")
        missing = walk(number + 1, end) if end is not None else None
        if missing is None and halts and any(entry.is_shaky for entry in entries):
            rest = walk(number + 1, at)
            missing = None if rest is None else [unit, *rest]
        return missing

    missing = walk(0, 0)
    if missing is None:
        raise Wrong("\nor\n".join(problems))
    return missing


def _walk(wanted: Sequence[Change], told: Sequence[Change], at: int) -> int | None:
    for change in wanted:
        if at < len(told) and change.is_met_by(told[at]):
            at += 1
        elif not change.is_optional:
            return None
    return at


def _lines(changes: Sequence[Change]) -> str:
    return "\n".join(
        f"  {c.operation} {c.table} {c.record_id} of {c.company_id} { {k: str(v)[:40] for k, v in c.image.items()} }"
        for c in changes[:9]
    )


def _told(table: str, record_id: int, company_id: int, operation: str, data: str, sealed: str | None) -> Change:
    image = {**(ledger.image(data) or {}), **(ledger.image(sealed) or {})}
    return Change(table, record_id, company_id, operation, image)


def _plain(value: Any) -> Any:
    """A value with Python's numbers."""
    if isinstance(value, tuple):
        return float(value[1]) if any(sign in value[1] for sign in ".eE") else int(value[1])
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return value


@contextmanager
def open_lab(database: Database, directory: Path) -> Iterator[Lab]:
    """A lab in a fresh database; its tailer runs."""
    settings = replace(database.settings, tailer_batch_changes=50, tailer_part_changes_max=200)
    tailer = Background(settings)
    file = directory / "loaded.tsv"
    file.write_text(_LOADED)
    other = f"{database.name}_other"
    with SqlClient(database.settings) as sql:
        ledger.install(sql)
        sql.run(*_SETUP, f"CREATE DATABASE {other}", f"CREATE TABLE {other}.parties (id INT PRIMARY KEY, name TEXT)")
        sql.run(f"CREATE TABLE {other}.unsafe (id INT)")
        tailer.start()
        try:
            yield Lab(database, sql, file, tailer)
        finally:
            tailer.stop()
            sql.run(f"DROP DATABASE {other}")
