"""The events of a binlog as transactions: begin, the rows that are wanted, end. Nothing is skipped in silence.

Every GTID gives a TxBegin and a TxEnd, also when nothing in it is wanted, so that the checkpoint moves. Rows come out as
they are read, so a transaction of any size needs the memory of one event; whoever takes them must not show them before
the TxEnd. Rows of an XA transaction wait here for its outcome. Tables that are not wanted are never decoded.

What the items become is `tailer.py` and `derive.py`; whether a DDL matters, too.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from cdc import events as e
from cdc.change_reader import read_changes
from cdc.decode import decode_rows, ends_statement, table_id
from cdc.events import RawEvent
from cdc.gtid import Gtid
from cdc.gtid_event import parse_gtid_event
from cdc.held_rows import XA_HELD_BYTES_MAX, HeldRows, Prepared
from cdc.items import Changes, Ddl, Heartbeat, Item, Rows, TxBegin, TxEnd
from cdc.query_event import Query, Statement, parse_query
from cdc.table_map import TableMap, parse_table_map, read_table_name
from schema.errors import Halt
from schema.tables import Table

TABLE_MAPS_MAX: Final = 2_000
"""Table maps remembered by their bytes; more tables than that cost a parse again."""
CHECKPOINT_TABLE: Final = "sync_state"
_NO_TABLE: Final = b"\xff\xff\xff\0\0\0"
"""The table id of a row event without rows that only ends a statement."""


def assemble(
    events: Iterable[RawEvent],
    database: str,
    tables_wanted: Callable[[str, str], bool],
    is_drained: Callable[[], bool] = lambda: False,
    declared: Mapping[str, Table] = MappingProxyType({}),
) -> Iterator[Item]:
    """Transactions of a stream that starts between two of them.

    `tables_wanted(schema, table)` is asked once for each form of a table; only tables of `database` are asked about. Rows of the
    `declared` ones come as Changes.
    Raises Halt with `gtid`, `file` and `pos` in its details; what `events` raises comes through.
    """
    assembler = TxAssembler(database, tables_wanted, is_drained, declared)
    feed = assembler.feed
    for event in events:
        items = feed(event)
        if items:
            yield from items


class TxAssembler:
    """The state between events. One stream, one assembler: a new connection starts with a new one."""

    def __init__(
        self,
        database: str,
        tables_wanted: Callable[[str, str], bool],
        is_drained: Callable[[], bool] = lambda: False,
        declared: Mapping[str, Table] = MappingProxyType({}),
    ) -> None:
        self._database = database
        self._tables_wanted = tables_wanted
        self._is_drained = is_drained
        self._declared = declared
        self._known_maps: dict[bytes, tuple[TableMap | None, bool]] = {}
        """By the bytes after the table id: the map of a wanted table, and whether it is one that holds a checkpoint."""
        self._prepared: dict[str, Prepared] = {}
        self._commit_time_us = 0
        self._handlers: dict[int, Callable[[RawEvent], Iterable[Item]]] = {
            e.GTID: self._begin,
            e.GTID_TAGGED: self._begin,
            e.ANONYMOUS_GTID: self._refuse_anonymous,
            e.QUERY: self._query,
            e.EXECUTE_LOAD_QUERY: self._query,
            e.TABLE_MAP: self._table_map,
            e.ROWS_QUERY: self._rows_query,
            e.XID: self._commit,
            e.XA_PREPARE: self._xa_prepare,
            e.INCIDENT: self._refuse_incident,
            e.HEARTBEAT: self._heartbeat,
            e.HEARTBEAT_V2: self._heartbeat,
            **dict.fromkeys(e.ROWS_EVENTS, self._rows),
            **dict.fromkeys((e.ROTATE, e.STOP, e.FORMAT_DESCRIPTION, e.PREVIOUS_GTIDS), self._file_boundary),
            **dict.fromkeys(e.WITHOUT_MEANING, _nothing),
        }
        self._reset()

    def _reset(self) -> None:
        self._gtid: Gtid | None = None
        self._is_open = False
        self._xid: str | None = None
        self._held: list[HeldRows] = []
        self._held_bytes = 0
        self._statement: bytes | None = None
        self._maps: dict[bytes, TableMap | None] = {}
        self._rows_given = 0
        self._savepoints: dict[str, int] = {}
        self._tables_seen = self._checkpoints_seen = 0

    def feed(self, event: RawEvent) -> Iterable[Item]:
        """The items that one event completes. Raises Halt."""
        try:
            handler = self._handlers.get(event.type)
            if handler is None:
                return self._unknown(event)
            return handler(event)
        except Halt as halt:
            halt.details = {**self._place(event), **halt.details}
            raise
        except (ValueError, IndexError, struct.error) as problem:
            raise Halt(
                "event_malformed",
                f"an event of type {event.type} cannot be read: {problem}",
                hint="mysqlbinlog --verify-binlog-checksum shows whether the file is damaged",
                details=self._place(event),
            ) from problem

    def _place(self, event: RawEvent) -> dict[str, object]:
        return {"gtid": str(self._gtid or ""), "file": event.file, "pos": event.start_pos, "event": event.type}

    def _begin(self, event: RawEvent) -> Iterable[Item]:
        if self._gtid is not None:
            raise Halt("tx_incomplete", f"transaction {self._gtid} has no end before the next one begins")
        self._gtid, self._commit_time_us = parse_gtid_event(event)
        return (TxBegin(self._gtid, event.server_id, self._commit_time_us, event.file, event.start_pos),)

    def _end(self, event: RawEvent, *gtids: Gtid) -> TxEnd:
        gtid = self._needs_gtid()
        is_checkpoint = self._tables_seen == self._checkpoints_seen > 0
        self._reset()
        return TxEnd(gtid, event.file, event.end_pos, gtids, self._is_drained(), is_checkpoint)

    def _commit(self, event: RawEvent) -> Iterable[Item]:
        return (self._end(event, self._needs_gtid()),)

    def _needs_gtid(self) -> Gtid:
        if self._gtid is None:
            raise Halt("tx_incomplete", "an event of a transaction stands before any GTID event")
        return self._gtid

    def _query(self, event: RawEvent) -> Iterable[Item]:
        gtid = self._needs_gtid()
        if event.body.endswith(b"\0BEGIN"):
            self._is_open = True
            return ()
        query = parse_query(event.body if event.type == e.QUERY else event.body[:13] + event.body[26:])
        match query.statement:
            case Statement.BEGIN:
                self._is_open = True
                return ()
            case Statement.COMMIT:
                return self._commit(event)
            case Statement.ROLLBACK:
                self._refuse_rollback(0)
                return (self._end(event, gtid),)
            case Statement.DDL:
                ddl = self._ddl(query)
                return (ddl,) if self._is_open else (ddl, self._end(event, gtid))
            case Statement.DATA:
                self._refuse_statement_format(query)
                return () if self._is_open else (self._end(event, gtid),)
            case Statement.SAVEPOINT | Statement.ROLLBACK_TO | Statement.RELEASE:
                self._savepoint(query)
                return ()
            case _:
                return self._xa_query(event, query)

    def _ddl(self, query: Query) -> Ddl:
        schemas = query.schemas or frozenset({query.schema})
        if query.names_schema(self._database):
            schemas |= {self._database}
        return Ddl(query.schema, query.sql, schemas, query.sql_mode)

    def _savepoint(self, query: Query) -> None:
        if query.statement is Statement.SAVEPOINT:
            self._savepoints[query.savepoint] = self._rows_given
        elif query.statement is Statement.ROLLBACK_TO:
            self._refuse_rollback(self._savepoints.get(query.savepoint, 0))

    def _refuse_rollback(self, rows_before: int) -> None:
        """MySQL cuts undone rows out of the binlog, but for transactions that also wrote a table without transactions."""
        if self._rows_given > rows_before:
            raise Halt(
                "rollback_logged",
                "the binlog holds rows of synced tables that were rolled back afterwards",
                hint="convert the tables that were mixed with synced ones to InnoDB, skip this event, then `matrix-sync reconcile`",
            )

    def _refuse_statement_format(self, query: Query) -> None:
        if query.may_write(self._database):
            raise Halt(
                "statement_format",
                f"a change of {self._database} was logged as a statement, without its rows",
                hint="SET PERSIST binlog_format = ROW and look for sessions that change it, skip, then `matrix-sync reconcile`",
                details={"schema": query.schema},
            )

    def _table_map(self, event: RawEvent) -> Iterable[Item]:
        body = event.body
        key = body[8:]
        try:
            found, is_checkpoint = self._known_maps[key]
        except KeyError:
            schema, table = read_table_name(body)
            is_wanted = schema == self._database and self._tables_wanted(schema, table)
            if len(self._known_maps) >= TABLE_MAPS_MAX:
                self._known_maps.clear()
            found, is_checkpoint = parse_table_map(body) if is_wanted else None, table == CHECKPOINT_TABLE
            if found is not None and table in self._declared:
                found.declare(self._declared[table])
            self._known_maps[key] = found, is_checkpoint
        self._maps[body[:6]] = found
        self._tables_seen += 1
        self._checkpoints_seen += is_checkpoint
        return ()

    def _rows_query(self, event: RawEvent) -> Iterable[Item]:
        self._statement = event.body[1:]  # the length byte before it wraps at 256
        return ()

    def _rows(self, event: RawEvent) -> Iterable[Item]:
        self._needs_gtid()
        body = event.body
        number = table_id(body)
        is_last = ends_statement(body)
        try:
            table = self._maps[number]
        except KeyError:
            if number == _NO_TABLE:
                return ()
            raise Halt(
                "table_map_missing",
                "rows stand in the binlog without the table map that says what they are",
                hint="start from a transaction's beginning (a GTID set), never from inside one",
            ) from None
        finally:
            if is_last:
                self._maps = {}
        if table is None:
            return ()
        if self._xid is not None:
            self._hold(HeldRows(table, event, self._statement))
            return ()
        rows = self._decoded(table, event, self._statement)
        self._rows_given += len(rows.changes)
        return (rows,)

    def _decoded(self, table: TableMap, event: RawEvent, statement: bytes | None) -> Rows | Changes:
        if table.declared is not None:
            return Changes(table.table, statement, read_changes(table, event, self._commit_time_us))
        text = statement.decode("utf-8", "replace") if statement is not None else None
        return Rows(table.table, table, text, decode_rows(table, event))

    def _hold(self, held: HeldRows) -> None:
        self._rows_given += 1
        self._held.append(held)
        self._held_bytes += len(held.event.body)
        if self._held_bytes + sum(prepared.held_bytes for prepared in self._prepared.values()) > XA_HELD_BYTES_MAX:
            raise Halt(
                "xa_too_large",
                f"XA transactions without outcome hold more than {XA_HELD_BYTES_MAX} bytes of rows",
                hint="end prepared transactions (XA RECOVER lists them), then start the tailer again",
            )

    def _xa_query(self, event: RawEvent, query: Query) -> Iterable[Item]:
        gtid = self._needs_gtid()
        if query.statement is Statement.XA_START:
            self._is_open, self._xid = True, query.xid
            return ()
        if query.statement is Statement.XA_END:
            return ()
        prepared = self._prepared.pop(query.xid, None)
        if query.statement is Statement.XA_ROLLBACK:
            return (self._end(event, *((prepared.gtid,) if prepared else ()), gtid),)
        if prepared is None:
            raise Halt(
                "xa_unknown",
                f"XA COMMIT {query.xid} ends a transaction that was prepared before the position where reading began",
                hint="skip this event, then `matrix-sync reconcile`",
            )
        return self._released(prepared.held, self._end(event, prepared.gtid, gtid), str(prepared.gtid))

    def _released(self, held: list[HeldRows], end: TxEnd, prepare: str = "") -> Iterator[Item]:
        """The rows that waited, each decoded as it is taken, and the end of the transaction that brought their outcome."""
        for table, event, statement in held:
            try:
                yield self._decoded(table, event, statement)
            except Halt as halt:
                also = {"xa_prepare": prepare} if prepare else {}  # a skip of the outcome leaves this one to be skipped too
                halt.details = {**self._place(event), "gtid": str(end.gtid), **also, **halt.details}
                raise
        yield end

    def _xa_prepare(self, event: RawEvent) -> Iterable[Item]:
        gtid = self._needs_gtid()
        if self._xid is None:
            raise Halt("tx_incomplete", "an XA PREPARE stands in a transaction without XA START")
        held = self._held
        if event.body[0]:  # XA COMMIT … ONE PHASE
            return self._released(held, self._end(event, gtid))
        self._prepared[self._xid] = Prepared(gtid, held, self._held_bytes)
        return (self._end(event),)

    def _file_boundary(self, event: RawEvent) -> Iterable[Item]:
        if self._gtid is not None and not event.flags & e.FLAG_ARTIFICIAL and event.end_pos:
            raise Halt("tx_incomplete", f"transaction {self._gtid} has no end in its binlog file")
        if event.type == e.PREVIOUS_GTIDS and self._is_drained():
            return (Heartbeat(event.file, event.end_pos),)  # a new file: what came before it is the last there is
        return ()

    def _heartbeat(self, event: RawEvent) -> Iterable[Item]:
        return (Heartbeat(event.file, event.end_pos),)

    def _refuse_anonymous(self, event: RawEvent) -> Iterable[Item]:
        raise Halt(
            "gtid_mode_off",
            "a transaction has no GTID",
            hint="SET PERSIST gtid_mode = ON (by way of OFF_PERMISSIVE and ON_PERMISSIVE), then `matrix-sync reconcile`",
        )

    def _refuse_incident(self, event: RawEvent) -> Iterable[Item]:
        reason = event.body[3:].decode("utf-8", "replace")
        raise Halt(
            "incident",
            f"the server lost events and says so: {reason[:200]}",
            hint="skip this event, then `matrix-sync reconcile`",
        )

    def _unknown(self, event: RawEvent) -> Iterable[Item]:
        if event.flags & e.FLAG_IGNORABLE:
            return ()
        raise Halt(
            "unknown_event",
            f"an event of type {event.type} is not known and not marked as ignorable",
            hint="use a version of matrix-sync that knows this server's events",
        )


def _nothing(event: RawEvent) -> Iterable[Item]:
    return ()
