"""Reads pages of a company's feed from the change log (contract §2.1, §2.2). Rows stay bytes: MySQL writes a change's JSON around
the row's, which was made once, by the tailer.

A short way back is a range read of sync_changes, repeated records dropped in the page. A long one, and the first up to the head
it began at, walks sync_live, so it costs what the live records cost and not what the history costs. Either is one statement a page,
each row read once, unless a large transaction stands at its end. Each statement sees one moment of its own: changes do not alter,
and what a walk misses because it changed meanwhile has a version above the head and comes after it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from api.db import Database, Session
from api.heads import Head

TX_ROWS = 16
"""Read beyond a page for the end of its last transaction: most are small. Where that does not do, this many times as many."""
WALK_PAGES = 4
"""A cursor so many pages of versions behind the head walks sync_live: of what lies between, much may be history."""


class StateMoved(Exception):
    """A new epoch has begun, or history was pruned, since the head was read that a page is wanted for."""


class FeedRow(NamedTuple):
    """A row of sync_changes as a page needs it; texts are bytes. `change`: its JSON, whose last member is `data`.

    `exact_for`: the device that made this change, where the row stands exactly as that device sent it.
    """

    version: int
    table: bytes
    record_id: int
    tx: int
    exact_for: bytes | None
    for_device: bytes | None
    prev_version: int | None
    sealed: bytes | None
    change: bytes


Read = Callable[[int, int], Awaitable[list[FeedRow]]]
"""after, limit → the first changes beyond a version."""


class PageRequest(msgspec.Struct, frozen=True):
    """What to read: changes after `after` and up to the head, of `tables` (None: every table), for one company.

    `device_id`: whose redeliveries to look for; None where it has none. `limit` is what the client wants, `limit_max` how far a
    page may grow to end with a transaction. Tombstones up to `fresh_head` are left out of walks: the device began from 0 at that
    head and never had those records.
    """

    company_id: int
    device_id: str | None
    tables: tuple[str, ...] | None
    after: int
    head: Head
    limit: int
    limit_max: int
    fresh_head: int
    is_history: bool


class Page(msgspec.Struct, frozen=True):
    """`last`: the cursor that goes on from here. `is_cut`: the page ends inside a transaction larger than a page may be."""

    rows: list[FeedRow]
    last: int
    has_more: bool
    is_cut: bool = False


_COLUMNS = """c.version, c.table_name, c.record_id, c.tx, IF(c.is_exact, c.origin_device_id, NULL), c.for_device, c.prev_version,
    c.sealed, CONCAT(
        '{"id":', c.version, ',"table":"', c.table_name, '","record_id":', c.record_id, ',"operation":"', c.operation,
        '","version":', c.version, ',"timestamp":"', c.timestamp, '","origin":"', c.origin,
        '","device_id":', COALESCE(JSON_QUOTE(c.device_id), 'null'), ',"local_id":', COALESCE(JSON_QUOTE(c.local_id), 'null'),
        ',"tx":', c.tx, ',"data":', c.data, '}')"""
_IS_AS_IT_WAS = "SELECT 1 FROM sync_state WHERE id = 1 AND epoch = %s AND head >= %s AND min_version = %s"
_IS_AT_HEAD = "SELECT 1 FROM sync_state WHERE id = 1 AND head = %s"
_CHANGES = f"""
SELECT {_COLUMNS} FROM sync_changes c
WHERE c.company_id = %s AND c.version > %s AND c.version <= %s AND (c.for_device IS NULL OR c.for_device = %s) AND <tables>
    AND EXISTS ({_IS_AS_IT_WAS})
ORDER BY c.version LIMIT %s
"""
# What is deleted is asked of the change, which is read anyway: the key on (company_id, version) has the rest, so that nothing of
# sync_live itself is read. The order is that of the key: with another one MySQL would sort the company.
_LIVE = f"""
SELECT {_COLUMNS} FROM sync_live l STRAIGHT_JOIN sync_changes c ON c.company_id = l.company_id AND c.version = l.version
WHERE l.company_id = %s AND l.version > %s AND l.version <= %s AND NOT (c.operation = 'DELETE' AND l.version <= %s) AND <tables>
    AND EXISTS ({_IS_AS_IT_WAS})
