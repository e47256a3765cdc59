"""What a row of sync_changes holds, and where each column comes from: the tx, the entry, or the record's change before."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple, Protocol

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


class ChangeRow(NamedTuple):
    """A row of sync_changes but for its chain hash, its columns in the table's order."""

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

    def chained(self, chain: bytes) -> bytes:
        """Return the chain hash of this row after the row whose hash is `chain`."""
        return hashlib.sha256(chain + orjson.dumps(tuple(self))).digest()


class TxColumns(NamedTuple):
    """What a tx tells of each of its rows, made once for all of them."""

    timestamp: str
    tx: int
    origin: str
    origin_id: int | None
    origin_device_id: str | None


class Image(NamedTuple):
    """What a redelivery repeats of an older change."""

    operation: str
    data: str
    sealed: str | None


INHERITED = frozenset({"prev_version", "device_id", "local_id", "is_exact"})
"""Fields that the record's change before tells; of a record that this very tx made, the maker is told by the entry, and of a change
that is not as it was sent, that it is not exact.
"""
_MAKER, _IS_EXACT = frozenset({"device_id", "local_id"}), frozenset({"is_exact"})
REPEATED = frozenset(Image._fields)


def record_of(entry: Entry | Redelivery) -> RecordKey:
    """The record an entry is of."""
    if isinstance(entry, Redelivery):
        return entry.company_id, entry.table, entry.record_id
    company_id, table, record_id, *_ = entry.change
    return company_id, table, record_id


def tx_columns(tx: PendingTx, number: int) -> TxColumns:
    """`number` is the tx's own."""
    origin = tx.origin
    return TxColumns(rfc3339_from_us(tx.commit_time_us), number, origin.kind.value, origin.id, origin.device_id)


def row_of_entry(tx: TxColumns, entry: Entry, version: int, older: Older | None) -> ChangeRow:
    """The row of a change; `older` is the record's change before it, if there is one."""
    maker = entry.maker
    if older is None:
        return row_of_change(tx, entry, version, None, maker)
    return row_of_change(tx, entry, version, older.version, maker or older.maker)


def row_of_change(tx: TxColumns, entry: Entry, version: int, previous: int | None, maker: tuple[str, str] | None) -> ChangeRow:
    """The row of a change of a record; `previous` is its version before, `maker` who made it."""
    change, exact_after, _ = entry
    company_id, table, record_id, operation, data, sealed, before, _ = change
    timestamp, number, origin, origin_id, origin_device_id = tx
    device_id, local_id = maker or (None, None)
    is_exact = exact_after is not None and (previous is None or previous <= exact_after)
    row = (
        company_id, version, table, record_id, operation._value_, data, sealed, before,
        timestamp, number, origin, origin_id, origin_device_id, is_exact, device_id, local_id, None, previous,
    )  # fmt: skip
    return tuple.__new__(ChangeRow, row)  # half the time of ChangeRow(…), a function in Python


def row_again(tx: TxColumns, redelivery: Redelivery, version: int, older: Older | None, image: Image) -> ChangeRow:
    """The row of a redelivery: an older image under a new version, for one device."""
    device_id, local_id = (older.maker if older else None) or (None, None)
    return ChangeRow(
        redelivery.company_id, version, redelivery.table, redelivery.record_id, image.operation, image.data, image.sealed, None,
        tx.timestamp, tx.tx, tx.origin, tx.origin_id, tx.origin_device_id, False, device_id, local_id,
        redelivery.device_id, older.version if older else None,
    )  # fmt: skip


def told_columns(row: ChangeRow, entry: Entry | Redelivery, *, with_inherited: bool) -> dict[str, Any]:
    """Those fields of the row of an entry that are known: what the binlog tells, and with its older change what that tells."""
    columns = row._asdict()
    del columns["version"]
    unknown: frozenset[str] = REPEATED if isinstance(entry, Redelivery) else frozenset()
    if not with_inherited:
        unknown |= INHERITED - _told_by(entry)
    return {name: value for name, value in columns.items() if name not in unknown}


def _told_by(entry: Entry | Redelivery) -> frozenset[str]:
    """Which of the inherited fields the entry tells by itself."""
    if isinstance(entry, Redelivery):
        return _IS_EXACT
    maker: frozenset[str] = _MAKER if entry.maker is not None else frozenset()
    return maker | _IS_EXACT if entry.exact_after is None else maker
