"""People who can sign in, the companies they work for, and how both begin."""

from __future__ import annotations

from typing import Any

from api.db import DuplicateKey, Session
from schema.errors import SyncError

_FIND = "SELECT id, password_hash, is_active FROM logins WHERE email = %s"
_INSERT = "INSERT INTO logins (email, full_name, password_hash) VALUES (%s, %s, %s)"
_READ = "SELECT id, email, full_name FROM logins WHERE id = %s"
_COMPANIES = """
SELECT c.id, c.name, u.role FROM users u JOIN companies c ON c.id = u.company_id
WHERE u.login_id = %s AND u.is_active AND u.deleted_at IS NULL AND c.is_active AND c.deleted_at IS NULL
ORDER BY c.id
"""
_INSERT_COMPANY = "INSERT INTO companies (name) VALUES (%s)"
_INSERT_OWNER = "INSERT INTO users (company_id, login_id, full_name, email, role) VALUES (%s, %s, %s, %s, 'owner')"


async def find_login(session: Session, email: str) -> tuple[int, str, bool] | None:
    """Return (id, password hash, is active) of an e-mail, or None."""
    row = await session.fetch_one(_FIND, (email,))
    return (row[0], row[1], bool(row[2])) if row else None


async def create_login(session: Session, email: str, full_name: str, password_hash: str) -> int:
    """Store a new login and return its id. Raises SyncError 409 `email_taken`."""
    try:
        return (await session.execute(_INSERT, (email, full_name, password_hash))).last_id
    except DuplicateKey:
        raise SyncError(409, "email_taken", "this e-mail is registered already: sign in") from None


async def create_company(session: Session, name: str) -> int:
    """Store a new company and return its id."""
    return (await session.execute(_INSERT_COMPANY, (name,))).last_id


async def create_owner(session: Session, company_id: int, login_id: int) -> int:
    """Make the login an owner of the company and return the id of the users row."""
    row = await session.fetch_one(_READ, (login_id,))
    assert row is not None
    return (await session.execute(_INSERT_OWNER, (company_id, login_id, row[2], row[1]))).last_id


async def read_user(session: Session, login_id: int) -> dict[str, Any]:
    """Return `{id, email, full_name, companies: [{id, name, role}]}` as the contract shows it; `id` is the login's."""
    row = await session.fetch_one(_READ, (login_id,))
    assert row is not None
    companies = await session.fetch_all(_COMPANIES, (login_id,))
    return {
        "id": row[0],
        "email": row[1],
        "full_name": row[2],
        "companies": [{"id": company_id, "name": name, "role": role} for company_id, name, role in companies],
    }
