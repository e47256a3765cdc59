"""QUERY events: what kind of statement one is, and which schemas it may have written.

Decides whether a statement ends or marks a transaction, changes definitions, or is data that was logged as text; what
follows from that is `tx.py`. Text is looked at only to find the first word, an XID and names before a dot; a statement
is never parsed for its meaning.

Source: MySQL 9.7, libs/mysql/binlog/event/statement_events.h, "Query_event" and its status variables.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from cdc.charsets import text_decoder
from cdc.events import Malformed

_ANSI_QUOTES: Final = 4
_NO_BACKSLASH_ESCAPES: Final = 1 << 20
_TOO_MANY_SCHEMAS: Final = 254

_OTHER_TOKENS: Final = r"/\*(?!!).*?\*/|/\*!\d*|\*/|#[^\n]*|--(?=\s|\Z)[^\n]*|`(?:[^`]|``)*`"
_TOKENS: Final = re.compile(rf"""{_OTHER_TOKENS}|'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*\"""", re.DOTALL)
_TOKENS_WITHOUT_ESCAPES: Final = re.compile(rf"""{_OTHER_TOKENS}|'(?:[^']|'')*'|"(?:[^"]|"")*\"""", re.DOTALL)
"""Comments, quoted names and literals: found in one pass, as each may hold what looks like another."""

_FIXED_VARIABLES: Final[Mapping[int, int]] = {
    0: 4,
    1: 8,
    3: 4,
    4: 6,
    7: 2,
    8: 2,
    9: 8,
    10: 4,
    13: 3,
    16: 1,
    17: 8,
    18: 2,
    19: 1,
    20: 1,
}
"""Sizes of the status variables that have one; 2, 5, 6, 11 and 12 hold strings."""


class Statement(Enum):
    """What a statement means for the transaction it stands in."""

    BEGIN = "begin"
    COMMIT = "commit"
    ROLLBACK = "rollback"
    SAVEPOINT = "savepoint"
    ROLLBACK_TO = "rollback to"
    RELEASE = "release"
    XA_START = "xa start"
    XA_END = "xa end"
    XA_COMMIT = "xa commit"
    XA_ROLLBACK = "xa rollback"
    DDL = "ddl"
    DATA = "data"


@dataclass(frozen=True, slots=True)
class Query:
    """A QUERY event. `schema` is the session's default one; `schemas` are those the server says it accessed for writing,
    None when it did not say. `xid` is the text after XA START … XA ROLLBACK, as the server writes it."""

    statement: Statement
    schema: str
    sql: str
    schemas: frozenset[str] | None
    sql_mode: int
    xid: str = ""
    savepoint: str = ""

    def may_write(self, schema: str) -> bool:
        """Whether the statement can have written a table of `schema`. Errs on the side of yes."""
        if self.schemas is not None:
            return schema in self.schemas
        return self.schema == schema or self.names_schema(schema)

    def names_schema(self, schema: str) -> bool:
        """Whether the text names `schema` before a dot, outside of strings and comments."""
        name = re.escape(schema)
        return bool(re.search(rf"(?:`{name}`|(?<![\w$`]){name})\s*\.", bare_text(self.sql, self.sql_mode), re.IGNORECASE))


def bare_text(sql: str, sql_mode: int) -> str:
    """A statement without comments and string literals, every quoted name in backticks. Executable comments are text."""

    def replace(found: re.Match[str]) -> str:
        token = found[0]
        if token.startswith("`"):
            return token
        if token.startswith('"') and sql_mode & _ANSI_QUOTES:
            return "`" + token[1:-1].replace('""', '"').replace("`", "``") + "`"
        return "''" if token[0] in "'\"" else " "

    return (_TOKENS_WITHOUT_ESCAPES if sql_mode & _NO_BACKSLASH_ESCAPES else _TOKENS).sub(replace, sql)


def parse_query(body: bytes) -> Query:
    """Read a QUERY event. Raises ValueError or IndexError on bytes that are none."""
    schema_size, status_size = body[8], body[11] | body[12] << 8
    names_at = 13 + status_size
    sql_at = names_at + schema_size + 1
    if sql_at > len(body):
        raise Malformed("a query event is cut off")
    status = _read_status(body[13:names_at])
    schema = body[names_at : sql_at - 1].decode()
    raw = body[sql_at:]
    decode = text_decoder(status.client_collation)
    try:
        sql = decode(raw) if decode else raw.decode("utf-8", "replace")
    except UnicodeDecodeError:
        sql = raw.decode("utf-8", "replace")  # a literal in another charset; names are still readable
    return classify(sql, schema=schema, schemas=status.schemas, sql_mode=status.sql_mode)


