"""From a cursor to an answer: the page that is found, remembered as given, and written as JSON (contract §2)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial

import msgspec
import orjson
from aiohttp import web

from api.db_errors import busy
from api.deliveries import Deliveries
from api.delivery_store import DELIVERIES, Found, seen_by
from api.elsewhere import pass_over_elsewhere, read_elsewhere
from api.feed import FeedRow, Page, PageRequest, StateMoved, read_page
from api.head_watch import HEADS
from api.heads import LAG, Head, check_cursor, retention_reset
from api.keys import FEED, SETTINGS
from api.pages import PAGES, SharedPage
from api.pull_request import PullRequest, asked_tables
from api.quiet import QUIET
from api.scope import Scope
from api.standing import STANDINGS, Standing
from schema.tables import TABLES
from schema.values import rfc3339_from_us
from schema.versions import EMPTY_HEAD

ATTEMPTS = 3


class FoundPage(msgspec.Struct, frozen=True):
    """A page and what it was found by. `stored` are the deliveries as they stood, and `state` how they are stored; `deliveries` as
    this scope finds them; `after`: where the page began, at or below the cursor that was sent. `read_at`: the head its rows were
    read at, `head` or one before; `changes`: all of them as JSON, where that is ready. `is_known`: the same was asked, found and
    remembered before.
    """

    head: Head
    stored: Deliveries
    state: bytes | None
    deliveries: Deliveries
    elsewhere: Mapping[int, Deliveries]
    after: int
    page: Page
    read_at: int
    changes: bytes | None = None
    is_known: bool = False

    @property
    def is_empty(self) -> bool:
        """There is nothing new for the device."""
        return not self.page.rows and not self.page.has_more

    def cursor(self, sent: int) -> int:
        """The cursor to answer one that asked from `sent`.

        A page that began further back than was asked is not answered with the cursor that was sent: the same one again would not
        tell whether the page arrived. One below it, and what stands at it comes again.
        """
        return self.page.last - 1 if self.page.rows and self.after < sent == self.page.last else self.page.last


async def find_page(app: web.Application, scope: Scope, pull: PullRequest, *, start: int | None = None) -> FoundPage:
    """Find the page as of one moment after the request came. `start`: where a stream goes on by itself.

    What it is known to need is asked for at the same time. Raises SyncError: 410 `reset_required`, 503.
    """
    app[LAG].begin()
    app[PAGES].read_ahead(scope.company_id, app[HEADS].hinted_head(scope.company_id))
    for _ in range(ATTEMPTS):
        with suppress(StateMoved):
            return await _find_page(app, scope, pull, start)
    raise busy()


async def _find_page(app: web.Application, scope: Scope, pull: PullRequest, start: int | None) -> FoundPage:
    standing = await app[STANDINGS].read(scope.company_id, pull.device_id)
    head, stored = standing.head, standing.deliveries
    began = app[QUIET].began(scope, pull, standing) if start is None else None
    if began is not None:
        return FoundPage(head, stored, standing.state, stored, {}, began, Page([], head.version, False), head.version, b"", True)
    await check_cursor(app[FEED], head, pull.last_version if start is None else start)
    deliveries = _seen_by(scope, pull, head, stored)
    elsewhere: Mapping[int, Deliveries] = {}
    if scope.is_in_several:
        async with app[FEED].read() as session:
            elsewhere = await read_elsewhere(session, scope, pull.device_id)
    tables = asked_tables(scope, pull.tables)
    if deliveries.misses_tombstones(tables, pull.last_version if start is None else start, head.min_version):
        raise retention_reset()
    after = _begin(pull, tables, deliveries, start, is_known_elsewhere=bool(elsewhere))
    read = await _read(app, scope, pull, standing, deliveries, tables, after)
    head = max(head, read.read_at, key=lambda place: place.version)
    return FoundPage(head, stored, standing.state, deliveries, elsewhere, after, read.page, read.read_at.version, read.changes)


async def note_given(app: web.Application, scope: Scope, pull: PullRequest, found: FoundPage) -> None:
    """Remember the cursor before the answer leaves. An empty page by a device that is up to date says nothing new."""
    if found.is_known:
        return
    await pass_over_elsewhere(app, pull.device_id, found.elsewhere, pull.last_version)
    tables = asked_tables(scope, pull.tables)
    is_changed = found.deliveries != found.stored
    if found.deliveries.is_known(tables, found.after, pull.last_version) and found.is_empty and not is_changed:
        if not scope.is_in_several:
            app[QUIET].keep(scope, pull, found.stored, found.head, found.after)
        return
    head, cursor = found.head, found.cursor(pull.last_version)

    def pulled(now: Deliveries) -> Deliveries:
        seen = _seen_by(scope, pull, head, now)
        heads = {"head": head.version, "min_version": head.min_version, "read_at": found.read_at}
        last = found.page.last
        return seen.pulled(tables, found.after, last, **heads, sent=pull.last_version, told=cursor) if tables else seen

    before, after = found.stored, pulled(found.stored)
    if after == before:
        return  # asked for again, and nothing about it is new

    def update(now: Deliveries) -> Deliveries:
        return after if now is before else pulled(now)

    known = Found(found.state, after) if found.state is not None else None
    await app[DELIVERIES].update(scope.company_id, pull.device_id, update, is_pull=True, found=known)


async def answer_page(app: web.Application, scope: Scope, pull: PullRequest, found: FoundPage) -> bytes:
    """Return the answer's JSON, its cursor remembered."""
    lag_ms = await app[LAG].read_ms()
    await note_given(app, scope, pull, found)
    changes = found.changes
    if changes is None or pull.no_echo:
        changes = b",".join(change for _, change in encode_changes(scope, pull, found))
    rest = page_fields(scope, found, lag_ms)
    return b'{"success":true,"current_version":%d,"changes":[%b],%b' % (found.cursor(pull.last_version), changes, rest[1:])


