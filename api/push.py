"""`POST /api/sync/push`: from an envelope to results (contract §3). Orchestration only; each rule has a module of its own.

One push is one MySQL transaction. The device's row is locked first, which puts its pushes one after the other; then the company
is held as it is, the origin row is appended, the rows are locked, and the groups are decided in turn, each undone by savepoint
where one of its changes is refused.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from api.answers import json_answer
from api.auth import authenticate
from api.bookkeeping import Bookkeeping
from api.db import Outcome, Session, Statement
from api.deliveries import Deliveries
from api.delivery_store import decoded, replace_deliveries, seen_by
from api.devices import device_revoked
from api.edit_time import edited_at_us, read_clock_lead_us
from api.identity import Install, find_identities, identities_found, store_identities
from api.keys import DATABASE, SETTINGS
from api.origins import append_origin, opened, origin_row
from api.overtaken import mark_overtaken
from api.past import Forks
from api.push_answer import answer_push
from api.push_context import PushContext
from api.push_groups import apply_groups
from api.push_past import PastQuestion, PushPast, ask_past, read_push_past
from api.push_request import LocalKey, PushedChange, PushRequest, parse_push
from api.push_rows import PushRows, ask_locks, references_of
from api.push_store import store_conflicts, store_pushed, store_redeliveries
from api.push_writes import PushWrites
from api.requests import read_json_object, request_id
from api.scope import Scope, forbidden, scope_of
from api.verdicts import Verdict
from schema.changes import OriginKind
from schema.tables import TABLES

_HOLD = """
SELECT d.revoked_at, d.clock_lead_ms, c.id, c.books_locked_until, @@SESSION.auto_increment_increment
FROM devices d LEFT JOIN companies c ON c.id = %s AND c.is_active AND c.deleted_at IS NULL
WHERE d.device_id = %s FOR UPDATE OF d FOR {lock} OF c
"""
_READ_GIVEN = """
SELECT s.epoch, s.head, d.state, EXISTS (SELECT 1 FROM sync_redeliveries WHERE company_id = %s AND device_id = %s)
FROM sync_state s LEFT JOIN sync_deliveries d ON d.company_id = %s AND d.device_id = %s WHERE s.id = 1 {lock}
"""
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
    install = Install(scope.company_id, push.device_id, push.install_id)
    keys = {key for change in push.changes for key in (*change.referenced, *_own_key(change))}
    origin = origin_row(OriginKind.DEVICE, scope, request_id, push.push_id)
    # One packet; each statement sees what was committed before it, so all but the first see what the device pushed before this.
    held, appended, given, *known = await session.run(
        _hold(scope, push),
        append_origin(session, origin),
        _read_given(session, scope, push),
        *find_identities(install, keys),
    )
    clock_lead_ms, locked_until = _held(session, held)
    origin_id = await opened(session, origin, appended.result)
    lead_us = await _clock_lead_us(session, push, arrived_us, clock_lead_ms)
    epoch, head, state, has_redeliveries = given.rows[0] if given.rows else (None, 0, None, True)
    deliveries = decoded(state.encode() if state is not None else None)
    records = {key: identity.record_id for key, identity in identities_found(known).items()}
    asked = ask_past(install, push.changes, records, deliveries, push.last_version, has_redeliveries=bool(has_redeliveries))
    rows, past = await _read_and_lock(session, scope.company_id, push, records, asked)
    times = {change.seq: _edited_at_us(change, lead_us, arrived_us) for change in push.changes}
    books = Bookkeeping(session, scope.company_id, locked_until, rows.find)
    context = PushContext(
        session=session,
        scope=scope,
        install=install,
        changes=push.changes,
        origin_id=origin_id,
        deliveries=deliveries,
        windows=asked.windows,
        last_version=push.last_version,
        forks=Forks(session, head=head, epoch=epoch),
        rows=rows,
        past=past,
        edited_at_us=times,
        books=books,
        writes=PushWrites(session, scope.company_id),
    )
    verdicts = mark_overtaken(context, await apply_groups(context))
    told: dict[str, set[int]] = {}
    for verdict in verdicts:
        if verdict.is_told and verdict.record_id is not None:
            told.setdefault(verdict.change.table, set()).add(verdict.record_id)
    server_rows = await rows.read_again(told)
    conflict_ids = await store_conflicts(context, verdicts, server_rows)
    session.put_before(
        *store_identities(install, rows.named(), origin_id),
        *store_pushed(context, verdicts),
        *store_redeliveries(context, verdicts),
    )
    _note_push(session, scope, push, state, deliveries)
    return Pushed(origin_id, verdicts, server_rows, conflict_ids)


async def _read_and_lock(
    session: Session, company_id: int, push: PushRequest, records: Mapping[LocalKey, int], asked: PastQuestion
) -> tuple[PushRows, PushPast]:
    """Read the past of the push's records, then lock them as they are, in one packet."""
    locks = ask_locks(company_id, push.changes, records)
    outcomes = await session.run(*asked.statements, *locks.statements)
    rows = PushRows(session, company_id, references_of(push.changes, records))
    await rows.take(locks, outcomes[len(asked.statements) :])
    return rows, await read_push_past(session, asked, outcomes)


