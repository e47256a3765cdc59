"""A past stretch of binlog, read again with the tailer's own code: what each transaction makes, with nothing written.

`binlog show` prints it, `replay` compares it with the change log.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cdc.builder import TxBuilder, is_wanted
from cdc.entries import PendingTx
from cdc.items import Changes, Ddl, Item, Rows, TxBegin, TxEnd
from cdc.span import Span, open_source
from cdc.tx import assemble
from schema.errors import Halt
from schema.settings import MySQLAddress, Settings
from schema.tables import TABLES


@dataclass(frozen=True, slots=True)
class Part:
    """A transaction, or the next part of a large one. `ddl` are its statements that change definitions."""

    tx: PendingTx
    is_first: bool
    is_last: bool
    ddl: tuple[Ddl, ...] = ()


def read_parts(address: MySQLAddress, settings: Settings, span: Span) -> Iterator[Part]:
    """Every transaction of the span in binlog order, in parts as large as the tailer's.

    Raises Halt where the tailer would, and Retry when the connection breaks.
    """
    source = open_source(address, span.start)
    try:
        reader = _Reader(settings)
        for item in assemble(source.events(), address.database, is_wanted, declared=TABLES):
            if isinstance(item, TxBegin) and span.is_over(item.file, item.pos):
                return
            yield from reader.take(item)
    except Halt as halt:
        if halt.code == "xa_unknown":  # for the tailer it is lost, here it only is before the place that was asked for
            halt.hint = "begin --from before its XA PREPARE"
        raise
    finally:
        source.close()


class _Reader:
    def __init__(self, settings: Settings) -> None:
        self._changes_max = settings.tailer_part_changes_max
        self._bytes_max = 2 * settings.tailer_batch_bytes_max
        self._tx: TxBuilder | None = None
        self._is_first = True
        self._ddl: list[Ddl] = []

    def take(self, item: Item) -> Iterator[Part]:
        match item:
            case TxBegin():
                self._tx, self._is_first, self._ddl = TxBuilder(item), True, []
            case Rows():
                self._open().add(item)
            case Changes():
                tx = self._open()
                tx.add_changes(item)
                if len(tx.changes) >= self._changes_max or tx.bytes >= self._bytes_max:
                    yield Part(tx.take_part(), self._is_first, is_last=False)
                    self._is_first = False
            case Ddl():
                self._ddl.append(item)
            case TxEnd():
                tx, self._tx = self._open(), None
                yield Part(tx.end(item), self._is_first, is_last=True, ddl=tuple(self._ddl))

    def _open(self) -> TxBuilder:
        if self._tx is None:
            raise Halt("tx_incomplete", "an item of a transaction came before its GTID", hint="begin at another place")
        return self._tx
