"""`POST /api/sync/push`: from an envelope to results (contract §3). Orchestration only; each rule has a module of its own.

One push is one MySQL transaction. The device's row is locked first, which puts its pushes one after the other; then the company
is held as it is, the origin row is appended, the rows are locked, and the groups are decided in turn, each undone by savepoint
where one of its changes is refused.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web

from api.answers import json_answer
from api.auth import authenticate
from api.bookkeeping import BALANCED, Bookkeeping, transaction_of
from api.db import Session
from api.delivery_store import lock_deliveries, read_deliveries, seen_by, store_deliveries
from api.devices import lock_device
from api.edit_time import edited_at_us, read_clock_lead_us
from api.identity import Install, find_identities
from api.keys import DATABASE, SETTINGS
from api.origins import open_origin
from api.overtaken import mark_overtaken
from api.past import Forks
from api.push_answer import answer_push
from api.push_apply import apply_run
from api.push_context import PushContext, existing_id
from api.push_plan import plan_groups, referenced_keys, split_runs
from api.push_request import PushedChange, PushRequest, parse_push
from api.push_rows import lock_push_rows
from api.push_store import store_conflicts, store_pushed, store_redeliveries
from api.requests import read_json_object, request_id
from api.scope import Scope, scope_of
from api.verdicts import Refused, Status, Verdict, refusal, refused_by
from api.writes import hold_company
from schema.changes import OriginKind
from schema.rules import Breach
from schema.tables import TABLES

_RAISE_LEAD = "UPDATE devices SET clock_lead_ms = %s WHERE device_id = %s"


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a committed push did: verdicts in the order sent, the told rows as they stood, the conflicts that were kept."""

    origin_id: int
    verdicts: list[Verdict]
    server_rows: Mapping[tuple[str, int], Mapping[str, Any]]
    conflict_ids: Mapping[int, int]


async def handle_push(request: web.Request) -> web.Response:
    """Answer what became of each change. Raises SyncError: 400, 401, 403, 413, 503; nothing is applied then."""
    identity = await authenticate(request)
    arrived_us = time.time_ns() // 1000
    push = parse_push(await read_json_object(request), request.app[SETTINGS])
    scope = await scope_of(request, identity, push.company_id, push.device_id)

    async def work(session: Session) -> Pushed:
        return await apply_push(session, scope, push, request_id(request), arrived_us)

    pushed = await request.app[DATABASE].run(work, attempts=request.app[SETTINGS].push_attempts_max)
    answer = await answer_push(request.app, scope, push, pushed)
    return json_answer(answer)


async def apply_push(session: Session, scope: Scope, push: PushRequest, request_id: str, arrived_us: int) -> Pushed:
    """Decide and store a push in the caller's transaction. Raises SyncError 401 for a revoked device, and what undoes all of it."""
    lead_us = await _lock_device(session, push, arrived_us)
    is_of_company = any(change.table == "companies" for change in push.changes)
    locked_until = await hold_company(session, scope.company_id, is_to_change=is_of_company)
    origin_id = await open_origin(session, kind=OriginKind.DEVICE, scope=scope, request_id=request_id, push_id=push.push_id)
    deliveries = await read_deliveries(session, scope.company_id, push.device_id)
    install = Install(scope.company_id, push.device_id, push.install_id)
    keys = {key for change in push.changes for key in (*referenced_keys(change), *_own_key(change))}
    identities = await find_identities(session, install, keys)
    rows = await lock_push_rows(session, scope.company_id, push.changes, identities)
    times = {change.seq: _edited_at_us(change, lead_us, arrived_us) for change in push.changes}
    books = Bookkeeping(session, scope.company_id, locked_until, rows.find)
    past = deliveries, push.last_version, Forks(session)
    context = PushContext(session, scope, install, push.changes, origin_id, *past, rows, times, books)
    verdicts = await mark_overtaken(context, await _apply_groups(context, push.changes))
    told: dict[str, set[int]] = {}
    for verdict in verdicts:
        if verdict.is_told and verdict.record_id is not None:
            told.setdefault(verdict.change.table, set()).add(verdict.record_id)
    server_rows = await rows.read_again(told)
    await store_pushed(context, verdicts)
    await store_redeliveries(context, verdicts)
    conflict_ids = await store_conflicts(context, verdicts, server_rows)
    # Last, so that the lock is short: pulls of many devices are recorded in one commit, and would wait for it.
    latest = await lock_deliveries(session, scope.company_id, push.device_id)
    # A table that was lost is noted here too: what is refused in it is not told, so it must come whole should it be gained again.
    begun = seen_by(scope, latest).push_begun(push.last_version)
    await store_deliveries(session, scope.company_id, push.device_id, begun)
    return Pushed(origin_id, verdicts, server_rows, conflict_ids)


