"""Runs of `reconcile` and `snapshot` in sync_reconcile_runs: asked for by an operator, worked through by the tailer."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson
import pymysql
from pymysql.connections import Connection
from pymysql.cursors import DictCursor

from schema.errors import StartError
from schema.tables import TABLES

ID_MAX = 2**64 - 1
_DUPLICATE_KEY = 1062

_REQUEST = "INSERT INTO sync_reconcile_runs (run, kind, tables, requested_by, table_name) VALUES (%s, %s, %s, %s, %s)"
_COLUMNS = """
run, kind, tables, state, table_name, next_id, rows_read, inserted, updated, deleted, problem, requested_by, requested_at, ended_at
"""
_READ_OPEN = f"SELECT {_COLUMNS} FROM sync_reconcile_runs WHERE is_open = 1"
_READ_ONE = f"SELECT {_COLUMNS} FROM sync_reconcile_runs WHERE run = %s"
_MOVE = """
UPDATE sync_reconcile_runs SET table_name = %s, next_id = %s, rows_read = rows_read + %s,
    inserted = inserted + %s, updated = updated + %s, deleted = deleted + %s WHERE run = %s
"""
_END = """
UPDATE sync_reconcile_runs SET state = %s, is_open = NULL, problem = %s, ended_at = UTC_TIMESTAMP(6) WHERE run = %s AND is_open = 1
"""
_FORGET_WATERMARKS = "DELETE FROM sync_watermarks WHERE run = %s"
_AUDIT = "INSERT INTO sync_audit (actor, action, details) VALUES (%s, %s, %s)"


class RunKind(StrEnum):
    """RECONCILE ends every difference; SNAPSHOT brings the rows of which the change log knows nothing, and looks at no others."""

    RECONCILE = "reconcile"
    SNAPSHOT = "snapshot"


class RunState(StrEnum):
    """Only an OPEN run is worked on."""

    OPEN = "open"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Counts:
    """What came of a range, or of a whole run: rows that were read, and changes by operation."""

    rows_read: int = 0
    inserted: int = 0
    updated: int = 0
    deleted: int = 0

    @property
    def changes(self) -> int:
        """All changes."""
        return self.inserted + self.updated + self.deleted


@dataclass(frozen=True, slots=True)
class Run:
    """A run as it stands; it goes on at `next_id` of `table`. Times are UTC."""

    run: bytes
    kind: RunKind
    tables: tuple[str, ...]
    state: RunState
    table: str
    next_id: int
    counts: Counts
    problem: str | None
    requested_by: str
    requested_at: Any
    ended_at: Any

    @property
    def name(self) -> str:
        """The run's id as people see it."""
        return self.run.hex()

    def table_after(self, table: str) -> str | None:
        """The table that comes next; None after the last."""
        place = self.tables.index(table) + 1
        return self.tables[place] if place < len(self.tables) else None


def request_run(connection: Connection[Any], kind: RunKind, tables: Sequence[str], actor: str) -> Run:
    """Open a run over these tables, in the order in which they refer to each other, and note it in sync_audit.

    Raises StartError `run_open` where another one is.
    """
    ordered = [name for name in TABLES if name in tables]
    run = secrets.token_bytes(16)
    connection.begin()
    try:
        with connection.cursor() as cursor:
            cursor.execute(_REQUEST, (run, kind.value, orjson.dumps(ordered).decode(), actor, ordered[0]))
            _note(cursor, actor, f"{kind.value}_requested", {"run": run.hex(), "tables": ordered})
    except pymysql.err.IntegrityError as problem:
        connection.rollback()
        if problem.args[0] != _DUPLICATE_KEY:
            raise
        raise StartError(
            "run_open", "another run is open", hint="wait for its end, or end it with `matrix-sync reconcile --cancel`"
        ) from problem
    connection.commit()
    found = read_run(connection, run)
    assert found is not None
    return found


def read_open_run(connection: Connection[Any]) -> Run | None:
    """The run that the tailer is to work on."""
    return _read(connection, _READ_OPEN, ())


def read_run(connection: Connection[Any], run: bytes) -> Run | None:
    """One run, whatever its state."""
    return _read(connection, _READ_ONE, (run,))


def move_run(connection: Connection[Any], run: Run, table: str, next_id: int, counts: Counts) -> None:
    """Note inside the caller's transaction where the run goes on and what came of the range before."""
    with connection.cursor() as cursor:
        numbers = (counts.rows_read, counts.inserted, counts.updated, counts.deleted)
        cursor.execute(_MOVE, (table, next_id, *numbers, run.run))


def end_run(connection: Connection[Any], run: Run, state: RunState, actor: str, problem: str | None = None) -> bool:
    """End an open run inside the caller's transaction, with word in sync_audit. Returns whether it was open."""
    with connection.cursor() as cursor:
        if not cursor.execute(_END, (state.value, problem, run.run)):
            return False
        _note(cursor, actor, f"{run.kind.value}_{state.value}", {"run": run.name, "problem": problem})
    return True


def forget_watermarks(connection: Connection[Any], run: Run) -> None:
    """Delete the rows that only marked places in the binlog."""
    with connection.cursor() as cursor:
        cursor.execute(_FORGET_WATERMARKS, (run.run,))


def _note(cursor: pymysql.cursors.Cursor, actor: str, action: str, details: Mapping[str, Any]) -> None:
    cursor.execute(_AUDIT, (actor, action, orjson.dumps(details).decode()))


def _read(connection: Connection[Any], query: str, params: tuple[Any, ...]) -> Run | None:
    with connection.cursor(DictCursor) as cursor:
        cursor.execute(query, params)
        row = cursor.fetchone()
    connection.commit()
    if row is None:
        return None
    return Run(
        run=row["run"],
        kind=RunKind(row["kind"]),
        tables=tuple(orjson.loads(row["tables"])),
        state=RunState(row["state"]),
        table=row["table_name"],
        next_id=row["next_id"],
        counts=Counts(row["rows_read"], row["inserted"], row["updated"], row["deleted"]),
        problem=row["problem"],
        requested_by=row["requested_by"],
        requested_at=row["requested_at"],
        ended_at=row["ended_at"],
    )
