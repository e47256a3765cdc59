"""`matrix-sync binlog show`: transactions and changes of a stretch of binlog, as the tailer makes them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import click
import orjson
from pymysql.connections import Connection
from pymysql.cursors import DictCursor
from rich.console import Console
from rich.text import Text

from cdc.ddl import touched_tables
from cdc.entries import Entry, PendingTx, Redelivery
from cdc.reread import Part, read_parts
from cdc.span import resolve
from cli.output import (
    MASKED,
    OPERATION_STYLES,
    Command,
    changed_values,
    console,
    from_option,
    one_line,
    print_json,
    printable,
    sealed_option,
    session,
    to_option,
)
from schema.changes import RecordChange
from schema.settings import MySQLAddress, Settings
from schema.tables import TABLES
from schema.values import rfc3339_from_us

_READ_ORIGIN = """
SELECT kind, company_id, device_id, user_id, login_id, request_id, push_id FROM sync_origins WHERE id = %s
"""


@click.group()
def binlog() -> None:
    """Look into MySQL's binlog."""


@binlog.command(cls=Command)
@from_option
@to_option
@click.option("--table", type=click.Choice(list(TABLES)), metavar="TABLE", help="Only changes of this table.")
@sealed_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line: each transaction, then its changes.")
def show(start: str, end: str | None, table: str | None, sealed: bool, as_json: bool) -> None:
    """Print transactions and the changes that the tailer makes of them. Writes nothing.

    FILE:POS must be the start of a transaction, as SHOW BINLOG EVENTS gives it.
    """
    settings = Settings.load()
    address = settings.operator()
    with session(address) as connection:
        span = resolve(connection, address, start, end)
        printer = _JsonPrinter(sealed=sealed) if as_json else _TextPrinter(console(), sealed=sealed)
        viewer = _Viewer(connection, address, table, printer)
        for part in read_parts(address, settings, span):
            viewer.show(part)
        printer.end(viewer.shown, viewer.hidden)


class _Viewer:
    """Picks what is shown of each transaction; its head comes with the first thing worth showing."""

    def __init__(self, connection: Connection[Any], address: MySQLAddress, table: str | None, printer: _Printer) -> None:
        self._connection = connection
        self._database = address.database
        self._tables = {table} if table else set(TABLES)
        self._printer = printer
        self._is_open = False
        self.shown = 0
        self.hidden = 0

    def show(self, part: Part) -> None:
        if part.is_first:
            self._is_open = False
        entries = [entry for entry in part.tx.entries if _table_of(entry) in self._tables]
        ddl = [ddl.sql for ddl in part.ddl if self._tables.intersection(touched_tables(ddl, self._database))]
        if (entries or ddl) and not self._is_open:
            self._is_open = True
            self._printer.head(part.tx, self._origin(part.tx), [*self._statement(part.tx), *ddl])
        for entry in entries:
            if isinstance(entry, Redelivery):
                self._printer.redelivery(part.tx, entry)
            else:
                self._printer.change(part.tx, entry)
        if part.is_last:
            self.shown += self._is_open
            self.hidden += not self._is_open

    def _statement(self, tx: PendingTx) -> list[str]:
        """The SQL text, which may hold what the restricted columns hold."""
        if tx.statement is None:
            return []
        is_restricted = any(isinstance(entry, Entry) and entry.change.sealed for entry in tx.entries)
        return [MASKED if is_restricted and not self._printer.sealed else tx.statement]

    def _origin(self, tx: PendingTx) -> dict[str, Any]:
        """The sync_origins row: user and request are there, and not in the changes."""
        found: dict[str, Any] | None = None
        if tx.origin.id is not None:
            with self._connection.cursor(DictCursor) as cursor:
                cursor.execute(_READ_ORIGIN, (tx.origin.id,))
                found = cursor.fetchone()
        return {"kind": tx.origin.kind.value, "id": tx.origin.id, "device_id": tx.origin.device_id, **(found or {})}


class _Printer(ABC):
    """What a form of output prints."""

    def __init__(self, *, sealed: bool) -> None:
        self.sealed = sealed

    @abstractmethod
    def head(self, tx: PendingTx, origin: dict[str, Any], statements: list[str]) -> None:
        """A transaction begins."""

    @abstractmethod
    def change(self, tx: PendingTx, entry: Entry) -> None:
        """One of its changes."""

    @abstractmethod
    def redelivery(self, tx: PendingTx, entry: Redelivery) -> None:
        """A record that a device is given again."""

    @abstractmethod
    def end(self, shown: int, hidden: int) -> None:
        """The span is over."""


