"""Was this very change sent before, and what became of it? A retry has no second effect, and meets the same verdict, whatever the
device was given since (contract §3, Identity and retries).

A fingerprint alone does not tell a retry: an app whose clock shows whole seconds may set a value, take it back, and set it again,
all with one timestamp. So where the device changed the record after the earlier try, this is that try again only if the clock had
moved on in between, or if this push repeats what came after it as well.
"""

from __future__ import annotations

from enum import StrEnum

from api.push_context import PushContext
from api.push_request import PushedChange
from api.push_rows import target_id
from api.verdicts import Status
from schema.tables import Table


class Earlier(StrEnum):
    """What became of this very change when it was sent before."""

    NEVER = "never"
    APPLIED = "applied"
    MERGED = "merged"
    REFUSED = "refused"


def read_earlier(context: PushContext, table: Table, change: PushedChange, record_id: int) -> Earlier:
    """Return what became of the change. Without a timestamp nothing tells a retry from the same edit made again."""
    if change.timestamp is None or context.rows.said(table, record_id):
        return Earlier.NEVER
    key = (table.name, record_id)
    for earlier in context.past.tries.get((key, change.fingerprint), ()):
        if earlier.status == Status.CONFLICT and earlier.code == "changed":
            return Earlier.REFUSED
        if earlier.is_change:
            later = context.past.later_than(key, earlier.id)
            is_past = all(other.edited_at_us is not None and other.edited_at_us > (earlier.edited_at_us or 0) for other in later)
            if is_past or _repeats(context, table, change, record_id, [bytes(other.fingerprint) for other in later]):
                return Earlier.MERGED if earlier.status == Status.MERGED else Earlier.APPLIED
    return Earlier.NEVER


def _repeats(context: PushContext, table: Table, change: PushedChange, record_id: int, later: list[bytes]) -> bool:
    """Whether this push goes on as the device went on after the earlier try."""
    records = context.rows.references.records
    following = [
        other.fingerprint
        for other in context.changes
        if other.seq > change.seq and other.table == table.name and target_id(other, records) == record_id
    ]
    return following[: len(later)] == later