def _hold(scope: Scope, push: PushRequest) -> Statement:
    """Lock the device's row, which puts its pushes one after the other, and hold the company as it is."""
    # Two who share the company's row first, and then both want it alone, end in a deadlock.
    lock = "UPDATE" if any(change.table == "companies" for change in push.changes) else "SHARE"
    return _HOLD.format(lock=lock), (scope.company_id, push.device_id)


def _held(session: Session, outcome: Outcome) -> tuple[int, dt.date | None]:
    """Return the largest lead of the device's clock ever seen, in ms, and the day up to which the books are locked.

    Raises SyncError: 401 for a revoked device, 403 for a company that was closed meanwhile.
    """
    row = outcome.rows[0] if outcome.rows else None
    if row is None or row[0] is not None:
        raise device_revoked()
    _, clock_lead_ms, company_id, locked_until, session.id_step = row
    if company_id is None:
        raise forbidden()
    return clock_lead_ms or 0, locked_until


async def _clock_lead_us(session: Session, push: PushRequest, arrived_us: int, known_lead_ms: int) -> int:
    """Return by how much the device's clock is ahead, in µs, and remember it where that is more than was known."""
    known_lead_us = known_lead_ms * 1000
    lead_us = read_clock_lead_us(push.sent_at, arrived_us=arrived_us, known_lead_us=known_lead_us)
    if lead_us > known_lead_us:
        await session.execute(_RAISE_LEAD, (lead_us // 1000, push.device_id))
    return lead_us


def _read_given(session: Session, scope: Scope, push: PushRequest) -> Statement:
    """What the device was given; locked where the push is tried again: a pull of it may have been recorded the time before."""
    lock = "FOR UPDATE OF d" if session.attempt > 1 else ""
    return _READ_GIVEN.format(lock=lock), (scope.company_id, push.device_id) * 2


def _note_push(session: Session, scope: Scope, push: PushRequest, state: str | None, known: Deliveries) -> None:
    """Note that the device pushes, right before the COMMIT, so that the lock is short: pulls of many devices are recorded in one
    commit, and would wait for it. Of a push that follows another one, or that comes from a device that was never given anything,
    there is nothing to note. A table that was lost is noted too: what is refused in it is not told, so it must come whole should it
    be gained again.
    """
    begun = seen_by(scope, known).push_begun(push.last_version)
    if begun != known and state is not None:
        session.put_guard(replace_deliveries(scope.company_id, push.device_id, state, begun))


def _edited_at_us(change: PushedChange, lead_us: int, now_us: int) -> int:
    if change.first_try is not None:
        return change.first_try.edited_at_us
    return edited_at_us(change.timestamp, lead_us=lead_us, now_us=now_us)


def _own_key(change: PushedChange) -> list[tuple[str, str]]:
    return [(change.table, change.local_id)] if change.local_id is not None and change.table in TABLES else []
