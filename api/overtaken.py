"""Changes that were stored as sent, and whose row the device may hold otherwise all the same (contract §1.3, §2.6).

It may have been given the record anew while its own change was unsent. What a simple client does then is not known: it puts what it
pulls in the place of its unsent edit, or keeps that and passes over what it pulls. Neither may be left with a row that is not the
server's, though its cursor has passed it: such a change is not taken as exact, and a retry that changes nothing is told the row.
A reference sent as a number that came to another one is not exact either: a client may have meant a server id by it.

And it may yet be given what its change superseded, if it never held that: then it needs its own change after it. So a push
says up to which version its device holds the record; whether anything came between that and the change, only the tailer can tell,
which gives versions (`cdc.change_row`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from msgspec.structs import replace

from api.deliveries import NEWER_THAN_ALL
from api.push_context import PushContext
from api.verdicts import Status, Verdict
from schema.columns import Access
from schema.tables import RESERVED, TABLES
from schema.values import is_same

Key = tuple[str, int]
"""table, record_id."""


def mark_overtaken(context: PushContext, verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return the verdicts, those of overtaken records as not exact, and told where the row is not all that was sent."""
    verdicts = [replace(v, is_exact=False) if v.is_exact and _is_renumbered(v) else v for v in verdicts]
    keys = {key for verdict in verdicts if (key := _asked(verdict)) is not None}
    given = _find_given(context, keys) if keys else {}
    marked = [_marked(context, v) if _is_overtaken(v, given) else v for v in verdicts] if given else verdicts
    return [replace(v, held_version=_held_version(context, v)) if v.is_exact and not v.is_maker else v for v in marked]


def _held_version(context: PushContext, verdict: Verdict) -> int:
    """The newest version of the record before this push where the device was given it, or passed it as its own; else 0."""
    assert verdict.record_id is not None
    window, newest = context.windows[verdict.change.table], context.past.of(verdict.change.table, verdict.record_id).newest
    return newest if newest is not None and window and newest <= window[0] else 0


def _is_renumbered(verdict: Verdict) -> bool:
    data, values = verdict.change.data, verdict.values
    columns = TABLES[verdict.change.table].client_references
    return any(str(data[c]).isdecimal() and str(data[c]) != str(values.get(c)) for c in columns if data.get(c) is not None)


def _asked(verdict: Verdict) -> Key | None:
    """The record of a verdict whose row the device is believed to hold. One that this push made cannot have been given."""
    if verdict.record_id is None or verdict.is_maker or verdict.is_told or verdict.change.table not in TABLES:
        return None
    is_repeated = verdict.status in (Status.NOOP, Status.DUPLICATE) and verdict.change.operation != "DELETE"
    return (verdict.change.table, verdict.record_id) if verdict.is_exact or is_repeated else None


def _is_overtaken(verdict: Verdict, given: Mapping[Key, int]) -> bool:
    """A device that says which version it built on knows that one; what it was given later overtook its edit."""
    key, base = _asked(verdict), verdict.change.base_version
    return key is not None and key in given and (base is None or base < given[key])


def _find_given(context: PushContext, keys: Collection[Key]) -> dict[Key, int]:
    """Of these records, those the device was given after the oldest of the cursors at which it may have changed them, and which
    version; of a redelivery, whose version is not known here, one that is newer than any.
    """
    found: dict[Key, int] = {}
    for table, record_id in keys:
        window, newest = context.windows[table], context.past.of(table, record_id).newest
        if window and (table, record_id) in context.past.redelivered:
            found[table, record_id] = NEWER_THAN_ALL
        elif window and newest is not None and window[-1] < newest <= window[0]:
            found[table, record_id] = newest
    return found


def _marked(context: PushContext, verdict: Verdict) -> Verdict:
    if verdict.is_exact:
        return replace(verdict, is_exact=False)
    table = TABLES[verdict.change.table]
    row = context.rows.get(table, verdict.record_id) or {}
    is_whole = all(
        is_same(column, row.get(column.name), verdict.values.get(column.name))
        for column in table.columns
        if column.access is not Access.PRIVATE and column.name not in RESERVED
    )
    return replace(verdict, is_told=not is_whole)
