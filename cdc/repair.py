"""Puts missing rows of the change log back, beside a tailer that goes on appending.

Only rows that are not there are written, never above the head, and sync_live only ever moves forward: nothing here can undo what
the tailer commits meanwhile. The first repair and the end of a run leave a row each in sync_audit, in the same commits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import orjson
import pymysql
from pymysql.connections import Connection

from cdc.change_row import ChangeRow, RecordKey
from cdc.live import COUNT_MENDED
from cdc.log_rows import CHANGE_COLUMNS, TX_COLUMNS, change_literal
from cdc.sql import insert_rows, literal
from cdc.state import read_state
from cdc.stored import LiveRow, TxRow
from schema.errors import StartError

CHANGES_PER_COMMIT = 1000
RANGES_RECORDED_MAX = 1000
"""Ranges of versions that an audit row names; the number of changes is always whole."""
_ATTEMPTS_MAX = 5
_LOCK_ERRORS = (1205, 1213)

_GET_LOCK = "SELECT GET_LOCK(%s, 0)"
_RELEASE_LOCK = "DO RELEASE_LOCK(%s)"
_INSERT_CHANGES = f"INSERT INTO sync_changes ({CHANGE_COLUMNS}) VALUES "
_INSERT_TX = f"INSERT INTO sync_tx ({TX_COLUMNS}) VALUES "
_INSERT_LIVE = "INSERT INTO sync_live (company_id, table_name, record_id, version, is_deleted, device_id, local_id) VALUES "
_ONLY_FORWARD = """ AS new ON DUPLICATE KEY UPDATE
    is_deleted = IF(new.version > sync_live.version, new.is_deleted, sync_live.is_deleted),
    device_id = IF(new.version > sync_live.version, new.device_id, sync_live.device_id),
    local_id = IF(new.version > sync_live.version, new.local_id, sync_live.local_id),
    version = GREATEST(new.version, sync_live.version)"""
_AUDIT = "INSERT INTO sync_audit (actor, action, details) VALUES (%s, %s, %s)"


_T = TypeVar("_T")


@contextmanager
def one_at_a_time(connection: Connection[Any], database: str) -> Iterator[None]:
    """Two repairs of one change log take no turns: the second is refused with StartError."""
    name = f"matrix-sync.replay.{database}"[:64]
    with connection.cursor() as cursor:
        cursor.execute(_GET_LOCK, (name,))
        if cursor.fetchone() != (1,):
            raise StartError("replay_running", "another replay is running on this database", hint="wait for it and try again")
        yield
        cursor.execute(_RELEASE_LOCK, (name,))


class Repair:
    """One run's writes. `about` says what was asked for; it stands in the audit rows."""

    def __init__(self, connection: Connection[Any], actor: str, about: Mapping[str, Any]) -> None:
        self._connection = connection
        self._actor = actor
        self._about = dict(about)
        self._has_begun = False
        self.changes = 0
        self.txs = 0
        self.live = 0
        self._ranges: list[tuple[int, int]] = []

    def restore_tx(self, row: TxRow) -> None:
        """Put a row of sync_tx back."""
        self._refuse_above_head(row.last_version)
        self._commit(partial(insert_rows, self._connection.query, _INSERT_TX, [f"({','.join(map(literal, row.values()))})"]))
        self.txs += 1

    def restore_changes(self, rows: Iterable[tuple[ChangeRow, bytes]]) -> None:
        """Put changes back that stand side by side, in commits of a bounded size: one that was cut off is gone on with later."""
        for part in _batches(rows):
            first, last = part[0][0].version, part[-1][0].version
            self._refuse_above_head(last)
            literals = list(map(change_literal, part))
            self._commit(partial(insert_rows, self._connection.query, _INSERT_CHANGES, literals))
            self.changes += len(part)
            self._note_range(first, last)

    def restore_live(self, rows: Mapping[RecordKey, LiveRow]) -> None:
        """Move rows of sync_live forward to these versions; a newer one stays."""
        for part in _batches(sorted(rows.items())):
            literals = [_live_literal(key, row) for key, row in part]
            self._commit(partial(self._store_live, literals))
            self.live += len(part)

    def _store_live(self, literals: list[str]) -> None:
        """With word to a running tailer that what it remembers of sync_live may be wrong."""
        insert_rows(self._connection.query, _INSERT_LIVE, literals, _ONLY_FORWARD)
        self._audit("replay_live", {"records": len(literals)})
        self._connection.query(COUNT_MENDED)

    def finish(self) -> None:
        """Record what the run did, if it did anything."""
        if self._has_begun:
            done = {"changes": self.changes, "txs": self.txs, "live": self.live, "versions": self._ranges}
            self._commit(partial(self._audit, "replay_ended", {**self._about, **done}))

    def _commit(self, write: Callable[[], None]) -> None:
        """Run `write` in a transaction of its own; again where it had to give way to the tailer."""
        for attempt in range(1, _ATTEMPTS_MAX + 1):
            try:
                self._connection.begin()
                if not self._has_begun:
                    self._audit("replay_began", self._about)
                write()
                self._connection.commit()
            except pymysql.err.MySQLError as problem:
                self._connection.rollback()
                if problem.args[0] not in _LOCK_ERRORS or attempt == _ATTEMPTS_MAX:
                    raise
            else:
                self._has_begun = True
                return

    def _audit(self, action: str, details: Mapping[str, Any]) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(_AUDIT, (self._actor, action, orjson.dumps(details).decode()))

    def _note_range(self, first: int, last: int) -> None:
        if self._ranges and self._ranges[-1][1] + 1 == first:
            first = self._ranges.pop()[0]
        if len(self._ranges) < RANGES_RECORDED_MAX:
            self._ranges.append((first, last))

    def _refuse_above_head(self, version: int) -> None:
        head = read_state(self._connection).head
        if version > head:
            raise StartError("above_head", f"version {version} is above the head {head}", hint="run the replay again")


def _live_literal(key: RecordKey, row: LiveRow) -> str:
    device_id, local_id = row.maker or (None, None)
    return f"({','.join(map(literal, (*key, row.version, row.is_deleted, device_id, local_id)))})"


def _batches(items: Iterable[_T]) -> Iterator[list[_T]]:
    rest = iter(items)
    while part := list(islice(rest, CHANGES_PER_COMMIT)):
        yield part
