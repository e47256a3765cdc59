"""Which rows are touched by transactions that the server has and the checkpoint lacks.

The binlog itself is asked, so it makes no difference whether a tailer runs.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from cdc.gtid import GtidSet
from cdc.items import Rows
from cdc.span import open_source
from cdc.tx import assemble
from schema.errors import Halt
from schema.settings import MySQLAddress

RecordId = tuple[str, int]
"""Table and id; in whatever company."""


@dataclass(frozen=True, slots=True)
class Unread:
    """`touched` are those of the asked records. `halt`: the binlog could not be read to its end, so there may be more."""

    touched: set[RecordId] = field(default_factory=set)
    halt: Halt | None = None


def read_unread(address: MySQLAddress, checkpoint: GtidSet, asked: AbstractSet[RecordId]) -> Unread:
    """Read from a checkpoint to the binlog's present end.

    Whatever a SELECT that ended before has seen is in there or in the checkpoint: a transaction is in the binlog before it is
    visible. Raises Retry when the connection breaks.
    """
    tables = {table for table, _ in asked}
    unread = Unread()
    source = open_source(address, checkpoint)
    try:
        for item in assemble(source.events(), address.database, lambda _, table: table in tables):
            if isinstance(item, Rows):
                place = item.columns.index["id"]
                for change in item.changes:
                    unread.touched.update(
                        (item.table, image[place])  # type: ignore[misc]
                        for image in (change.before, change.after)
                        if image is not None and (item.table, image[place]) in asked
                    )
    except Halt as halt:
        return Unread(unread.touched, halt)
    finally:
        source.close()
    return unread
