"""Access tokens (JWT, HS256) and refresh tokens (opaque). Pure: what they mean is in the sessions table.

Sources: RFC 8725 (JWT best practice), RFC 9700 section 4.14.2 (refresh token rotation).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass

import jwt

from schema.errors import StartError

ALGORITHM = "HS256"
SECRET_BYTES_MIN = 32
TOKEN_CHARACTERS_MAX = 2048
SESSION_ID_BYTES = 16
REFRESH_BYTES = 32
_HEADER_CLAIMS = {"alg": ALGORITHM, "typ": "JWT"}
_HEADER = base64.urlsafe_b64encode(json.dumps(_HEADER_CLAIMS, separators=(",", ":")).encode()).rstrip(b"=").decode()
_BAD_TOKEN = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)


@dataclass(frozen=True, slots=True)
class AccessToken:
    """What a verified access token says. `expires_at` is Unix time in seconds."""

    login_id: int
    session_id: bytes
    device_id: str | None
    expires_at: int


def check_secret(secret: str) -> None:
    """Raise StartError for a signing key that can be guessed (RFC 7518, 3.2: at least as long as the hash)."""
    if len(secret.encode()) < SECRET_BYTES_MIN:
        raise StartError(
            "jwt_secret_short",
            f"the signing key has fewer than {SECRET_BYTES_MIN} bytes",
            hint="set SYNC_JWT_SECRET to `openssl rand -base64 48`",
        )


def sign_access(secret: str, token: AccessToken, *, issued_at: int) -> str:
    """Return the signed token."""
    claims: dict[str, object] = {
        "sub": str(token.login_id),
        "sid": token.session_id.hex(),
        "typ": "access",
        "iat": issued_at,
        "exp": token.expires_at,
    }
    if token.device_id is not None:
        claims["did"] = token.device_id
    return jwt.encode(claims, secret, algorithm=ALGORITHM, headers=dict(_HEADER_CLAIMS))


def verify_access(secret: str, text: str) -> AccessToken | None:
    """Return what a token of ours says, None for anything else.

    Only the very header that `sign_access` writes is let through, so alg, kid, jku, jwk and crit of a stranger are never read.
    """
    if len(text) > TOKEN_CHARACTERS_MAX or not text.isascii() or text.partition(".")[0] != _HEADER:
        return None
    try:
        claims = jwt.decode(text, secret, algorithms=[ALGORITHM], options={"require": ["exp", "iat", "sub", "sid", "typ"]})
        device_id = claims.get("did")
        session_id = bytes.fromhex(claims["sid"])
        is_ours = claims["typ"] == "access" and type(claims["exp"]) is int and len(session_id) == SESSION_ID_BYTES
        if not is_ours or not (device_id is None or isinstance(device_id, str)):
            return None
        return AccessToken(int(claims["sub"]), session_id, device_id, claims["exp"])
    except _BAD_TOKEN:
        return None


def new_session_id() -> bytes:
    """Return the id of a new sign-in."""
    return secrets.token_bytes(SESSION_ID_BYTES)


def first_refresh(session_id: bytes) -> str:
    """Return a sign-in's first refresh token: the session's id and 32 random bytes."""
    return _refresh_text(session_id, secrets.token_bytes(REFRESH_BYTES))


def next_refresh(secret: str, token: str) -> str:
    """Return the token that follows `token`: always the same one, so that requests in parallel, and a retry after a lost answer,
    get one lineage though only hashes are stored. Without the signing key nobody can compute it.
    """
    session_id = session_of_refresh(token)
    if session_id is None:
        raise ValueError("not a refresh token")
    key = hashlib.sha256(b"matrix-sync refresh " + secret.encode()).digest()
    return _refresh_text(session_id, hmac.digest(key, token.encode(), "sha256"))


def session_of_refresh(token: str) -> bytes | None:
    """Return the session a refresh token names, None where it is not of the form."""
    if len(token) > TOKEN_CHARACTERS_MAX or not token.isascii():
        return None
    try:
        raw = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
    except ValueError:
        return None
    return raw[:SESSION_ID_BYTES] if len(raw) == SESSION_ID_BYTES + REFRESH_BYTES else None


def hash_refresh(token: str) -> bytes:
    """Return what is stored of a refresh token."""
    return hashlib.sha256(token.encode()).digest()


def _refresh_text(session_id: bytes, rest: bytes) -> str:
    return base64.urlsafe_b64encode(session_id + rest).decode()
