"""What waits for the outcome of an XA transaction: its row events as they came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from cdc.events import RawEvent
from cdc.gtid import Gtid
from cdc.table_map import TableMap

XA_HELD_BYTES_MAX: Final = 64 * 1024 * 1024
"""Row events of XA transactions that may wait for their outcome, together."""


class HeldRows(NamedTuple):
    """A row event whose transaction has no outcome yet: not decoded, which would cost ten times its bytes."""

    table: TableMap
    event: RawEvent
    statement: bytes | None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A transaction after its XA PREPARE, whose GTID is `gtid`."""

    gtid: Gtid
    held: list[HeldRows]
    held_bytes: int
