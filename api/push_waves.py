"""Which changes of a push may be applied in one go, whatever their groups: in waves, in which nothing bears on the rest.

A change comes in a later wave than every earlier one of its own record, than the new rows it refers to, and, where one of the two
is a document and the other a part of it, than what the plan puts before it: what a part may do depends on its document. A new row
comes in no earlier wave than a change before it that names it: what that one meant was refused, or is another row.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable

from api.push_context import PushContext
from api.push_plan import DOCUMENT_HEADS, RUN_CHANGES_MAX
from api.push_request import PushedChange, read_id
from api.push_rows import target_id
from schema.rules import KEPT_WHILE_REFERENCED
from schema.tables import TABLES

Key = tuple[str, int | str]
"""A record by its table, and its server id or local id."""
_ORDER = {name: place for place, name in enumerate(TABLES)}


def stands_alone(change: PushedChange) -> bool:
    """Whether a change must find the rows as all before it left them: a deletion that asks for referring rows or frees a unique
    value, an INSERT that names a record.
    """
    table = TABLES.get(change.table)
    if change.operation == "INSERT":
        return change.record_id is not None
    if change.operation != "DELETE" or table is None:
        return False
    return table.name in KEPT_WHILE_REFERENCED or (table.unique is not None and not table.unique.is_document_number)


def plan_waves(context: PushContext, changes: Iterable[PushedChange]) -> list[list[list[PushedChange]]]:
    """Return changes, given in the order of the plan, as waves of runs: the INSERTs of a wave into one table, or one change."""
    waves: list[list[list[PushedChange]]] = []
    for wave in _waves(context, changes):
        runs: list[list[PushedChange]] = []
        for (_, operation), alike in itertools.groupby(sorted(wave, key=_kind), key=_kind):
            listed = list(alike)
            size = RUN_CHANGES_MAX if operation == "INSERT" else 1
            runs += [listed[start : start + size] for start in range(0, len(listed), size)]
        waves.append(runs)
    return waves


def _waves(context: PushContext, changes: Iterable[PushedChange]) -> list[list[PushedChange]]:
    waves: list[list[PushedChange]] = []
    changed: dict[Key, int] = defaultdict(lambda: -1)
    made: dict[Key, int] = defaultdict(lambda: -1)
    used: dict[Key, int] = defaultdict(lambda: -1)
    named: dict[Key, int] = defaultdict(lambda: -1)
    for change in changes:
        own, others = _own_keys(context, change), _other_keys(context, change)
        heads = {key for key in others if key[0] in DOCUMENT_HEADS}
        earlier = [*(changed[k] for k in own), *(made[k] for k in others), *(changed[k] for k in heads), *(used[k] for k in own)]
        number = max(earlier, default=-1) + 1
        if change.operation == "INSERT":  # rows of a wave are made at its end: what names one in it means what there was before
            number = max(number, *(named[k] for k in own))
        if number == len(waves):
            waves.append([])
        waves[number].append(change)
        for key in own:
            changed[key] = number
            if change.operation == "INSERT":
                made[key] = number
        for key in others:
            named[key] = max(named[key], number)
        for key in heads:
            used[key] = max(used[key], number)
    return waves


def _kind(change: PushedChange) -> tuple[int, str]:
    return _ORDER.get(change.table, len(_ORDER)), change.operation


def _own_keys(context: PushContext, change: PushedChange) -> set[Key]:
    """The names under which this push may mean the record of a change."""
    record_id = target_id(change, context.rows.references.records)
    return {(change.table, name) for name in (change.local_id, record_id, change.record_id) if name is not None}


def _other_keys(context: PushContext, change: PushedChange) -> set[Key]:
    """The records that a change may refer to, by what was sent and by the row as it is."""
    records = context.rows.references.records
    keys: set[Key] = set()
    for target, name in change.referenced:
        keys |= {(target, key) for key in (name, records.get((target, name)), read_id(name)) if key is not None}
    table = TABLES.get(change.table)
    if table is None:
        return keys
    row = context.rows.get(table, target_id(change, records)) or {}
    return keys | {(target, row[column]) for column, target in table.references.items() if row.get(column) is not None}
