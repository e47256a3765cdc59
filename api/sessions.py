"""Sign-ins as rows: made, checked, refreshed, revoked. The access and the refresh token of one end together."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from api.db import Session
from api.devices import device_revoked
from api.tokens import first_refresh, hash_refresh, new_session_id, next_refresh, session_of_refresh
from schema.errors import SyncError

REFRESH_GRACE_SECONDS = 30
_INSERT = """
INSERT INTO sessions (id, login_id, device_id, refresh_hash, expires_at)
VALUES (%s, %s, %s, %s, CURRENT_TIMESTAMP(6) + INTERVAL %s SECOND)
"""
_STATE = """
SELECT s.id, s.login_id, s.device_id, s.revoked_at IS NOT NULL OR NOT l.is_active, d.revoked_at IS NOT NULL
FROM sessions s JOIN logins l ON l.id = s.login_id LEFT JOIN devices d ON d.device_id = s.device_id WHERE s.id IN ({ids})
"""
_LOCK = """
SELECT login_id, device_id, refresh_hash, previous_refresh_hash, revoked_at, rotated_at, expires_at, CURRENT_TIMESTAMP(6)
FROM sessions WHERE id = %s FOR UPDATE
"""
_ROTATE = """
UPDATE sessions SET previous_refresh_hash = refresh_hash, refresh_hash = %s, rotated_at = CURRENT_TIMESTAMP(6),
    expires_at = CURRENT_TIMESTAMP(6) + INTERVAL %s SECOND
WHERE id = %s
"""
_REVOKE = "UPDATE sessions SET revoked_at = CURRENT_TIMESTAMP(6) WHERE id = %s AND revoked_at IS NULL"


@dataclass(frozen=True, slots=True)
class SignIn:
    """One sign-in and the refresh token that its client holds next."""

    session_id: bytes
    login_id: int
    device_id: str | None
    refresh_token: str


def invalid_token() -> SyncError:
    """Return the 401 that is the same for every token that does not count."""
    return SyncError(401, "invalid_token", "sign in again", headers={"WWW-Authenticate": "Bearer"})


async def begin(session: Session, login_id: int, device_id: str | None, *, seconds: int) -> SignIn:
    """Store a new sign-in whose refresh token lasts `seconds`."""
    session_id = new_session_id()
    token = first_refresh(session_id)
    await session.execute(_INSERT, (session_id, login_id, device_id, hash_refresh(token), seconds))
    return SignIn(session_id, login_id, device_id, token)


@dataclass(frozen=True, slots=True)
class SignInState:
    """How a sign-in stands."""

    login_id: int
    device_id: str | None
    is_ended: bool
    is_device_revoked: bool


async def read_states(session: Session, ids: Sequence[bytes]) -> list[SignInState | None]:
    """Return how sign-ins stand, in their order; None for one that is unknown."""
    rows = await session.fetch_all(_STATE.format(ids=", ".join("%s" for _ in ids)), ids)
    found = {row[0]: SignInState(row[1], row[2], bool(row[3]), bool(row[4])) for row in rows}
    return [found.get(session_id) for session_id in ids]


async def check(session: Session, session_id: bytes, login_id: int, device_id: str | None) -> None:
    """Raise SyncError 401 unless the sign-in stands."""
    demand_standing((await read_states(session, [session_id]))[0], login_id, device_id)


def demand_standing(state: SignInState | None, login_id: int, device_id: str | None) -> None:
    """Raise SyncError 401 unless the sign-in stands: neither it, nor its login, nor its device was revoked."""
    if state is None or state.login_id != login_id or state.device_id != device_id:
        raise invalid_token()
    if state.is_device_revoked:
        raise device_revoked()
    if state.is_ended:
        raise invalid_token()


async def refresh(session: Session, secret: str, token: str, *, seconds: int) -> SignIn | None:
    """Rotate a refresh token in a transaction; None where the sign-in does not stand, and the transaction must commit all the same.

    The token before the present one is honoured for 30 s and gets the very successor it got the first time: an answer may be
    lost, and twenty requests may run at once. Reused later, it is a stolen one, and the sign-in is revoked (RFC 9700, 4.14.2).
    """
    session_id = session_of_refresh(token)
    row = await session.fetch_one(_LOCK, (session_id,)) if session_id else None
    if row is None or session_id is None:
        return None
    login_id, device_id, present, previous, revoked_at, rotated_at, expires_at, now = row
    if revoked_at is not None or expires_at <= now:
        return None
    sent = hash_refresh(token)
    is_in_grace = rotated_at is not None and now - rotated_at <= dt.timedelta(seconds=REFRESH_GRACE_SECONDS)
    if sent != present and not is_in_grace:
        await revoke(session, session_id)
        return None
    if sent not in (present, previous):
        return None
    successor = next_refresh(secret, token)
    if sent == present:
        await session.execute(_ROTATE, (hash_refresh(successor), seconds, session_id))
    return SignIn(session_id, login_id, device_id, successor)


async def revoke(session: Session, session_id: bytes) -> None:
    """End a sign-in: its access tokens and its refresh token."""
    await session.execute(_REVOKE, (session_id,))