async def _lock_device(session: Session, push: PushRequest, arrived_us: int) -> int:
    """Lock the device's row and return by how much its clock is ahead, in µs. Raises SyncError 401 for a revoked one."""
    known_lead_us = await lock_device(session, push.device_id) * 1000
    lead_us = read_clock_lead_us(push.sent_at, arrived_us=arrived_us, known_lead_us=known_lead_us)
    if lead_us > known_lead_us:
        await session.execute(_RAISE_LEAD, (lead_us // 1000, push.device_id))
    return lead_us


def _edited_at_us(change: PushedChange, lead_us: int, now_us: int) -> int:
    if change.first_try is not None:
        return change.first_try.edited_at_us
    return edited_at_us(change.timestamp, lead_us=lead_us, now_us=now_us)


async def _apply_groups(context: PushContext, changes: tuple[PushedChange, ...]) -> list[Verdict]:
    """Return the verdicts in the order sent."""
    verdicts: list[Verdict] = []
    alone: list[PushedChange] = []
    for group in [*plan_groups(changes), []]:
        if len(group) == 1 and group[0].table not in BALANCED:
            alone += group
            continue
        for run in split_runs(alone):
            verdicts += await apply_run(context, run)
        alone = []
        verdicts += await _apply_group(context, group)
    return sorted(verdicts, key=lambda verdict: verdict.change.seq)


async def _apply_group(context: PushContext, group: list[PushedChange]) -> list[Verdict]:
    """Apply changes together or not at all."""
    if not group:
        return []
    mark = context.rows.mark()
    await context.session.execute("SAVEPOINT push_group")
    verdicts: list[Verdict] = []
    for run in split_runs(group):
        verdicts += await apply_run(context, run)
        if any(verdict.status.is_refusal for verdict in verdicts):
            break
    else:
        verdicts = await _balanced(context, verdicts)
    if not any(verdict.status.is_refusal for verdict in verdicts):
        await context.session.execute("RELEASE SAVEPOINT push_group")
        return verdicts
    await context.session.execute("ROLLBACK TO SAVEPOINT push_group")
    context.rows.undo_to(mark)
    return [await _undone(context, change, verdicts) for change in group]


async def _balanced(context: PushContext, verdicts: list[Verdict]) -> list[Verdict]:
    """Judge the transactions that a group touched: what belongs to one that does not balance is refused."""
    touched: dict[int, int] = {}
    for verdict in verdicts:
        table = TABLES.get(verdict.change.table)
        row = context.rows.get(table, verdict.record_id) if table is not None else None
        transaction = transaction_of(table, row) if table is not None and row is not None and verdict.is_change else None
        if transaction is not None:
            touched[verdict.change.seq] = transaction
    breaches = await context.books.check_transactions(touched.values())
    return [_breached(v, breaches[touched[v.change.seq]]) if touched.get(v.change.seq) in breaches else v for v in verdicts]


def _breached(verdict: Verdict, breach: Breach) -> Verdict:
    return refusal(verdict.change, refused_by(breach), record_id=None if verdict.is_maker else verdict.record_id)


async def _undone(context: PushContext, change: PushedChange, verdicts: list[Verdict]) -> Verdict:
    """The verdict of a change whose group was refused: its own for the one that was refused, or that had no effect anyway."""
    own = next((verdict for verdict in verdicts if verdict.change is change), None)
    if own is not None and (own.status.is_refusal or own.status in (Status.NOOP, Status.DUPLICATE)):
        return replace(own, is_change=False)
    cause = next(verdict for verdict in verdicts if verdict.status.is_refusal)
    record_id = await existing_id(context, change)
    message = f"not applied, since changes[{cause.change.seq}] of its group was refused: {cause.code}"
    refused = Refused("group_refused", message, is_retryable=cause.is_retryable, details={"refused_by": cause.change.seq})
    return refusal(change, refused, record_id=record_id)


def _own_key(change: PushedChange) -> list[tuple[str, str]]:
    return [(change.table, change.local_id)] if change.local_id is not None and change.table in TABLES else []
