"""What a row of sync_changes holds, and where each column comes from: the tx, or the record's change before."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from cdc.entries import Entry, PendingTx, Redelivery
from schema.values import rfc3339_from_us

RecordKey = tuple[int, str, int]
"""company_id, table, record_id."""


class Older(Protocol):
    """The record's change before: its version and (device_id, local_id) of the device that made the record."""

    @property
    def version(self) -> int: ...

    @property
    def maker(self) -> tuple[str, str] | None: ...


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """A row of sync_changes but for its chain hash."""

    company_id: int
    version: int
    table: str
    record_id: int
    operation: str
    data: str
    sealed: str | None
    before: str | None
    timestamp: str
    tx: int
    origin: str
    origin_id: int | None
    origin_device_id: str | None
    is_exact: bool
    device_id: str | None
    local_id: str | None
    for_device: str | None
    prev_version: int | None

    def values(self) -> tuple[Any, ...]:
        """The columns in the table's order."""
        return tuple(getattr(self, name) for name in self.__slots__)

    def chained(self, chain: bytes) -> bytes:
        """Return the chain hash of this row after the row whose hash is `chain`."""
        return hashlib.sha256(chain + orjson.dumps(self.values())).digest()


def record_of(entry: Entry | Redelivery) -> RecordKey:
    """The record an entry is of."""
    if isinstance(entry, Redelivery):
        return entry.company_id, entry.table, entry.record_id
    return entry.change.company_id, entry.change.table, entry.change.record_id


def told_columns(tx: PendingTx, number: int, entry: Entry | Redelivery) -> dict[str, Any]:
    """Fields of ChangeRow that the binlog tells; `number` is the tx's own. A redelivery's content is an older change's."""
    company_id, table, record_id = record_of(entry)
    told = {
        "company_id": company_id,
        "table": table,
        "record_id": record_id,
        "timestamp": rfc3339_from_us(tx.commit_time_us),
        "tx": number,
        "origin": tx.origin.kind.value,
        "origin_id": tx.origin.id,
        "origin_device_id": tx.origin.device_id,
    }
    if isinstance(entry, Redelivery):
        return {**told, "before": None, "is_exact": False, "for_device": entry.device_id}
    change = entry.change
    told |= {
        "operation": change.operation.value,
        "data": change.data,
        "sealed": change.sealed,
        "before": change.before,
        "is_exact": entry.is_exact,
        "for_device": None,
    }
    if entry.maker is not None:
        told["device_id"], told["local_id"] = entry.maker
    return told


def inherited_columns(entry: Entry | Redelivery, ancestor: Older | None) -> dict[str, Any]:
    """Fields that the record's change before tells."""
    inherited: dict[str, Any] = {"prev_version": ancestor.version if ancestor else None}
    if isinstance(entry, Redelivery) or entry.maker is None:
        maker = ancestor.maker if ancestor else None
        inherited["device_id"], inherited["local_id"] = maker or (None, None)
    return inherited


def complete_row(version: int, told: dict[str, Any], inherited: dict[str, Any]) -> ChangeRow:
    """The whole row; for a redelivery `told` needs operation, data and sealed of the change it repeats."""
    return ChangeRow(version=version, **told, **inherited)