class _JsonPrinter(_Printer):
    def head(self, tx: PendingTx, origin: dict[str, Any], statements: list[str]) -> None:
        print_json(
            {
                "type": "tx",
                "gtid": str(tx.gtid),
                "commit_time": rfc3339_from_us(tx.commit_time_us),
                "server_id": tx.server_id,
                "file": tx.file,
                "pos": tx.start_pos,
                "origin": origin,
                "statements": statements,
            }
        )

    def change(self, tx: PendingTx, entry: Entry) -> None:
        change = entry.change
        line = {
            "type": "change",
            "gtid": str(tx.gtid),
            "operation": change.operation.value,
            "table": change.table,
            "record_id": change.record_id,
            "company_id": change.company_id,
            "data": orjson.Fragment(change.data),
            "before": orjson.Fragment(change.before) if change.before else None,
            "exact_after": entry.exact_after,
            "device_id": entry.maker[0] if entry.maker else None,
            "local_id": entry.maker[1] if entry.maker else None,
        }
        if self.sealed:
            line["sealed"] = orjson.Fragment(change.sealed) if change.sealed else None
        print_json(line)

    def redelivery(self, tx: PendingTx, entry: Redelivery) -> None:
        print_json(
            {
                "type": "redelivery",
                "gtid": str(tx.gtid),
                "table": entry.table,
                "record_id": entry.record_id,
                "company_id": entry.company_id,
                "for_device": entry.device_id,
            }
        )

    def end(self, shown: int, hidden: int) -> None:
        """Nothing more: a program counts for itself."""


class _TextPrinter(_Printer):
    def __init__(self, out: Console, *, sealed: bool) -> None:
        super().__init__(sealed=sealed)
        self._out = out

    def head(self, tx: PendingTx, origin: dict[str, Any], statements: list[str]) -> None:
        self._out.print(
            Text.assemble(
                (rfc3339_from_us(tx.commit_time_us), "bold"),
                "  ",
                (str(tx.gtid), "cyan"),
                f"  server {tx.server_id}  {tx.file}:{tx.start_pos}  ",
                (_who(origin), "magenta"),
            )
        )
        for sql in statements:
            self._out.print(Text(f"  {one_line(sql)}", style="dim"))

    def change(self, tx: PendingTx, entry: Entry) -> None:
        change = entry.change
        line = Text.assemble(
            "  ",
            (f"{change.operation.value:6}", OPERATION_STYLES[change.operation.value]),
            f" {change.table} {change.record_id}  company {change.company_id}",
        )
        if entry.maker:
            line.append(f"  made by {printable(entry.maker[0])} as {printable(entry.maker[1])}", style="dim")
        self._out.print(line)
        for text in self._values(change):
            self._out.print(Text("         ").append_text(text))

    def _values(self, change: RecordChange) -> list[Text]:
        """What changed, or the whole row where it came or went."""
        data, before = orjson.loads(change.data), orjson.loads(change.before or "{}")
        lines = list(changed_values(before, data)) if before else [Text(printable(change.data))]
        if change.sealed:
            lines.append(Text(f"restricted: {printable(change.sealed) if self.sealed else MASKED}", style="dim"))
        return lines

    def redelivery(self, tx: PendingTx, entry: Redelivery) -> None:
        what = f"  again  {entry.table} {entry.record_id}  company {entry.company_id}  for {printable(entry.device_id)}"
        self._out.print(Text(what, style="blue"))

    def end(self, shown: int, hidden: int) -> None:
        self._out.print(Text(f"{shown} transactions; {hidden} others changed nothing that is shown", style="dim"))


def _table_of(entry: Entry | Redelivery) -> str:
    return entry.change.table if isinstance(entry, Entry) else entry.table


def _who(origin: dict[str, Any]) -> str:
    names = {"device_id": "device", "user_id": "user", "request_id": "request", "push_id": "push"}
    told = [f"{word} {printable(str(origin[name]))}" for name, word in names.items() if origin.get(name) is not None]
    return ", ".join([str(origin["kind"]), *told])
