"""The rows of the change log that a tx of the binlog makes, as far as the binlog alone tells: version, prev_version and an
inherited maker come from the change log itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cdc.entries import Entry, PendingTx, Redelivery
from cdc.lineage import Ancestor
from cdc.log import ChangeRow
from cdc.stored import RecordKey, TxRow
from schema.values import rfc3339_from_us
from schema.versions import epoch_of


def record_of(entry: Entry | Redelivery) -> RecordKey:
    """The record an entry is of."""
    if isinstance(entry, Redelivery):
        return entry.company_id, entry.table, entry.record_id
    return entry.change.company_id, entry.change.table, entry.change.record_id


def kept_redeliveries(entries: Sequence[Entry | Redelivery]) -> list[Redelivery]:
    """Those of a part that can become changes: one of a record that the same part changes has nothing older to repeat."""
    changed = {record_of(entry) for entry in entries if isinstance(entry, Entry)}
    return [entry for entry in entries if isinstance(entry, Redelivery) and record_of(entry) not in changed]


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


def inherited_columns(entry: Entry | Redelivery, ancestor: Ancestor | None) -> dict[str, Any]:
    """Fields that the record's change before tells."""
    inherited: dict[str, Any] = {"prev_version": ancestor.version if ancestor else None}
    if isinstance(entry, Redelivery) or entry.maker is None:
        maker = ancestor.maker if ancestor else None
        inherited["device_id"], inherited["local_id"] = maker or (None, None)
    return inherited


def complete_row(version: int, told: dict[str, Any], inherited: dict[str, Any]) -> ChangeRow:
    """The whole row; for a redelivery `told` needs operation, data and sealed of the change it repeats."""
    return ChangeRow(version=version, **told, **inherited)


def told_tx_columns(tx: PendingTx) -> dict[str, Any]:
    """Fields of TxRow that must be as the binlog tells. File and position are those of the server that was read from then."""
    told = {
        "server_id": tx.server_id,
        "commit_time_us": tx.commit_time_us,
        "origin": tx.origin.kind.value,
        "origin_id": tx.origin.id,
    }
    if tx.statement is not None:
        told["statement"] = tx.statement
    return told


def complete_tx(tx: PendingTx, number: int, head_before: int, count: int) -> TxRow:
    """The whole row of sync_tx of a tx that has `count` versions after `head_before`."""
    return TxRow(
        tx=number,
        epoch=epoch_of(head_before),
        gtid=str(tx.gtid),
        server_id=tx.server_id,
        commit_time_us=tx.commit_time_us,
        file=tx.file,
        pos=tx.start_pos,
        origin=tx.origin.kind.value,
        origin_id=tx.origin.id,
        first_version=head_before + 1 if count else None,
        last_version=head_before + count,
        statement=tx.statement,
    )
