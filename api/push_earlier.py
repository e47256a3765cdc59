"""Was this very change sent before, and what became of it? A retry has no second effect, and meets the same verdict, whatever the
device was given since (contract §3, Identity and retries).

A fingerprint alone does not tell a retry: an app whose clock shows whole seconds may set a value, take it back, and set it again,
all with one timestamp. So where the device changed the record after the earlier try, this is that try again only if the clock had
moved on in between, or if this push repeats what came after it as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from api.exactness import is_equal
from api.push_context import PushContext, cleaned_data
from api.push_request import PushedChange
from api.push_rows import Row, target_id
from api.verdicts import Refused, Status, Verdict
from schema.changes import Operation
from schema.tables import WRITER_COLUMN, Table


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


def taken_before(context: PushContext, table: Table, change: PushedChange) -> Verdict | None:
    """Return the verdict of a change that took effect when it was sent before, though this user may not make it any more."""
    record_id = target_id(change, context.rows.references.records)
    row = context.rows.get(table, record_id)
    if row is None or record_id is None:
        return None
    earlier = read_earlier(context, table, change, record_id)
    is_first = change.operation == Operation.INSERT and _is_first_sent_again(context, table, change, record_id)
    if earlier not in (Earlier.APPLIED, Earlier.MERGED) and not is_first:
        return None
    if change.operation == Operation.INSERT:
        status = Status.DUPLICATE
    else:
        status = Status.MERGED if earlier is Earlier.MERGED else Status.NOOP
    return Verdict(change, status, record_id=record_id, values=change.data, is_told=table.name in context.scope.readable)


def _is_first_sent_again(context: PushContext, table: Table, change: PushedChange, record_id: int) -> bool:
    try:
        cleaned = cleaned_data(context, table, change, is_insert=True, record_id=record_id)
    except Refused:
        return False
    return is_first_sent(context, table, record_id, without_writer(cleaned.values))


def is_first_sent(context: PushContext, table: Table, record_id: int, sent: Row) -> bool:
    """Whether this is what this device sent when it made the record: in this very push, or in an earlier one."""
    first: Mapping[str, Any] | None = context.rows.first_said(table, record_id)
    if first is None:
        first = context.past.first_sent.get((table.name, record_id))
    return first is not None and is_equal(table, without_writer(first), sent)


def without_writer(values: Mapping[str, Any]) -> Row:
    """Who wrote a row is the server's word, not the device's."""
    return {name: value for name, value in values.items() if name != WRITER_COLUMN}


def _repeats(context: PushContext, table: Table, change: PushedChange, record_id: int, later: list[bytes]) -> bool:
    """Whether this push goes on as the device went on after the earlier try."""
    records = context.rows.references.records
    following = [
        other.fingerprint
        for other in context.changes
        if other.seq > change.seq and other.table == table.name and target_id(other, records) == record_id
    ]
    return following[: len(later)] == later
