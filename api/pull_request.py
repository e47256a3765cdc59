"""A pull's body, checked (contract §2)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec

from api.requests import malformed, read_company_id, read_device_id
from api.scope import Scope
from schema.errors import SyncError
from schema.settings import Settings
from schema.tables import TABLES


class PullRequest(msgspec.Struct, frozen=True):
    """A pull's body, checked. `tables` None: every table the role may read. `wait_seconds`: how long to hold an empty answer."""

    device_id: str
    company_id: int | None
    last_version: int
    tables: tuple[str, ...] | None
    limit: int
    no_echo: bool
    is_history: bool
    wait_seconds: float = 0.0


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
        wait_seconds=_wait_seconds(body.get("wait"), settings.pull_wait_seconds_max),
    )


def read_last_version(value: Any) -> int:
    """Return a body's cursor. Raises SyncError 400."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise malformed("last_version must be a whole number, 0 or more")
    return value


def _wait_seconds(value: Any, seconds_max: int) -> float:
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise malformed("wait must be seconds, 0 or more")
    return min(float(value), float(seconds_max))


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
    return _readable(scope.readable, tables)


@lru_cache(maxsize=1024)
def _readable(readable: frozenset[str], tables: tuple[str, ...] | None) -> tuple[str, ...]:
    return tuple(name for name in (tables or TABLES) if name in readable)
