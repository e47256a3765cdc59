"""Applies the groups of a push: each as a whole or not at all, all of them in as few statements as there are tables.

Where nothing is refused the order of changes that do not touch one another tells nothing, so their INSERTs of one table go in one
statement, and so do the edits of the rows of one table. Where anything is refused, or the order may matter, all is undone and each
half tried so, down to one group, whose changes are applied one after the other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Any

from msgspec.structs import replace

from api.bookkeeping import BALANCED, check_new_transactions, transaction_of
from api.push_apply import apply_run, apply_wave
from api.push_context import PushContext, existing_id, was_ever_here
from api.push_plan import plan_groups, split_runs
from api.push_request import PushedChange
from api.push_waves import plan_waves, stands_alone
from api.push_writes import InTurn
from api.verdicts import Refused, Status, Verdict, refusal, refused_by, settled
from schema.rules import Breach
from schema.tables import TABLES

Group = list[PushedChange]
Key = tuple[str, int | None]
"""table, record_id."""


async def apply_groups(context: PushContext) -> list[Verdict]:
    """Apply all changes of a push; return the verdicts in the order sent. Raises what undoes the whole push."""
    verdicts: list[Verdict] = []
    together: list[Group] = []
    for group in plan_groups(context.changes):
        if any(stands_alone(change) for change in group):
            verdicts += await _apply(context, together)
            verdicts += await _apply_alone(context, group)
            together = []
        else:
            together.append(group)
    verdicts += await _apply(context, together)
    return sorted(verdicts, key=lambda verdict: verdict.change.seq)


async def _apply(context: PushContext, groups: Sequence[Group]) -> list[Verdict]:
    if not groups:
        return []
    if len(groups) == 1 and len(split_runs(groups[0])) == 1:
        return await _apply_alone(context, groups[0])
    mark = context.rows.mark()
    context.session.put_before(("SAVEPOINT push_part", ()))
    try:
        return await _apply_together(context, groups)
    except InTurn:
        context.writes.drop()
        await context.session.execute("ROLLBACK TO SAVEPOINT push_part")
        context.rows.undo_to(mark)
    if len(groups) == 1:
        return await _apply_alone(context, groups[0])
    half = len(groups) // 2
    return [*await _apply(context, groups[:half]), *await _apply(context, groups[half:])]


async def _apply_together(context: PushContext, groups: Sequence[Group]) -> list[Verdict]:
    """Raises InTurn where a group would have to be undone, or the order of two may matter."""
    verdicts: list[Verdict] = []
    of_whole = {change.seq: number for number, group in enumerate(groups) if _is_whole(group) for change in group}
    context.writes.hold()
    for wave in plan_waves(context, [change for group in groups for change in group]):
        done = await apply_wave(context, wave)
        if any(verdict.status.is_refusal and verdict.change.seq in of_whole for verdict in done):
            raise InTurn
        verdicts += done
    ids = await context.writes.release()
    context.rows.settle(ids)
    verdicts = [settled(verdict, ids) for verdict in verdicts]
    touched = _touched(context, [verdict for verdict in verdicts if verdict.change.seq in of_whole])
    if len({(of_whole[seq], transaction) for seq, transaction in touched.items()}) != len(set(touched.values())):
        raise InTurn  # two groups share a transaction: it must balance after each of them
    if await _unbalanced(context, touched.values()):
        raise InTurn
    return verdicts


async def _apply_alone(context: PushContext, group: Group) -> list[Verdict]:
    """Apply the changes of one group together or not at all."""
    if not _is_whole(group):
        return await apply_run(context, group)
    mark = context.rows.mark()
    context.session.put_before(("SAVEPOINT push_group", ()))
    verdicts: list[Verdict] = []
    for run in split_runs(group):
        verdicts += await apply_run(context, run)
        if any(verdict.status.is_refusal for verdict in verdicts):
            break
    made = frozenset((verdict.change.table, verdict.record_id) for verdict in verdicts if verdict.is_maker)
    if not any(verdict.status.is_refusal for verdict in verdicts):
        verdicts = await _balanced(context, verdicts)
    if not any(verdict.status.is_refusal for verdict in verdicts):
        return verdicts
    await context.session.execute("ROLLBACK TO SAVEPOINT push_group")
    context.rows.undo_to(mark)
    return [_undone(context, change, verdicts, made) for change in group]


def _is_whole(group: Group) -> bool:
    """Whether a group is undone where one of its changes is refused; any other is a single change."""
    return len(group) > 1 or group[0].table in BALANCED


async def _balanced(context: PushContext, verdicts: list[Verdict]) -> list[Verdict]:
    """Judge the transactions that a group touched: what belongs to one that does not balance is refused."""
    touched = _touched(context, verdicts)
    breaches = await _unbalanced(context, touched.values())
    return [_breached(v, breaches[touched[v.change.seq]]) if touched.get(v.change.seq) in breaches else v for v in verdicts]


async def _unbalanced(context: PushContext, ids: Iterable[int]) -> dict[int, Breach]:
    """Judge transactions as they stand now. All rows of one that this push made are its own: nobody else can refer to it yet."""
    table = TABLES["transactions"]
    wanted = set(ids)
    new = {record_id for record_id in wanted if context.rows.first_said(table, record_id) is not None}
    breaches = await context.books.check_transactions(wanted - new)
    if new:
        transactions = [row for row in context.rows.all_of("transactions") if row["id"] in new]
        lines, entries = context.rows.all_of("transaction_lines"), context.rows.all_of("account_transactions")
        breaches |= check_new_transactions(transactions, lines, entries)
    return breaches


def _touched(context: PushContext, verdicts: Iterable[Verdict]) -> dict[int, int]:
    """The transaction that each change, by its place in the push, may have unbalanced."""
    touched: dict[int, int] = {}
    for verdict in verdicts:
        table = TABLES.get(verdict.change.table)
        row = context.rows.get(table, verdict.record_id) if table is not None else None
        transaction = transaction_of(table, row) if table is not None and row is not None and verdict.is_change else None
        if transaction is not None:
            touched[verdict.change.seq] = transaction
    return touched


def _breached(verdict: Verdict, breach: Breach) -> Verdict:
    return refusal(verdict.change, refused_by(breach), record_id=None if verdict.is_maker else verdict.record_id)


def _undone(context: PushContext, change: PushedChange, verdicts: list[Verdict], made: Collection[Key]) -> Verdict:
    """The verdict of a change whose group was refused: its own for the one that was refused, or that had no effect anyway.

    `made`: the records that the group had made, which are not there any more.
    """
    own = next((verdict for verdict in verdicts if verdict.change is change), None)
    is_altered = own is not None and _is_altered(own, verdicts)
    if own is not None and (own.status.is_refusal or _had_no_effect(context, own, is_altered=is_altered)):
        own = _without_made(own, made)
        if (change.table, own.record_id) in made:
            return replace(own, status=Status.REJECTED, record_id=None, is_told=False, is_change=False)
        return replace(own, is_told=own.is_told or is_altered, is_change=False)
    cause = next(verdict for verdict in verdicts if verdict.status.is_refusal)
    record_id = existing_id(context, change)
    message = f"not applied, since changes[{cause.change.seq}] of its group was refused: {cause.code}"
    refused = Refused("group_refused", message, is_retryable=cause.is_retryable, details={"refused_by": cause.change.seq})
    return refusal(change, refused, record_id=record_id)


def _without_made(verdict: Verdict, made: Collection[Key]) -> Verdict:
    """A verdict that names no record of `made`, neither in its details nor in its values: these are as they were sent then."""
    name = verdict.change.table
    references = TABLES[name].references if name in TABLES else {}

    def names_made(row: Mapping[str, Any] | None) -> bool:
        told = ((target, row.get(column)) for column, target in references.items()) if row is not None else ()
        return any(isinstance(record_id, int) and (target, record_id) in made for target, record_id in told)

    return replace(
        verdict,
        details={n: v for n, v in verdict.details.items() if n != "other_id" or (name, v) not in made},
        values=verdict.change.data if names_made(verdict.values) else verdict.values,
        base=None if names_made(verdict.base) else verdict.base,
    )


def _had_no_effect(context: PushContext, verdict: Verdict, *, is_altered: bool) -> bool:
    """Whether a change came to nothing, and not only because its group had altered the record before.

    An INSERT that made its record before stays one, whatever has become of the record; any other was judged as an edit, by a base.
    """
    if verdict.status not in (Status.NOOP, Status.DUPLICATE) or not _is_here(context, verdict):
        return False
    is_first_try_again = verdict.status is Status.DUPLICATE and verdict.base is None
    return is_first_try_again or not is_altered


def _is_altered(verdict: Verdict, verdicts: Iterable[Verdict]) -> bool:
    """Whether a change before this one, of these verdicts, wrote its record."""
    key = (verdict.change.table, verdict.record_id)
    before = takewhile(lambda other: other.change is not verdict.change, verdicts)
    return any(other.is_change and (other.change.table, other.record_id) == key for other in before)


def _is_here(context: PushContext, verdict: Verdict) -> bool:
    """Whether the record of a verdict is there, or was once: not one that its own group made."""
    table, record_id = TABLES[verdict.change.table], verdict.record_id
    return record_id is None or context.rows.get(table, record_id) is not None or was_ever_here(context, table, record_id)