ORDER BY l.version LIMIT %s
"""
_REDELIVERED = f"""
SELECT {_COLUMNS} FROM sync_changes c
WHERE c.company_id = %s AND c.version > %s AND c.version <= %s AND c.for_device = %s AND <tables>
"""
_NEWEST = "SELECT table_name, record_id, version FROM sync_live WHERE company_id = %s AND (table_name, record_id) IN ({pairs})"


async def read_page(feed: Database, wanted: PageRequest) -> Page:
    """Return the page after `wanted.after`.

    Raises StateMoved: what `wanted` was made from is not so any more, and the page could lack what was pruned meanwhile.
    """
    is_walk = not wanted.is_history and _is_walk(wanted)
    read = _read_live if is_walk else _read_changes
    async with feed.read() as session:
        page = await end_with_tx(wanted, partial(read, session, wanted))
        if is_walk and not page.has_more and not await session.fetch_one(_IS_AT_HEAD, (wanted.head.version,)):
            page = replace(
                page, has_more=True
            )  # the walk left out what has changed meanwhile: nothing is whole until that is there
        if is_walk and wanted.device_id is None:
            return page
        kept = page.rows if wanted.is_history else newest_of_each(page.rows)
        return replace(page, rows=await _without_void(session, wanted, kept))


def _is_walk(wanted: PageRequest) -> bool:
    is_far = wanted.head.version - wanted.after > WALK_PAGES * wanted.limit
    return is_far or not wanted.after or wanted.after < wanted.fresh_head


def newest_of_each(rows: Sequence[FeedRow]) -> list[FeedRow]:
    """Return each record once, with its newest state, still ascending by version."""
    newest = {(row.table, row.record_id): row.version for row in rows}
    return [row for row in rows if newest[row.table, row.record_id] == row.version]


async def read_changes(feed: Database, wanted: PageRequest, limit: int) -> list[FeedRow]:
    """Return the first changes after `wanted.after`, history too. Raises StateMoved."""
    async with feed.read() as session:
        return await _read_changes(session, wanted, wanted.after, limit)


async def end_with_tx(wanted: PageRequest, read: Read) -> Page:
    """Read a page that ends with a transaction; one larger than `limit_max` is cut, and says so."""
    limit, asked = wanted.limit, wanted.limit + TX_ROWS
    rows = await read(wanted.after, asked)
    if len(rows) <= limit:
        return Page(rows, wanted.head.version, False)
    if rows[limit].tx != rows[limit - 1].tx:
        rows = rows[:limit]
        return Page(rows, rows[-1].version, True)
    tx, is_end, more = rows[limit].tx, len(rows) < asked, TX_ROWS
    while rows[-1].tx == tx and len(rows) <= wanted.limit_max and not is_end:
        more = min(more * TX_ROWS, wanted.limit_max + 1 - len(rows))
        found = await read(rows[-1].version, more)
        rows += found
        is_end = len(found) < more
    end = next((at for at in range(limit, len(rows)) if rows[at].tx != tx), len(rows))
    if end < len(rows) and end <= wanted.limit_max:
        return Page(rows[:end], rows[end - 1].version, True)
    if end <= wanted.limit_max:
        return Page(rows, wanted.head.version, False)
    first = next(at for at, row in enumerate(rows) if row.tx == tx)
    if first > 0:
        return Page(rows[:first], rows[first - 1].version, True)
    rows = rows[: wanted.limit_max]
    return Page(rows, rows[-1].version, True, is_cut=True)


async def _read_changes(session: Session, wanted: PageRequest, after: int, limit: int) -> list[FeedRow]:
    sql, names = _with_tables(_CHANGES, "c", wanted)
    params = (wanted.company_id, after, wanted.head.version, wanted.device_id, *names, *_state(wanted.head), limit)
    return await _rows_as_it_was(session, wanted, sql, params)


async def _read_live(session: Session, wanted: PageRequest, after: int, limit: int) -> list[FeedRow]:
    """Walk the newest versions; redeliveries, which supersede nothing and so are not among them, are merged in."""
    sql, names = _with_tables(_LIVE, "l", wanted)
    params = (wanted.company_id, after, wanted.head.version, wanted.fresh_head, *names, *_state(wanted.head), limit)
    rows = await _rows_as_it_was(session, wanted, sql, params)
    if after and wanted.device_id is not None:
        sql, names = _with_tables(_REDELIVERED, "c", wanted)
        last = rows[-1].version if len(rows) == limit else wanted.head.version
        again = await session.fetch_all(sql, (wanted.company_id, after, last, wanted.device_id, *names))
        rows = sorted([*rows, *map(_row, again)], key=lambda row: row.version)[:limit]
    return rows


_row = FeedRow._make


def _state(head: Head) -> tuple[int, int, int]:
    return head.epoch, head.version, head.min_version


async def _rows_as_it_was(session: Session, wanted: PageRequest, sql: str, params: Sequence[Any]) -> list[FeedRow]:
    """Return the rows of a statement that finds none where the state has moved. Raises StateMoved."""
    rows = list(map(_row, await session.fetch_all(sql, params)))
    if not rows and not await session.fetch_one(_IS_AS_IT_WAS, _state(wanted.head)):
        raise StateMoved
    return rows


async def _without_void(session: Session, wanted: PageRequest, rows: list[FeedRow]) -> list[FeedRow]:
    """Leave out redeliveries of records that changed again since: what they would say is no longer so."""
    again = [row for row in rows if row.for_device is not None]
    if not again:
        return rows
    sql = _NEWEST.format(pairs=", ".join("(%s, %s)" for _ in again))
    pairs = [value for row in again for value in (row.table, row.record_id)]
    found = await session.fetch_all(sql, (wanted.company_id, *pairs))
    newest = {(table, record_id): version for table, record_id, version in found}
    return [row for row in rows if row.for_device is None or newest.get((row.table, row.record_id)) == row.prev_version]


def _with_tables(sql: str, alias: str, wanted: PageRequest) -> tuple[str, tuple[str, ...]]:
    if wanted.tables is None:
        return sql.replace("<tables>", "TRUE"), ()
    marks = ", ".join("%s" for _ in wanted.tables)
    return sql.replace("<tables>", f"{alias}.table_name IN ({marks})"), wanted.tables
