"""Which changes of a push stand or fall together, and in which order they are applied. Pure.

Explicit groups are the client's. By default a transaction or invoice with the lines, entries, payments and stock movements that
refer to it, and a payment with its lines, is one group, also where the document itself came in an earlier push: lines that add up
together do not add up alone. Every other change is its own. A change comes after the new rows that it refers to and after earlier
changes of the same record; groups that need one another become one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from heapq import heapify, heappop, heappush

from api.push_request import LocalKey, PushedChange
from schema.tables import TABLES

RUN_CHANGES_MAX = 200
DOCUMENT_HEADS = frozenset({"transactions", "invoices", "payment_ins", "payment_outs"})
_DOCUMENT_PARTS = frozenset(
    {"transaction_lines", "invoices", "account_transactions", "stock_ledger", "payment_in_lines", "payment_out_lines"}
)


def plan_groups(changes: Iterable[PushedChange]) -> list[list[PushedChange]]:
    """Return the groups in the order they are applied, their changes in order too."""
    listed = list(changes)
    if len(listed) == 1:
        return [listed]
    needs = _needs(listed)
    group_of = _default_groups(listed)
    _merge_cycles(listed, needs, group_of)
    members: dict[int, list[PushedChange]] = defaultdict(list)
    for change in listed:
        members[_root(group_of, change.seq)].append(change)
    graph = {
        name: {_root(group_of, needed) for change in group for needed in needs[change.seq]} - {name}
        for name, group in members.items()
    }
    return [_ordered(members[name], needs) for name in _sorted(graph)]


def split_runs(changes: Iterable[PushedChange]) -> list[list[PushedChange]]:
    """Split changes, in the order they are applied, into runs: INSERTs into one table under different local ids, of which none can
    refer to another, or a single change of any kind.
    """
    runs: list[list[PushedChange]] = []
    for change in changes:
        run = runs[-1] if runs else []
        if run and _goes_on(run, change):
            run.append(change)
        else:
            runs.append([change])
    return runs


def _goes_on(run: list[PushedChange], change: PushedChange) -> bool:
    table = TABLES.get(change.table)
    return (
        len(run) < RUN_CHANGES_MAX
        and table is not None
        and change.operation == run[0].operation == "INSERT"
        and change.table == run[0].table
        and table.name not in table.references.values()
        and all(other.local_id != change.local_id for other in run)
    )


def _needs(changes: list[PushedChange]) -> dict[int, set[int]]:
    """Per change, the changes of this push that must come before it."""
    inserts = {(c.table, c.local_id): c.seq for c in reversed(changes) if c.operation == "INSERT" and c.local_id is not None}
    last_of: dict[tuple[str, str], int] = {}
    needs: dict[int, set[int]] = {}
    for change in changes:
        needed = {inserts[key] for key in change.referenced if key in inserts}
        for key in _record_keys(change):
            is_first_insert = inserts.get(key) == change.seq
            if is_first_insert and key in last_of:
                continue  # it goes before what was sent before it, and what comes after it still goes after that
            if key in last_of:
                needed.add(last_of[key])
            elif change.operation != "INSERT" and key in inserts:
                needed.add(inserts[key])
            last_of[key] = change.seq
        needs[change.seq] = needed - {change.seq}
    return needs


def _record_keys(change: PushedChange) -> list[LocalKey]:
    """Ways this push names the record of a change: changes of one record keep their order."""
    keys = [(change.table, change.local_id)] if change.local_id is not None else []
    if change.operation != "INSERT":
        record_id = change.record_id if change.record_id is not None else change.data.get("id")
        if isinstance(record_id, int | str):
            keys.append((change.table, f"#{record_id}"))
    return keys


def _default_groups(changes: list[PushedChange]) -> dict[int, int]:
    """Union-find parents: changes of one explicit group, and documents with their parts, point to one root."""
    group_of = {change.seq: change.seq for change in changes}
    explicit: dict[str, int] = {}
    heads: dict[LocalKey, int] = {}
    elsewhere: dict[LocalKey, int] = {}
    for change in changes:
        if change.group is not None:
            _join(group_of, explicit.setdefault(change.group, change.seq), change.seq)
        elif change.table in DOCUMENT_HEADS:
            for key in (*_record_keys(change), *_server_keys(change)):
                _join(group_of, heads.setdefault(key, change.seq), change.seq)
    for change in changes:
        if change.group is None and change.table in _DOCUMENT_PARTS:
            for target, value in change.referenced:
                if target in DOCUMENT_HEADS:
                    here = [heads[key] for key in ((target, value), (target, f"#{value}")) if key in heads]
                    for head in here or [elsewhere.setdefault((target, value), change.seq)]:
                        _join(group_of, head, change.seq)
    return group_of


def _server_keys(change: PushedChange) -> list[LocalKey]:
    return [(change.table, f"#{change.record_id}")] if change.record_id is not None else []


def _merge_cycles(changes: list[PushedChange], needs: Mapping[int, set[int]], group_of: dict[int, int]) -> None:
    """Join groups that need one another, so that the order between groups exists."""
    while True:
        graph: dict[int, set[int]] = defaultdict(set)
        for change in changes:
            name = _root(group_of, change.seq)
            graph[name] |= {_root(group_of, needed) for needed in needs[change.seq]} - {name}
        try:
            _sorted(graph)
        except CycleError as cycle:
            names = cycle.args[1]
            for name in names[1:]:
                _join(group_of, names[0], name)
        else:
            return


def _ordered(group: list[PushedChange], needs: Mapping[int, set[int]]) -> list[PushedChange]:
    """The changes of one group, needed ones first; rows that refer to one another in a circle stay as they were sent."""
    if len(group) == 1:
        return group
    by_seq = {change.seq: change for change in group}
    graph = {seq: needs[seq] & by_seq.keys() for seq in by_seq}
    try:
        return [by_seq[seq] for seq in _sorted(graph)]
    except CycleError:
        return group


def _sorted(graph: Mapping[int, set[int]]) -> list[int]:
    """A topological order that keeps to the order sent wherever it may. Raises CycleError, which names a circle."""
    missing = {name: len(needed) for name, needed in graph.items()}
    needed_by: dict[int, list[int]] = defaultdict(list)
    for name, needed in graph.items():
        for other in needed:
            needed_by[other].append(name)
    ready = [name for name, count in missing.items() if not count]
    heapify(ready)
    order: list[int] = []
    while ready:
        first = heappop(ready)
        order.append(first)
        for name in needed_by[first]:
            missing[name] -= 1
            if not missing[name]:
                heappush(ready, name)
    if len(order) < len(graph):
        TopologicalSorter(graph).prepare()
    return order


def _root(group_of: dict[int, int], seq: int) -> int:
    while group_of[seq] != seq:
        group_of[seq] = group_of[group_of[seq]]
        seq = group_of[seq]
    return seq


def _join(group_of: dict[int, int], one: int, other: int) -> None:
    low, high = sorted((_root(group_of, one), _root(group_of, other)))
    group_of[high] = low
