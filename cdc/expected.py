"""The rows of the change log that a tx of the binlog makes, as far as the binlog alone tells: version, prev_version and an
inherited maker come from the change log itself.
"""

from __future__ import annotations

from typing import Any

from cdc.entries import PendingTx
from cdc.stored import TxRow
from schema.versions import epoch_of


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
