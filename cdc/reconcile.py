"""Works through an open run beside the stream: ranges of rows as they are, made to agree with the change log without any lock.

A range is read between two rows of sync_watermarks, low and high. What the binlog holds before the low one, the SELECT has seen;
what it holds after the high one, the SELECT has not. So when the high one comes by in the stream and everything before it is
appended, a row that no transaction touched between the two is, at that place of the binlog, what the SELECT found. Where the
newest image differs, the difference becomes a change of the high watermark's own transaction; rows that were touched have their
image from their event. Changes, checkpoint and the place where the run goes on move in one commit: a killed tailer reads the
range again, or goes on after it.

It rests on transactions becoming visible in the order of the binlog (binlog_order_commits, MySQL's default).

Source: Andreakis and Papapanagiotou, "DBLog: A Watermark Based Change-Data-Capture Framework" (2020); MySQL 9.7 manual,
"binlog_order_commits".
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import pymysql
from pymysql.connections import Connection

from cdc.change_row import RecordKey
from cdc.entries import Entry
from cdc.items import Changes, Rows
from cdc.newest import read_bound, read_newest_range
from cdc.row_differences import Kind, RowDifference, find_differences, mending_changes
from cdc.runs import ID_MAX, Counts, Run, RunKind, RunState, end_run, forget_watermarks, move_run, read_open_run, read_run
from cdc.sql import literal
from cdc.table_rows import Row, TableRows
from schema.changes import Operation, RecordChange
from schema.errors import MatrixError, StartError
from schema.logs import get_logger
from schema.settings import Settings
from schema.tables import TABLES, Table

log = get_logger(__name__)

WATERMARKS, RUNS = "sync_watermarks", "sync_reconcile_runs"
TOUCHED_MAX: Final = 100_000
"""Rows that may be written while a range is read; with more the range is read again."""
ACTOR: Final = "tailer"
_LOCK_WAIT_SECONDS: Final = 1
"""How long a SELECT waits for an ALTER: the stream is not read meanwhile."""
_WAIT_SECONDS: Final = 1.0
_VISIBLE_SECONDS: Final = 0.01
_SQL_SECONDS_MAX: Final = 120
_LOCK_WAIT_TIMEOUT: Final = 1205
_NO_SUCH: Final = (1054, 1146)
"""Column, table."""

_READ_ORDER = "SELECT @@GLOBAL.binlog_order_commits"
_WRITE_WATERMARK = "INSERT INTO sync_watermarks (run, kind, table_name, first_id, last_id) VALUES (%s, %s, %s, %s, %s)"
_READ_MAKERS = """
SELECT company_id, table_name, record_id, device_id, local_id FROM record_identities
WHERE (company_id, table_name, record_id) IN ({keys}) ORDER BY origin_id DESC
"""


@dataclass(slots=True)
class _Chunk:
    """A range that was read and waits for its watermarks: `low` and `high` are their ids."""

    run: Run
    table: Table
    first: int
    last: int
    rows: list[Row]
    low: int
    high: int
    is_open: bool = False
    is_complete: bool = False
    touched: set[int] = field(default_factory=set)

    def note_watermarks(self, rows: Rows) -> None:
        """Its own ones open and close it; those of a tailer that was killed are others."""
        place = rows.columns.index["id"]
        for change in rows.changes:
            number = change.after[place] if change.after is not None else None
            self.is_open = (self.is_open or number == self.low) and number != self.high
            self.is_complete = self.is_complete or number == self.high

    def touch(self, item: Changes) -> None:
        """Rows of the table were written while it was read."""
        if len(self.touched) <= TOUCHED_MAX:
            self.touched.update(change.record_id for change in item.changes)


@dataclass(frozen=True, slots=True)
class Mended:
    """Changes that make a range agree, and what is to be noted in the same commit."""

    entries: tuple[Entry, ...]
    note: Callable[[], None]


class Reconciler:
    """The follower tells it every rows event, asks it at the end of each tx, and appends what it gives."""

    def __init__(self, connection: Connection[Any], settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._connection = connection
        self._settings = settings
        self._clock = clock
        self._rows: TableRows | None = None
        self._run: Run | None = None
        self._chunk: _Chunk | None = None
        self._is_wanted = True  # a run may be open from before this tailer
        self._announced: Any = None
        self._not_before = 0.0

    def close(self) -> None:
        """End the session that reads rows."""
        if self._rows is not None:
            self._rows.close()
            self._rows = None

    def note(self, rows: Rows) -> None:
        """Take notice of a rows event of a table of ours, before anything else is done with it."""
        if rows.table == RUNS:
            self._is_wanted = True
            row = rows.changes[-1].after
            self._announced = row[rows.columns.index["run"]] if row is not None else None
        elif self._chunk is not None and rows.table == WATERMARKS:
            self._chunk.note_watermarks(rows)

    def note_changes(self, item: Changes) -> None:
        """The same of a synced table's changes."""
        if self._chunk is not None and self._chunk.is_open and item.table == self._chunk.table.name:
            self._chunk.touch(item)

    @property
    def is_complete(self) -> bool:
        """Whether the tx under way holds the high watermark of the range in hand."""
        return self._chunk is not None and self._chunk.is_complete

    @property
    def is_due(self) -> bool:
        """Whether `start` has something to do."""
        return self._is_wanted and self._chunk is None and self._clock() >= self._not_before

    def start(self) -> None:
        """Read the next range of the open run, if there is one. Call it between transactions.

        What cannot be read ends the run and not the tailer; pymysql errors of a broken connection come through.
        """
        is_visible = self._is_visible()  # asked first: what becomes visible between the two questions is found by the second
        run = read_open_run(self._connection)
        if run is None and not is_visible:
            self._not_before = self._clock() + _VISIBLE_SECONDS
            return
        if run is None:
            self._finish()
            return
        if self._run is None or self._run.run != run.run:
            log.info("reconcile_began", run=run.name, kind=run.kind.value, tables=len(run.tables), table=run.table)
        self._run = run
        try:
            self._chunk = self._read_chunk(run)
        except pymysql.err.MySQLError as problem:
            self._class_refusal(run, problem)
        except OSError:
            raise
        except Exception as problem:  # it would be met again: it must end the run, and not the tailer
            self._fail(run, problem)

    def _is_visible(self) -> bool:
        """Whether the run that the stream told of last can be seen: its event may come before its COMMIT is done."""
        return self._announced is None or read_run(self._connection, self._announced) is not None

    def _class_refusal(self, run: Run, problem: pymysql.err.MySQLError) -> None:
        """Wait for a table that somebody holds; end the run where there is no such table; anything else is the tailer's."""
        number = problem.args[0] if problem.args else 0
        if number == _LOCK_WAIT_TIMEOUT:
            log.warning("reconcile_waits", run=run.name, table=run.table)
            self._not_before = self._clock() + _WAIT_SECONDS
        elif number in _NO_SUCH:
            self._fail(run, problem)
        else:
            raise problem

    def mend(self, commit_time_us: int) -> Mended:
        """The changes of the range in hand. Everything before its high watermark must be appended, and nothing after it."""
        chunk, self._chunk = self._chunk, None
        assert chunk is not None
        if len(chunk.touched) > TOUCHED_MAX:
            return Mended((), _nothing)
        try:
            return self._mend(chunk, commit_time_us)
        except (pymysql.err.MySQLError, OSError):
            raise
        except Exception as problem:  # as above
            reason = _reason(problem)
            log.error("reconcile_failed", exc_info=True, run=chunk.run.name, table=chunk.table.name, problem=reason)
            return Mended((), lambda: self._end(chunk.run, RunState.FAILED, reason))

    def _mend(self, chunk: _Chunk, commit_time_us: int) -> Mended:
        differences = self._differences(chunk)
        changes = mending_changes(chunk.table, differences, commit_time_us)
        makers = self._read_makers(differences)
        entries = tuple(Entry(change, maker=makers.get((change.company_id, change.table, change.record_id))) for change in changes)
        counts = _count(len(chunk.rows), changes)
        return Mended(entries, lambda: self._note(chunk, counts))

    def _differences(self, chunk: _Chunk) -> list[RowDifference]:
        newest = read_newest_range(self._connection, chunk.table.name, chunk.first, chunk.last)
        found = [d for d in find_differences(chunk.table, chunk.rows, newest) if d.record_id not in chunk.touched]
        if chunk.run.kind is RunKind.SNAPSHOT:
            return [d for d in found if d.kind is Kind.MISSING_IN_LOG]
        return found

    def _read_chunk(self, run: Run) -> _Chunk:
        session = self._session()
        table = TABLES[run.table]
        rows_max = self._settings.tailer_batch_changes
        bound = read_bound(self._connection, table.name, run.next_id, rows_max)
        self._connection.commit()
        first, last = run.next_id, ID_MAX if bound is None else bound
        low = _write_watermark(session, run, "low", table, first, last)
        columns = tuple(table.by_name)
        bytes_max = self._settings.tailer_batch_bytes_max
        found = session.read_range(table.name, columns, first, last, rows_max=rows_max, bytes_max=bytes_max)
        if found.is_cut:
            last = _id_of(found.rows[-1])
        high = _write_watermark(session, run, "high", table, first, last)
        return _Chunk(run, table, first, last, found.rows, low, high)

    def _session(self) -> TableRows:
        if self._rows is None:
            with self._connection.cursor() as cursor:
                cursor.execute(_READ_ORDER)
                row = cursor.fetchone()
            if row != (1,):
                raise StartError(
                    "commits_unordered",
                    "binlog_order_commits is OFF: a row may be seen before, or after, its place in the binlog",
                    hint="SET GLOBAL binlog_order_commits = ON, then reconcile again",
                )
            self._rows = TableRows(self._settings.tailer(), lock_wait_seconds=_LOCK_WAIT_SECONDS, read_timeout=_SQL_SECONDS_MAX)
        return self._rows

    def _read_makers(self, differences: Iterable[RowDifference]) -> dict[RecordKey, tuple[str, str]]:
        """Which device made the records of which the change log knows nothing: a push whose binlog is gone left its identities."""
        new = [d for d in differences if d.kind is Kind.MISSING_IN_LOG and d.known is None]
        if not new:
            return {}
        keys = ",".join(f"({d.company_id},{literal(d.table)},{d.record_id})" for d in new)
        with self._connection.cursor() as cursor:
            cursor.execute(_READ_MAKERS.format(keys=keys))
            return {(company, table, record): (device, local) for company, table, record, device, local in cursor.fetchall()}

    def _note(self, chunk: _Chunk, counts: Counts) -> None:
        """In the append's transaction: where the run goes on, or that it is done."""
        table, next_id = chunk.table.name, chunk.last + 1
        after = chunk.run.table_after(table) if chunk.last == ID_MAX else table
        move_run(self._connection, chunk.run, after or table, 0 if chunk.last == ID_MAX else next_id, counts)
        if after is None:
            self._end(chunk.run, RunState.DONE)

    def _end(self, run: Run, state: RunState, problem: str | None = None) -> None:
        end_run(self._connection, run, state, ACTOR, problem)
        forget_watermarks(self._connection, run)

    def _fail(self, run: Run, problem: Exception) -> None:
        reason = _reason(problem)
        log.error("reconcile_failed", exc_info=not isinstance(problem, MatrixError), run=run.name, table=run.table, problem=reason)
        self._connection.begin()
        self._end(run, RunState.FAILED, reason)
        self._connection.commit()

    def _finish(self) -> None:
        """No run is open (any more)."""
        self._is_wanted = False
        self.close()
        run, self._run = self._run, None
        if run is None:
            return
        forget_watermarks(self._connection, run)  # of one that was cancelled
        self._connection.commit()
        log.info("reconcile_ended", run=run.name)


def _write_watermark(session: TableRows, run: Run, kind: str, table: Table, first: int, last: int) -> int:
    with session.connection.cursor() as cursor:
        cursor.execute(_WRITE_WATERMARK, (run.run, kind, table.name, first, last))
        return int(cursor.lastrowid)


def _id_of(row: Row) -> int:
    number = row["id"]
    assert isinstance(number, int)
    return number


def _count(rows_read: int, changes: Iterable[RecordChange]) -> Counts:
    operations = [change.operation for change in changes]
    return Counts(rows_read, *(operations.count(wanted) for wanted in (Operation.INSERT, Operation.UPDATE, Operation.DELETE)))


def _reason(problem: Exception) -> str:
    """What the operator is told. An exception of another kind may hold a row's values in its message."""
    if isinstance(problem, MatrixError):
        return f"{problem.code}: {problem.message}"
    if isinstance(problem, pymysql.err.MySQLError) and problem.args:
        return str(problem.args[-1])
    return f"{type(problem).__name__}; the stack is in the tailer's log"


def _nothing() -> None:
    return
