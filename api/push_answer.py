"""A push's answer: versions from the change log, the told rows, the safe cursor (contract §3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aiohttp import web

from api.db import Session
from api.deliveries import Deliveries, decode
from api.delivery_store import DELIVERIES, Found, decoded
from api.elsewhere import pass_over_elsewhere, read_elsewhere
from api.heads import Head, read_head
from api.keys import DATABASE, SETTINGS
from api.past import read_lost_cursor
from api.push_request import PushRequest
from api.push_store import conflict_type, is_conflict
from api.push_versions import Told, VersionReader
from api.question import Question, ask, ask_both
from api.safe_cursor import STOPS, ask_safe_cursor
from api.scope import Scope
from api.verdicts import Status, Verdict
from api.waiting import WAITER, Made, Passed
from schema.columns import Access
from schema.tables import TABLES

if TYPE_CHECKING:
    from api.push import Pushed

_READ = """
SELECT d.state, s.epoch, s.head, s.min_version
FROM sync_state s LEFT JOIN sync_deliveries d ON d.company_id = %s AND d.device_id = %s WHERE s.id = 1
"""
NOTHING_TOLD = Told(None, 0, is_deleted=True)


async def answer_push(app: web.Application, scope: Scope, push: PushRequest, pushed: Pushed) -> dict[str, Any]:
    """Wait for the tailer, then return the answer; `pending` where it has not passed in time.

    The push is committed: whatever is not known in time is left out, and never makes an error of a success.
    """
    passed = await app[WAITER].wait(pushed.origin_id, app[SETTINGS].push_wait_ms_max / 1000, company_id=scope.company_id)
    async with app[DATABASE].read_late() as session:
        reader = VersionReader(session, scope.company_id, passed)
        head, deliveries = await _head_and_given(session, scope, push, passed)
        elsewhere = await read_elsewhere(session, scope, push.device_id)
        believed = None if elsewhere else push.last_version
        lost = await read_lost_cursor(session, head.version, known_epoch=deliveries.epoch, last_version=push.last_version)

        def ask_cursor(own: range) -> Question[int]:
            if lost is not None:
                return Question.known(lost)
            return ask_safe_cursor(scope, push.device_id, deliveries, head, believed, own=own, stops=app[STOPS])

        made, safe = await _made_and_cursor(session, reader, passed, ask_cursor)
        cursor = lost if lost is not None else deliveries.push_cursor(safe, scope.readable)
        results = await _results(scope, pushed, reader, made)

    def answered(now: Deliveries) -> Deliveries:
        return now.push_answered(cursor, scope.readable, head.min_version)

    if push.last_version is not None and lost is None:
        await pass_over_elsewhere(app, push.device_id, elsewhere, push.last_version)
    after = answered(deliveries)
    if lost is None and after != deliveries:
        found = Found(passed.state.encode(), after) if passed is not None and passed.state is not None else None
        await app[DELIVERIES].update(scope.company_id, push.device_id, answered, is_pull=False, found=found)
    return {
        "success": True,
        "conflicts": _conflicts(pushed, results),
        "id_mappings": _id_mappings(pushed.verdicts),
        "current_version": cursor,
        "head_version": head.version,
        "pending": passed is None,
        "results": results,
    }


async def _head_and_given(session: Session, scope: Scope, push: PushRequest, passed: Passed | None) -> tuple[Head, Deliveries]:
    """Raises SyncError 503 as `read_head` does."""
    if passed is not None:
        return passed.head, decoded(passed.state.encode() if passed.state is not None else None)
    row = await session.fetch_one(_READ, (scope.company_id, push.device_id))
    if row is None:
        return await read_head(session), Deliveries()
    state, *place = row
    head = Head(*place)
    session.confirm_head(head.version)
    return head, decode(state)


async def _made_and_cursor(
    session: Session, reader: VersionReader, passed: Passed | None, ask_cursor: Callable[[range], Question[int]]
) -> tuple[list[Made], int]:
    """Return the changes that the push made, and the safe cursor; `ask_cursor` takes those of them that are exact.

    Both are asked for in one packet, unless nothing came after the push: then what it made may spare the second question.
    """
    made = reader.ask_made()
    if passed is not None and passed.head.version == passed.head_after:
        made = Question.known(await ask(session, made))
    return await ask_both(session, made, ask_cursor(_own_exact(passed, made.known_answer or ())))


def _own_exact(passed: Passed | None, made: Sequence[Made]) -> range:
    """The versions of a push that are its device's own changes, every one stored as sent; empty where one is not."""
    if passed is None or passed.first_version is None:
        return range(0)
    versions = range(passed.first_version, passed.head_after + 1)
    return versions if len(made) == len(versions) and all(change.is_exact for change in made) else range(0)


async def _results(scope: Scope, pushed: Pushed, reader: VersionReader, made: Iterable[Made]) -> list[dict[str, Any]]:
    versions = await reader.versions(pushed.verdicts, made)
    told = await reader.told(pushed.verdicts, pushed.server_rows)
    results = []
    for verdict in pushed.verdicts:
        result: dict[str, Any] = {
            "table": verdict.change.table,
            "local_id": verdict.change.local_id,
            "record_id": verdict.record_id,
            "status": verdict.status.value,
        }
        if verdict.change.seq in versions:
            result["version"] = versions[verdict.change.seq]
        if verdict.code is not None:
            result |= {"code": verdict.code, "message": verdict.message, "retryable": verdict.is_retryable, **verdict.details}
        if verdict.ignored:
            result["ignored"] = list(verdict.ignored)
        if verdict.is_told:
            result |= _shown(scope, verdict, told.get((verdict.change.table, verdict.record_id or 0), NOTHING_TOLD))
        results.append(result)
    return results


def _shown(scope: Scope, verdict: Verdict, told: Told) -> dict[str, Any]:
    data = visible_columns(scope, verdict.change.table, told.row) if told.row is not None else {}
    return {"server_data": data, "server_version": told.version, "server_deleted": told.is_deleted}


def visible_columns(scope: Scope, table: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return of a row what this user and device may see: of a table that they may not read, nothing."""
    if table not in scope.readable:
        return {}
    return {
        c.name: row[c.name]
        for c in TABLES[table].columns
        if c.name in row and (c.access is Access.PUBLIC or (c.access is Access.RESTRICTED and scope.may_see_restricted))
    }


def _conflicts(pushed: Pushed, results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    conflicts = []
    for verdict, result in zip(pushed.verdicts, results, strict=True):
        if not is_conflict(verdict):
            continue
        server = pushed.server_rows.get((verdict.change.table, verdict.record_id or 0))
        conflict: dict[str, Any] = {
            "conflict_id": pushed.conflict_ids.get(verdict.change.seq),
            "table": verdict.change.table,
            "local_id": verdict.change.local_id,
            "record_id": verdict.record_id,
            "type": conflict_type(verdict, server),
            "resolution": "merged" if verdict.status is Status.MERGED else "server",
            **{name: result[name] for name in ("server_data", "server_version", "server_deleted") if name in result},
        }
        if verdict.fields:
            conflict["fields"] = list(verdict.fields)
        conflicts.append(conflict)
    return conflicts


def _id_mappings(verdicts: list[Verdict]) -> dict[str, int]:
    """Every INSERT whose record exists or once existed; of one local id in two tables, the first."""
    mappings: dict[str, int] = {}
    for verdict in verdicts:
        change = verdict.change
        if change.operation == "INSERT" and change.local_id is not None and verdict.record_id is not None:
            mappings.setdefault(change.local_id, verdict.record_id)
    return mappings
