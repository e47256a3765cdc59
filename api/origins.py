"""The first row of each of the API's transactions: who caused it. The tailer stamps all changes of the transaction with it."""

from __future__ import annotations

from api.db import Session
from api.scope import Scope
from schema.changes import OriginKind

_APPEND = """
INSERT INTO sync_origins (kind, company_id, device_id, user_id, login_id, request_id, push_id) VALUES (%s, %s, %s, %s, %s, %s, %s)
"""


async def open_origin(
    session: Session, *, kind: OriginKind | str, scope: Scope, request_id: str, push_id: str | None = None
) -> int:
    """Append the origin of the caller's transaction, before anything else in it, and return its id."""
    row = (str(kind), scope.company_id, scope.device_id, scope.user_id, scope.login_id, request_id, push_id)
    return (await session.execute(_APPEND, row)).last_id


async def open_first_origin(session: Session, *, login_id: int | None, device_id: str | None, request_id: str) -> int:
    """The same for a transaction that makes its company, and perhaps its login."""
    row = (str(OriginKind.API), None, device_id, None, login_id, request_id, None)
    return (await session.execute(_APPEND, row)).last_id
