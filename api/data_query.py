"""The query of `GET /api/{table}`: a page, and filters by column, each checked against the declared columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import web

from api.requests import malformed
from api.scope import Scope
from api.writes import stored_columns
from schema.columns import ID_MAX, Access, Column, Kind
from schema.errors import SyncError
from schema.settings import Settings
from schema.tables import Table
from schema.values import BadValue, wire_from_client

_PAGE_NAMES = frozenset({"after", "limit", "include_deleted", "company_id", "as_of"})
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
NULL = "null"


@dataclass(frozen=True, slots=True)
class Filter:
    """A column and the wire value it must equal, None for NULL."""

    column: Column
    value: Any

    @property
    def is_exact(self) -> bool:
        """Whether to be equal is the same everywhere: of text, MySQL's collation says what is."""
        return self.value is None or self.column.kind is not Kind.TEXT


@dataclass(frozen=True, slots=True)
class Page:
    """Rows after an id, at most `limit`, that fit all `filters`; `as_of` as it was sent, None for the rows as they are."""

    after: int
    limit: int
    include_deleted: bool
    filters: tuple[Filter, ...]
    as_of: str | None = None

    @classmethod
    def read(cls, request: web.Request, table: Table, scope: Scope, settings: Settings) -> Self:
        """Raises SyncError 400: `unknown_column`, or `malformed` for a value that is not one."""
        query = request.query
        if len(set(query)) != len(query):
            raise malformed("a name stands twice in the query")
        columns = {column.name: column for column in visible_columns(table, scope)}
        filters = []
        for name, text in query.items():
            if name in _PAGE_NAMES:
                continue
            column = columns.get(name)
            if column is None or column.kind in (Kind.JSON, Kind.TIMESTAMP):
                raise SyncError(400, "unknown_column", "the query names a column that cannot be asked for", details={"name": name})
            filters.append(Filter(column, _wire(column, text)))
        limit = read_whole(query, "limit", settings.data_page_rows_default, minimum=1)
        after = read_whole(query, "after", 0, minimum=0)
        limit = min(limit, settings.data_page_rows_max)
        return cls(after, limit, read_flag(query, "include_deleted"), tuple(filters), query.get("as_of"))


def visible_columns(table: Table, scope: Scope) -> tuple[Column, ...]:
    """Return the columns that the role may see, `id` first."""
    columns = stored_columns(table)
    return columns if scope.may_see_restricted else tuple(c for c in columns if c.access is not Access.RESTRICTED)


def read_flag(query: Mapping[str, str], name: str) -> bool:
    """Return a switch of the query, off where it is absent. Raises SyncError 400."""
    text = query.get(name, "0")
    if text not in _BOOLEANS:
        raise malformed(f"{name} must be 0 or 1")
    return _BOOLEANS[text]


def read_whole(query: Mapping[str, str], name: str, default: int, *, minimum: int) -> int:
    """Return a whole number of the query. Raises SyncError 400."""
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) <= 16 and minimum <= int(text) <= ID_MAX):
        raise malformed(f"{name} must be a whole number from {minimum} on")
    return int(text)


def _wire(column: Column, text: str) -> Any:
    if text == NULL and column.nullable:
        return None
    try:
        return wire_from_client(column, _BOOLEANS.get(text, text) if column.kind is Kind.BOOLEAN else text)
    except BadValue as problem:
        details = {column.name: problem.reason}
        raise SyncError(400, "bad_value", "the query asks for what the column cannot hold", details=details) from None
