"""`/api/{table}` for every synced table: list, read, create, change, soft-delete. They write domain tables and nothing else; the
change log learns of it from the binlog.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from api.answers import json_answer
from api.auth import authenticate
from api.data_past import read_past_page, read_past_record, read_version
from api.data_query import Page, read_flag
from api.data_read import not_found, read_page, read_record
from api.data_write import Writer, create_company
from api.db import Session
from api.keys import DATABASE, SETTINGS, Handler
from api.preconditions import read_if_match
from api.requests import read_company_id, read_json_object, request_id
from api.scope import SCOPES, Scope, forbidden, scope_of
from api.settling import settle
from api.writes import Cleaned, clean
from schema.columns import ID_MAX
from schema.errors import SyncError
from schema.tables import TABLES, Table

_AFFECTS_SCOPES = frozenset({"users", "companies"})
_FOUNDER = Scope(
    login_id=0,
    user_id=0,
    company_id=0,
    role="owner",
    device_id=None,
    readable=frozenset(TABLES),
    writable=frozenset(TABLES),
    may_see_restricted=True,
    may_resolve_conflicts=True,
)


def routes() -> list[web.RouteDef]:
    """Return the routes of all synced tables."""
    found = []
    for table in TABLES.values():
        one = f"/api/{table.name}/{{id}}"
        found += [
            web.get(f"/api/{table.name}", _bound(_list, table)),
            web.post(f"/api/{table.name}", _bound(_create_company if table.is_scope else _create, table)),
            web.get(one, _bound(_read, table)),
            web.patch(one, _bound(_change, table)),
            web.delete(one, _bound(_delete, table)),
        ]
    return found


def _bound(handler: Any, table: Table) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        response: web.StreamResponse = await handler(request, table)
        return response

    return handle


async def _list(request: web.Request, table: Table) -> web.Response:
    scope = await _scope(request, table)
    page = Page.read(request, table, scope, request.app[SETTINGS])
    if page.as_of is not None:
        return await _list_past(request, table, scope, page, page.as_of)
    async with request.app[DATABASE].read() as session:
        rows = await read_page(session, table, scope, page)
    has_more, rows = len(rows) > page.limit, rows[: page.limit]
    next_after = rows[-1]["id"] if rows else page.after
    return json_answer({"success": True, "data": rows, "has_more": has_more, "next_after": next_after})


async def _list_past(request: web.Request, table: Table, scope: Scope, page: Page, as_of: str) -> web.Response:
    async with request.app[DATABASE].snapshot() as session:
        version = await read_version(session, as_of)
        past = await read_past_page(session, table, scope, page, version)
    told = {"data": past.rows, "has_more": past.has_more, "next_after": past.next_after, "as_of": version}
    return json_answer({"success": True, **told})


async def _read(request: web.Request, table: Table) -> web.Response:
    scope = await _scope(request, table)
    as_of, include_deleted = request.query.get("as_of"), read_flag(request.query, "include_deleted")
    if as_of is not None:
        async with request.app[DATABASE].snapshot() as session:
            at = await read_version(session, as_of)
            row, version = await read_past_record(session, table, scope, _record_id(request), at, include_deleted=include_deleted)
        return json_answer({"success": True, "data": row, "version": version, "as_of": at})
    return await _answer(request, table, scope, _record_id(request), include_deleted=include_deleted)


async def _create(request: web.Request, table: Table) -> web.Response:
    scope = await _scope(request, table, writes=True)
    cleaned = _cleaned(table, scope, await read_json_object(request), is_insert=True)
    writer = Writer(table, scope, request_id(request))

    async def work(session: Session) -> tuple[int, int]:
        return await writer.insert(session, cleaned.values)

    origin_id, record_id = await request.app[DATABASE].run(work, attempts=request.app[SETTINGS].push_attempts_max)
    await _written(request, table, scope.company_id, origin_id)
    return await _answer(request, table, scope, record_id, status=201, ignored=cleaned.ignored, is_written=True)


async def _create_company(request: web.Request, table: Table) -> web.Response:
    """Anyone who is signed in may found a company, and is its owner."""
    identity = await authenticate(request)
    body = await read_json_object(request)
    cleaned = _cleaned(table, _FOUNDER, body, is_insert=True)

    async def work(session: Session) -> tuple[int, int]:
        return await create_company(
            session,
            cleaned.values,
            login_id=identity.login_id,
            device_id=identity.device_id,
            request_id=request_id(request),
        )

    origin_id, company_id = await request.app[DATABASE].run(work, attempts=request.app[SETTINGS].push_attempts_max)
    await _written(request, table, company_id, origin_id)
    scope = await scope_of(request, identity, company_id)
    return await _answer(request, table, scope, company_id, status=201, ignored=cleaned.ignored, is_written=True)


async def _change(request: web.Request, table: Table) -> web.Response:
    scope = await _scope(request, table, writes=True)
    record_id, if_match = _record_id(request), read_if_match(request)
    cleaned = _cleaned(table, scope, await read_json_object(request), is_insert=False)
    writer = Writer(table, scope, request_id(request))

    async def work(session: Session) -> int:
        return await writer.update(session, record_id, cleaned.values, if_match)

    origin_id = await request.app[DATABASE].run(work, attempts=request.app[SETTINGS].push_attempts_max)
    await _written(request, table, scope.company_id, origin_id)
    return await _answer(request, table, scope, record_id, ignored=cleaned.ignored, is_written=True)


async def _delete(request: web.Request, table: Table) -> web.Response:
    scope = await _scope(request, table, writes=True)
    record_id, if_match = _record_id(request), read_if_match(request)
    if table.is_scope:
        raise forbidden("a company cannot be deleted")
    writer = Writer(table, scope, request_id(request))

    async def work(session: Session) -> int:
        return await writer.delete(session, record_id, if_match)

    origin_id = await request.app[DATABASE].run(work, attempts=request.app[SETTINGS].push_attempts_max)
    await _written(request, table, scope.company_id, origin_id)
    return await _answer(request, table, scope, record_id, is_written=True)


async def _scope(request: web.Request, table: Table, *, writes: bool = False) -> Scope:
    """The company is chosen by `?company_id=` where the user has several; a body's never counts."""
    identity = await authenticate(request)
    scope = await scope_of(request, identity, read_company_id(request.query.get("company_id")))
    if table.name not in (scope.writable if writes else scope.readable):
        raise forbidden()
    return scope


