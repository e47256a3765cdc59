"""Collects the items of one tx into a PendingTx: its changes, who caused it, and what its push says of each record.

The API writes three kinds of row beside the domain's: sync_origins (who), sync_pushed (which local id a record has, and whether it
is stored exactly as sent) and sync_redeliveries (which records a device wants again). They may stand before or after the rows
they speak of, so they are joined at the end of the tx.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping
from itertools import repeat
from typing import Any, Final

from cdc.entries import Entry, PendingTx, Redelivery
from cdc.gtid import Gtid
from cdc.items import Changes, Rows, TxBegin, TxEnd
from cdc.reconcile import RUNS, WATERMARKS
from schema.changes import EXTERNAL, Origin, OriginKind, RecordChange
from schema.columns import ID_MAX
from schema.tables import TABLES

ORIGINS, PUSHED, REDELIVERIES, STATE = "sync_origins", "sync_pushed", "sync_redeliveries", "sync_state"
RETENTION = "sync_retention"
WANTED = frozenset({*TABLES, ORIGINS, PUSHED, REDELIVERIES, STATE, WATERMARKS, RUNS, RETENTION})
"""Every table whose row events are decoded; of sync_state, sync_retention and what a run writes only that they are there."""

STATEMENT_CHARACTERS_MAX = 64 * 1024
"""Of statements that are longer only the beginning is kept: they are for people, and their rows are in the change log."""

Row = Mapping[str, Any]
_new: Final = tuple.__new__
"""Mapped, a third of the time of a comprehension."""


def is_wanted(_schema: str, table: str) -> bool:
    """The filter `cdc.tx.assemble` asks: rows of other tables are never decoded."""
    return table in WANTED


class TxBuilder:
    """One tx between its TxBegin and its TxEnd."""

    def __init__(self, begin: TxBegin) -> None:
        self.begin = begin
        self._origin = EXTERNAL
        self._sql: list[bytes] = []
        self._sql_bytes = 0
        self._last_sql: bytes | None = None
        self.changes: list[RecordChange] = []
        self._pushed: dict[tuple[str, int], deque[Row]] = defaultdict(deque)
        self._redeliveries: list[Redelivery] = []
        self.is_own = False
        self.bytes = 0

    def add_changes(self, item: Changes) -> None:
        """Take what one event of a declared table makes."""
        changes, sql = item.changes, item.sql
        self.changes += changes
        for change in changes:
            self.bytes += len(change.data)
        if sql is not None and sql != self._last_sql:
            self._last_sql = sql
            if self._sql_bytes < 4 * STATEMENT_CHARACTERS_MAX:  # characters are counted at the end, if they are needed
                self._sql.append(sql[: 4 * STATEMENT_CHARACTERS_MAX])
                self._sql_bytes += len(sql)

    def add(self, rows: Rows) -> None:
        """Take the rows of one event of another table."""
        for change in rows.changes:
            if change.after is not None and change.before is None:
                self._add_note(rows.table, dict(zip(rows.columns.names, change.after, strict=True)))
        self.is_own = self.is_own or rows.table in (STATE, WATERMARKS, RETENTION)

    def take_part(self) -> PendingTx:
        """Hand over the changes so far of a tx too large to hold; its last part comes from `end`."""
        begin = self.begin
        part = self._pending((), begin.file, begin.pos, self._entries())
        self.changes, self.bytes = [], 0
        return part

    def end(self, end: TxEnd) -> PendingTx:
        """Return the finished tx."""
        entries: tuple[Entry | Redelivery, ...] = (*self._entries(), *self._redeliveries)
        is_recorded = bool(entries) or self._origin.id is not None
        return self._pending(end.gtids, end.file, end.end_pos, entries, is_recorded=is_recorded)

    def _pending(
        self, done: tuple[Gtid, ...], file: str, end_pos: int, entries: tuple[Entry | Redelivery, ...], *, is_recorded: bool = True
    ) -> PendingTx:
        begin = self.begin
        return PendingTx(
            gtid=begin.gtid,
            gtids_done=done,
            server_id=begin.server_id,
            commit_time_us=begin.commit_time_us,
            file=file,
            start_pos=begin.pos,
            end_pos=end_pos,
            origin=self._origin,
            statement=self._statement(),
            entries=entries,
            is_recorded=is_recorded,
        )

    def _statement(self) -> str | None:
        """The statements of an external tx, one below the other; of our own ones the origin says who and why."""
        if not self._sql or self._origin.id is not None:
            return None
        texts, left = [], STATEMENT_CHARACTERS_MAX
        for sql in self._sql:
            text = sql.decode("utf-8", "replace")[:left]
            if text:
                texts.append(text)
                left -= len(text)
        return ";\n".join(texts) or None

    def _add_note(self, table: str, row: Row) -> None:
        if table == ORIGINS:
            self._origin = Origin(OriginKind(row["kind"]), row["id"], row["device_id"])
        elif table == PUSHED and row["is_change"]:
            self._pushed[row["table_name"], row["record_id"]].append(row)
        elif table == REDELIVERIES:
            self._redeliveries.append(Redelivery(row["company_id"], row["device_id"], row["table_name"], row["record_id"]))

    def _entries(self) -> tuple[Entry, ...]:
        """Join the n-th change of a record with the n-th pushed change of it; with none left, it is nobody's exact own."""
        if not self._pushed:
            return tuple(map(_new, repeat(Entry), zip(self.changes, repeat(None), repeat(None))))
        return tuple(map(self._entry, self.changes))

    def _entry(self, change: RecordChange) -> Entry:
        pushed = self._pushed.get((change.table, change.record_id))
        if not pushed:
            return Entry(change)
        row = pushed.popleft()
        maker = (row["device_id"], row["local_id"]) if row["is_maker"] else None
        return Entry(change, _exact_after(row) if row["is_exact"] else None, maker)


def _exact_after(pushed: Row) -> int:
    """Up to which version the device held the record; a push of before sql/0008 does not say, and is believed."""
    held: int | None = pushed.get("held_version")
    return ID_MAX if held is None else held