def page_fields(scope: Scope, found: FoundPage, lag_ms: int) -> bytes:
    """What an answer says beside its changes and its cursor, as a JSON object."""
    has_more, head = b"true" if found.page.has_more else b"false", found.head
    now = rfc3339_from_us(time.time_ns() // 1000).encode()
    revoked = b',"revoked":%b' % orjson.dumps(scope.revoked) if scope.revoked else b""
    return b'{"has_more":%b,"head_version":%d,"epoch":%d,"lag_ms":%d,"server_time":"%b"%b}' % (
        has_more, head.version, head.epoch, lag_ms, now, revoked,
    )  # fmt: skip


def encode_changes(scope: Scope, pull: PullRequest, found: FoundPage) -> list[tuple[int, bytes]]:
    """Return the changes of a page, version and JSON, without those the device asked to be spared."""
    page = found.page
    rows = [row for row in page.rows if not (pull.no_echo and _is_echo(pull, found.deliveries, row))]
    return [(row.version, encode_change(row, scope, is_cut=page.is_cut and row is rows[-1])) for row in rows]


def _begin(
    pull: PullRequest, tables: tuple[str, ...], deliveries: Deliveries, start: int | None, *, is_known_elsewhere: bool
) -> int:
    """Return where the page begins."""
    if not tables:
        return pull.last_version
    after = deliveries.cursor_for(tables, pull.last_version) if start is None else start
    if start is None and is_known_elsewhere and not deliveries.tables:
        after = min(after, EMPTY_HEAD)  # its cursor speaks for another company; 0 would say that it has nothing of this one
    return after


async def _read(
    app: web.Application,
    scope: Scope,
    pull: PullRequest,
    standing: Standing,
    deliveries: Deliveries,
    tables: tuple[str, ...],
    after: int,
) -> SharedPage:
    head = standing.head
    if not tables or 0 < after >= standing.newest:
        return SharedPage(Page([], head.version, False), b"", head)
    is_beginner = after == 0 and not deliveries.tables
    wanted = PageRequest(
        company_id=scope.company_id,
        device_id=pull.device_id if standing.has_redeliveries else None,
        tables=None if len(tables) == len(TABLES) else tables,
        after=after,
        head=head,
        limit=pull.limit,
        limit_max=app[SETTINGS].page_changes_max,
        fresh_head=head.version if is_beginner else deliveries.fresh_head,
        is_history=pull.is_history,
    )
    encode = partial(_encode_page, scope)
    if standing.has_redeliveries or pull.is_history:
        page = await read_page(app[FEED], wanted)
        return SharedPage(page, encode(page), head)
    return await app[PAGES].read(wanted, standing.newest, encode, is_restricted=scope.may_see_restricted, is_beginner=is_beginner)


def _encode_page(scope: Scope, page: Page) -> bytes:
    return b",".join([encode_change(row, scope, is_cut=page.is_cut and row is page.rows[-1]) for row in page.rows])


def _seen_by(scope: Scope, pull: PullRequest, head: Head, deliveries: Deliveries) -> Deliveries:
    return seen_by(scope, deliveries).in_epoch(head.epoch, asked_tables(scope, pull.tables), pull.last_version)


def _is_echo(pull: PullRequest, deliveries: Deliveries, row: FeedRow) -> bool:
    """Whether the device surely has this: it made it, it stands exactly as it was sent, and the device did not begin anew since."""
    is_own = row.exact_for == pull.device_id.encode()
    return is_own and deliveries.knows_own(row.table.decode(), row.version, pull.last_version)


def encode_change(row: FeedRow, scope: Scope, *, is_cut: bool = False) -> bytes:
    """Return one change of a page as JSON: as it was read, with what this scope may see and the page must say put in."""
    change = splice_sealed(row.change, row.sealed) if scope.may_see_restricted else row.change
    return change[:-1] + b',"tx_end":false}' if is_cut else change


def splice_sealed(change: bytes, sealed: bytes | None) -> bytes:
    """Put the restricted columns into a change's JSON, which its `data` ends, for a role that may see them."""
    return change if sealed is None or sealed == b"{}" else change[:-2] + b"," + sealed[1:] + b"}"