def _cleaned(table: Table, scope: Scope, data: Mapping[str, Any], *, is_insert: bool) -> Cleaned:
    cleaned = clean(table, scope, data, is_insert=is_insert)
    if cleaned.problems:
        names = ", ".join(cleaned.problems)
        raise SyncError(422, "bad_value", f"these columns cannot hold what was sent: {names}", details=cleaned.problems)
    return cleaned


async def _written(request: web.Request, table: Table, company_id: int, origin_id: int) -> None:
    if table.name in _AFFECTS_SCOPES:
        request.app[SCOPES].forget()
    await settle(request, origin_id, company_id)


async def _answer(
    request: web.Request,
    table: Table,
    scope: Scope,
    record_id: int,
    *,
    status: int = 200,
    ignored: list[str] | None = None,
    include_deleted: bool = False,
    is_written: bool = False,
) -> web.Response:
    """The record as it stands. One that was just written may be gone again: that is told by its id alone, and is no failure."""
    async with request.app[DATABASE].read() as session:
        try:
            row, version = await read_record(session, table, scope, record_id, include_deleted=include_deleted or is_written)
        except SyncError as problem:
            if not is_written or problem.status != 404:
                raise
            row, version = {"id": record_id}, None
    body: dict[str, Any] = {"success": True, "data": row, "version": version}
    if ignored is not None:
        body["ignored"] = ignored
    return json_answer(body, status=status, headers={"ETag": f'"{version}"'} if version is not None else None)


def _record_id(request: web.Request) -> int:
    text = request.match_info["id"]
    if not (text.isascii() and text.isdecimal() and len(text) <= 16 and int(text) <= ID_MAX):
        raise not_found()
    return int(text)
