"""`POST /api/sync/pull`: from a cursor to a page (contract §2). What a page holds is read by `api.feed`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web

from api.auth import authenticate
from api.db import Session
from api.deliveries import Deliveries
from api.delivery_store import DELIVERIES, read_deliveries, seen_by
from api.elsewhere import pass_over_elsewhere, read_elsewhere
from api.feed import FeedRow, Page, PageRequest, read_page
from api.heads import LAG, Head, check_cursor, read_head, retention_reset
from api.keys import FEED, SETTINGS
from api.requests import malformed, read_company_id, read_device_id, read_json_object
from api.scope import Scope, scope_of
from schema.errors import SyncError
from schema.settings import Settings
from schema.tables import TABLES
from schema.values import rfc3339_from_us
from schema.versions import EMPTY_HEAD


@dataclass(frozen=True, slots=True)
class PullRequest:
    """A pull's body, checked. `tables` None: every table the role may read."""

    device_id: str
    company_id: int | None
    last_version: int
    tables: tuple[str, ...] | None
    limit: int
    no_echo: bool
    is_history: bool


async def handle_pull(request: web.Request) -> web.Response:
    """Answer a page. Raises SyncError: 400, 401, 403, 410 `reset_required`, 413, 503."""
    identity = await authenticate(request)
    pull = parse_pull(await read_json_object(request), request.app[SETTINGS])
    scope = await scope_of(request, identity, pull.company_id, pull.device_id)
    return web.Response(body=await answer_pull(request.app, scope, pull), content_type="application/json")


async def answer_pull(app: web.Application, scope: Scope, pull: PullRequest) -> bytes:
    """Return the answer's JSON, its cursor recorded."""
    async with app[FEED].snapshot() as session:
        head = await read_head(session)
        stored = await read_deliveries(session, scope.company_id, pull.device_id)
        await check_cursor(session, head, pull.last_version)
        deliveries = _seen_by(scope, pull, head, stored)
        elsewhere = await read_elsewhere(session, scope, pull.device_id)
        after, page = await _read(session, app[SETTINGS], scope, pull, head, deliveries, is_known_elsewhere=bool(elsewhere))
    # A page that began further back than was asked is not answered with the cursor that was sent: the same one again would not
    # tell whether the page arrived. One below it, and what stands at it comes again.
    cursor = page.last - 1 if page.rows and after < pull.last_version == page.last else page.last
    lag_ms = await app[LAG].read_ms()
    await pass_over_elsewhere(app, pull.device_id, elsewhere, pull.last_version)
    await _record(app, scope, pull, head, deliveries, after, page, cursor, is_changed=deliveries != stored)
    return _encode(scope, pull, head, deliveries, page, cursor, lag_ms)


def parse_pull(body: dict[str, Any], settings: Settings) -> PullRequest:
    """Check a body. Raises SyncError 400: `malformed`, `unknown_table`."""
    device_id = read_device_id(body.get("device_id"))
    if device_id is None:
        raise malformed("device_id must be text of 1 to 128 bytes")
    limit = body.get("limit")
    if limit is None:
        limit = settings.page_changes_default
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise malformed("limit must be a whole number above 0")
    return PullRequest(
        device_id=device_id,
        company_id=read_company_id(body.get("company_id")),
        last_version=read_last_version(body.get("last_version")),
        tables=_tables(body.get("tables")),
        limit=min(limit, settings.page_changes_max),
        no_echo=body.get("no_echo") is True,
        is_history=body.get("history") is True,
    )


def read_last_version(value: Any) -> int:
    """Return a body's cursor. Raises SyncError 400."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise malformed("last_version must be a whole number, 0 or more")
    return value


def _tables(value: Any) -> tuple[str, ...] | None:
    if value is None or value == []:
        return None
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise malformed("tables must be a list of texts")
    unknown = sorted(set(value) - set(TABLES))
    if unknown:
        raise SyncError(400, "unknown_table", f"no such table: {', '.join(name[:64] for name in unknown[:10])}")
    return tuple(name for name in TABLES if name in value)


def asked_tables(scope: Scope, tables: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return the tables that are asked for and may be read, in the order of the declarations."""
    return tuple(name for name in (tables or TABLES) if name in scope.readable)


