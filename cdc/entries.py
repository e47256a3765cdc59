"""What the change log is about to hold: changes with all that their tx says of them, but no version yet."""

from __future__ import annotations

from typing import NamedTuple

from cdc.gtid import Gtid
from schema.changes import Origin, RecordChange


class Entry(NamedTuple):
    """One change of a tx. `maker` is (device_id, local_id) where this tx made the record for a device.

    `exact_after`: the row is stored exactly as the origin's device sent it (contract §1.3), which surely held the record as it was
    up to this version; None where it is not. After a newer version the device may still be given that one, and then needs this too.
    """

    change: RecordChange
    exact_after: int | None = None
    maker: tuple[str, str] | None = None


class Redelivery(NamedTuple):
    """A device asked to be given a record again as it stands (contract §2.6)."""

    company_id: int
    device_id: str
    table: str
    record_id: int


class PendingTx(NamedTuple):
    """A committed tx, or the next part of one too large for memory. `gtids_done` join the checkpoint with it.

    `is_recorded`: it stands in sync_tx even without a change, since an API request waits for it.
    """

    gtid: Gtid
    gtids_done: tuple[Gtid, ...]
    server_id: int
    commit_time_us: int
    file: str
    start_pos: int
    end_pos: int
    origin: Origin
    statement: str | None
    entries: tuple[Entry | Redelivery, ...]
    is_recorded: bool