def classify(sql: str, *, schema: str = "", schemas: frozenset[str] | None = None, sql_mode: int = 0) -> Query:
    """Say what a statement is, by its first words."""
    bare = _LEADING_NOISE.sub("", sql, count=1)
    statement, xid, savepoint = Statement.DATA, "", ""
    for pattern, kind in _CONTROL:
        found = pattern.match(bare)
        if found:
            statement = kind
            rest = found[1].strip().rstrip(";") if found.lastindex else ""
            if kind.name.startswith("XA_"):
                xid = rest
            else:
                savepoint = rest.strip("`").lower()
            break
    else:
        if _DDL.match(bare):
            statement = Statement.DDL
    return Query(statement, schema, sql, schemas, sql_mode, xid, savepoint)


_LEADING_NOISE: Final = re.compile(r"\A(?:\s+|--[^\n]*\n|#[^\n]*\n|/\*(?!!).*?\*/|/\*!\d*|\()*", re.DOTALL)
_CONTROL: Final = tuple(
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), kind)
    for pattern, kind in (
        (r"BEGIN\s*;?\s*$|START\s+TRANSACTION\b", Statement.BEGIN),
        (r"COMMIT\b", Statement.COMMIT),
        (r"ROLLBACK(?:\s+WORK)?\s+TO\s+(?:SAVEPOINT\s+)?(.*)", Statement.ROLLBACK_TO),
        (r"ROLLBACK\b", Statement.ROLLBACK),
        (r"SAVEPOINT\s+(.*)", Statement.SAVEPOINT),
        (r"RELEASE\s+SAVEPOINT\s+(.*)", Statement.RELEASE),
        (r"XA\s+(?:START|BEGIN)\s+(.*)", Statement.XA_START),
        (r"XA\s+END\s+(.*)", Statement.XA_END),
        (r"XA\s+COMMIT\s+(.*)", Statement.XA_COMMIT),
        (r"XA\s+ROLLBACK\s+(.*)", Statement.XA_ROLLBACK),
    )
)
_DDL: Final = re.compile(
    r"(?:CREATE|ALTER|DROP|TRUNCATE|RENAME|GRANT|REVOKE|FLUSH|ANALYZE|OPTIMIZE|REPAIR|CHECK|INSTALL|UNINSTALL|IMPORT"
    r"|SET\s+(?:PASSWORD|DEFAULT\s+ROLE|RESOURCE))\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class _Status:
    sql_mode: int = 0
    client_collation: int = 0
    schemas: frozenset[str] | None = None


def _read_status(raw: bytes) -> _Status:
    sql_mode, client_collation = 0, 0
    schemas: frozenset[str] | None = None
    at = 0
    while at < len(raw):
        code = raw[at]
        at += 1
        if code in _FIXED_VARIABLES:
            value = int.from_bytes(raw[at : at + _FIXED_VARIABLES[code]], "little")
            at += _FIXED_VARIABLES[code]
            if code == 1:
                sql_mode = value
            elif code == 4:
                client_collation = value & 0xFFFF
        elif code in (2, 5, 6):
            at += 1 + raw[at] + (code == 2)
        elif code == 11:
            at += 1 + raw[at]
            at += 1 + raw[at]
        elif code == 12:
            schemas, at = _read_schemas(raw, at)
        else:
            break  # newer variables come last
    if at > len(raw):
        raise Malformed("status variables of a query event are cut off")
    return _Status(sql_mode, client_collation, schemas)


def _read_schemas(raw: bytes, at: int) -> tuple[frozenset[str] | None, int]:
    count = raw[at]
    at += 1
    if count == _TOO_MANY_SCHEMAS:
        return None, at
    names: list[str] = []
    for _ in range(count):
        end = raw.index(0, at)
        names.append(raw[at:end].decode())
        at = end + 1
    return (frozenset(names) if names and all(names) else None), at