async def _read(
    session: Session,
    settings: Settings,
    scope: Scope,
    pull: PullRequest,
    head: Head,
    deliveries: Deliveries,
    *,
    is_known_elsewhere: bool,
) -> tuple[int, Page]:
    tables = asked_tables(scope, pull.tables)
    if deliveries.misses_tombstones(tables, pull.last_version, head.min_version):
        raise retention_reset()
    if not tables:
        return pull.last_version, Page([], head.version, False)
    after = deliveries.cursor_for(tables, pull.last_version)
    if is_known_elsewhere and not deliveries.tables:
        after = min(after, EMPTY_HEAD)  # its cursor speaks for another company; 0 would say that it has nothing of this one
    is_fresh = after == 0 and not deliveries.tables
    wanted = PageRequest(
        company_id=scope.company_id,
        device_id=pull.device_id,
        tables=None if len(tables) == len(TABLES) else tables,
        after=after,
        head=head.version,
        limit=pull.limit,
        limit_max=settings.page_changes_max,
        fresh_head=head.version if is_fresh else deliveries.fresh_head,
        is_history=pull.is_history,
    )
    return after, await read_page(session, wanted)


def _seen_by(scope: Scope, pull: PullRequest, head: Head, deliveries: Deliveries) -> Deliveries:
    return seen_by(scope, deliveries).in_epoch(head.epoch, asked_tables(scope, pull.tables), pull.last_version)


async def _record(
    app: web.Application,
    scope: Scope,
    pull: PullRequest,
    head: Head,
    deliveries: Deliveries,
    after: int,
    page: Page,
    cursor: int,
    *,
    is_changed: bool,
) -> None:
    """Remember the cursor before the answer leaves. An empty page by a device that is up to date says nothing new."""
    tables = asked_tables(scope, pull.tables)
    if deliveries.is_known(tables, after, pull.last_version) and not page.rows and not page.has_more and not is_changed:
        return

    def pulled(now: Deliveries) -> Deliveries:
        seen = _seen_by(scope, pull, head, now)
        floor = {"head": head.version, "min_version": head.min_version}
        return seen.pulled(tables, after, page.last, **floor, sent=pull.last_version, told=cursor) if tables else seen

    await app[DELIVERIES].update(scope.company_id, pull.device_id, pulled, is_pull=True)


def _encode(scope: Scope, pull: PullRequest, head: Head, deliveries: Deliveries, page: Page, cursor: int, lag_ms: int) -> bytes:
    rows = [row for row in page.rows if not (pull.no_echo and _is_echo(pull, deliveries, row))]
    changes = b",".join(encode_change(row, scope, is_cut=page.is_cut and row is rows[-1]) for row in rows)
    rest = {
        "has_more": page.has_more,
        "head_version": head.version,
        "epoch": head.epoch,
        "lag_ms": lag_ms,
        "server_time": rfc3339_from_us(time.time_ns() // 1000),
    }
    if scope.revoked:
        rest["revoked"] = scope.revoked
    return b'{"success":true,"current_version":%d,"changes":[%b],%b' % (cursor, changes, orjson.dumps(rest)[1:])


def _is_echo(pull: PullRequest, deliveries: Deliveries, row: FeedRow) -> bool:
    """Whether the device surely has this: it made it, it stands exactly as it was sent, and the device did not begin anew since."""
    is_own = row.is_exact and row.origin_device_id == pull.device_id.encode()
    return bool(is_own) and deliveries.knows_own(row.table.decode(), row.version, pull.last_version)


def encode_change(row: FeedRow, scope: Scope, *, is_cut: bool = False) -> bytes:
    """Return one change of a page as JSON; its data is joined in as it is stored."""
    data = splice_sealed(row.data, row.sealed) if scope.may_see_restricted else row.data
    return (
        b'{"id":%d,"table":"%b","record_id":%d,"operation":"%b","data":%b,"version":%d,"timestamp":"%b","origin":"%b",'
        b'"device_id":%b,"local_id":%b,"tx":%d%b}'
    ) % (
        row.version,
        row.table,
        row.record_id,
        row.operation,
        data,
        row.version,
        row.timestamp,
        row.origin,
        _json_text(row.device_id),
        _json_text(row.local_id),
        row.tx,
        b',"tx_end":false' if is_cut else b"",
    )


def splice_sealed(data: bytes, sealed: bytes | None) -> bytes:
    """Put the restricted columns into a row's JSON, for a role that may see them."""
    return data if sealed is None or sealed == b"{}" else data[:-1] + b"," + sealed[1:]


def _json_text(text: bytes | None) -> bytes:
    return b"null" if text is None else orjson.dumps(text.decode())
