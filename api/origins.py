"""The first row of each of the API's transactions: who caused it. The tailer stamps all changes of the transaction with it."""

from __future__ import annotations

from typing import Any

from api.db import Result, Session, Statement
from api.id_floors import IS_RAISED, raise_id_floors
from api.scope import Scope
from schema.changes import OriginKind

_APPEND = "INSERT INTO sync_origins (kind, company_id, device_id, user_id, login_id, request_id, push_id)"
_VALUES = "SELECT %s, %s, %s, %s, %s, %s, %s"
_AS_THE_PAST_IS = f"FROM sync_state s WHERE s.id = 1 AND s.head >= %s AND {IS_RAISED}"
_READ_HEAD = "SELECT head FROM sync_state WHERE id = 1"
OriginRow = tuple[Any, ...]
"""Kind, company, device, user, login, request, push."""


async def open_origin(
    session: Session, *, kind: OriginKind | str, scope: Scope, request_id: str, push_id: str | None = None
) -> int:
    """Append the origin of the caller's transaction, before anything else in it, and return its id.

    Raises SyncError 503 where MySQL's past was replaced and no new epoch has begun; in a new one lost ids are passed over first.
    """
    row = origin_row(kind, scope, request_id, push_id)
    return await opened(session, row, await session.execute(*append_origin(session, row)))


def origin_row(kind: OriginKind | str, scope: Scope, request_id: str, push_id: str | None = None) -> OriginRow:
    """Return what an origin says."""
    return (str(kind), scope.company_id, scope.device_id, scope.user_id, scope.login_id, request_id, push_id)


async def open_first_origin(session: Session, *, login_id: int | None, device_id: str | None, request_id: str) -> int:
    """The same for a transaction that makes its company, and perhaps its login."""
    row: OriginRow = (str(OriginKind.API), None, device_id, None, login_id, request_id, None)
    return await opened(session, row, await session.execute(*append_origin(session, row)))


def append_origin(session: Session, row: OriginRow) -> Statement:
    """Whether a write may be accepted is asked in the same statement: it costs no round trip."""
    return f"{_APPEND} {_VALUES} {_AS_THE_PAST_IS}", (*row, session.head_floor)


async def opened(session: Session, row: OriginRow, done: Result) -> int:
    """Return the id of an origin, given what `append_origin` did. Raises as `open_origin`."""
    if done.rows == 0:
        head = await session.fetch_one(_READ_HEAD)
        session.confirm_head(head[0] if head is not None else 0)
        await raise_id_floors(session)
        done = await session.execute(f"{_APPEND} {_VALUES}", row)
    return done.last_id
