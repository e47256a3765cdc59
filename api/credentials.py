"""The bodies of register, login and refresh: parsed, bounded values, or a refusal that names each field."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from api.passwords import CHARACTERS_MIN
from api.requests import malformed, read_device_id
from schema.errors import SyncError

CHARACTERS_MAX = 255
# One @ with something on each side and no space: whether mail arrives there only a mail can tell.
_EMAIL = re.compile(r"[^\s@\x00-\x1f]+@[^\s@\x00-\x1f]+")
_TOO_LONG_EMAIL = f"longer than {CHARACTERS_MAX} characters"


@dataclass(frozen=True, slots=True)
class Credentials:
    """An e-mail in its one form (trimmed, lower case), a password, and the device that signs in."""

    email: str
    password: str
    device_id: str | None
    device_name: str | None

    @classmethod
    def read(cls, body: Mapping[str, Any], password_bytes_max: int) -> Self:
        """Raises SyncError: 400 `malformed` for what is missing or not text, 422 `bad_value` for what is too long."""
        email = _text(body, "email").strip().lower()
        password = _text(body, "password")
        problems = {}
        if len(email) > CHARACTERS_MAX:
            problems["email"] = _TOO_LONG_EMAIL
        if len(password.encode()) > password_bytes_max:
            problems["password"] = f"longer than {password_bytes_max} bytes"
        _refuse(problems)
        name = body.get("device_name")
        return cls(email, password, read_device_id(body.get("device_id")), name[:CHARACTERS_MAX] if isinstance(name, str) else None)


@dataclass(frozen=True, slots=True)
class Registration:
    """A new person; `company_name` is the person's own name where none was given."""

    credentials: Credentials
    name: str
    company_name: str

    @classmethod
    def read(cls, body: Mapping[str, Any], password_bytes_max: int) -> Self:
        """Raises SyncError as `Credentials.read`, and 422 for a short password, a bad e-mail or an empty name."""
        credentials = Credentials.read(body, password_bytes_max)
        name = _text(body, "name").strip()
        company_name = body.get("company_name")
        if company_name is not None and not isinstance(company_name, str):
            raise malformed("company_name must be text")
        company_name = (company_name or "").strip() or name
        problems = {}
        if not _EMAIL.fullmatch(credentials.email):
            problems["email"] = "not an e-mail address"
        if len(credentials.password) < CHARACTERS_MIN:
            problems["password"] = f"shorter than {CHARACTERS_MIN} characters"
        for field, value in (("name", name), ("company_name", company_name)):
            if not 1 <= len(value) <= CHARACTERS_MAX:
                problems[field] = f"1 to {CHARACTERS_MAX} characters expected"
        _refuse(problems)
        return cls(credentials, name, company_name)


def read_refresh_token(body: Mapping[str, Any]) -> str:
    """Return the refresh token. Raises SyncError 400 `malformed`."""
    return _text(body, "refresh_token")


def _text(body: Mapping[str, Any], field: str) -> str:
    value = body.get(field)
    if not isinstance(value, str) or not value:
        raise malformed(f"{field} must be text")
    return value


def _refuse(problems: Mapping[str, str]) -> None:
    if problems:
        raise SyncError(422, "bad_value", "; ".join(f"{field}: {why}" for field, why in problems.items()), details=problems)
