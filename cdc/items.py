"""What a stream of binlog events becomes: transactions begin, have rows and definitions in them, and end."""

from __future__ import annotations

from typing import NamedTuple

from cdc.decode import RowChange
from cdc.gtid import Gtid
from cdc.table_map import TableMap
from schema.changes import RecordChange


class TxBegin(NamedTuple):
    """A transaction's GTID event at `file`:`pos`. `commit_time_us` is Unix time in µs, of the first server's commit."""

    gtid: Gtid
    server_id: int
    commit_time_us: int
    file: str
    pos: int


class Rows(NamedTuple):
    """Changes of one row event. `statement` is the SQL text where the server logs it (binlog_rows_query_log_events)."""

    table: str
    columns: TableMap
    statement: str | None
    changes: list[RowChange]


class Changes(NamedTuple):
    """What one row event of a declared table makes. `sql` is the statement's text in UTF-8, where the server logs it."""

    table: str
    sql: bytes | None
    changes: list[RecordChange]


class Ddl(NamedTuple):
    """A statement that changed definitions, accounts or nothing. `schema` is the session's default one; `schemas` those
    it may concern: as the server says (for TRUNCATE it says nothing: the default one) and ours if the text names it."""

    schema: str
    sql: str
    schemas: frozenset[str]
    sql_mode: int = 0


class TxEnd(NamedTuple):
    """The end of transaction `gtid`. `gtids` are those that are done with it and may join the checkpoint: none for an XA
    PREPARE, both with its COMMIT or ROLLBACK. `is_last_buffered`: the stream has no more right now, so flush.
    `is_checkpoint`: it wrote nothing but a checkpoint, of this database or of another one on this server."""

    gtid: Gtid
    file: str
    end_pos: int
    gtids: tuple[Gtid, ...]
    is_last_buffered: bool
    is_checkpoint: bool = False


class Heartbeat(NamedTuple):
    """The server lives and has nothing (more) to send. Comes between transactions or inside one."""

    file: str
    pos: int


Item = TxBegin | Rows | Changes | Ddl | TxEnd | Heartbeat
