"""Which DDL may pass: what changes no row of a synced table moves the checkpoint and nothing else, the rest halts.

A DDL event holds no rows, so values it rewrote or removed cannot become changes. The words of the statement only ever make us
more careful: whatever it says, the table must afterwards be what `schema.tables` declares.
"""

from __future__ import annotations

import re
from typing import Any

from pymysql.connections import Connection

from cdc.tx import Ddl
from schema.database_check import find_differences
from schema.errors import Halt
from schema.tables import TABLES

_COMMENT = re.compile(r"/\*(?!!).*?\*/|--[ \t][^\n]*|#[^\n]*", re.DOTALL)
_TEXT = re.compile(r"'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.|\"\")*\"", re.DOTALL)
_FORM = re.compile(r"\s*(?:/\*!\d*)?\s*(TRUNCATE|DROP|RENAME|ALTER)\s+(?:ONLINE\s+|IGNORE\s+|TEMPORARY\s+)?(\w+)", re.IGNORECASE)
_REWRITES = re.compile(
    r"\b(MODIFY|CHANGE|CONVERT\s+TO|RENAME(?!\s+(INDEX|KEY))|DISCARD|IMPORT|EXCHANGE|(DROP|TRUNCATE|COALESCE)\s+PARTITION|DROP\s+COLUMN"
    r"|ENGINE(?!\s*=?\s*InnoDB))\b",
    re.IGNORECASE,
)
_NAME = re.compile(r"(?:(\w+)\s*\.\s*)?(\w+)")
_CASCADES = re.compile(r"\bON\s+(DELETE|UPDATE)\s+(CASCADE|SET\s+NULL|SET\s+DEFAULT)\b", re.IGNORECASE)


def check_ddl(ddl: Ddl, connection: Connection[Any], database: str) -> None:
    """Raise Halt where the statement may have changed rows of a synced table, or left one unlike its declaration."""
    tables = touched_tables(ddl, database)
    if not tables:
        return
    text = _TEXT.sub("''", _COMMENT.sub(" ", ddl.sql))
    form = _FORM.match(text)
    words = form[1].upper() if form else ""
    if words in ("TRUNCATE", "DROP", "RENAME") or (words == "ALTER" and _REWRITES.search(text)):
        raise _halt("ddl_changed_rows", f"a {words} of {', '.join(tables)} may have changed rows without row events", tables)
    if _CASCADES.search(text):
        raise _halt("cascade", f"{', '.join(tables)} got a foreign key with a cascade, whose rows the binlog may not hold", tables)
    differences = find_differences(connection, database)
    connection.commit()
    if differences:
        raise _halt("schema_differs", "; ".join(differences), tables)


def touched_tables(ddl: Ddl, database: str) -> list[str]:
    """Return the synced tables a TRUNCATE, DROP, RENAME or ALTER names; all of them where it drops the database."""
    text = _TEXT.sub("''", _COMMENT.sub(" ", ddl.sql)).replace("`", " ")
    form = _FORM.match(text)
    if form is None or (ddl.schemas and database not in ddl.schemas):
        return []
    kind = form[2].upper()
    if kind in ("DATABASE", "SCHEMA") and form[1].upper() == "DROP":
        return sorted(TABLES)
    if kind not in ("TABLE", "TABLES") and form[1].upper() != "TRUNCATE":
        return []
    # A name without a schema before it is one of the session's default schema.
    names = {name for schema, name in _NAME.findall(text) if (schema or ddl.schema) == database}
    return sorted(names & TABLES.keys())


def _halt(code: str, message: str, tables: list[str]) -> Halt:
    return Halt(
        code,
        message,
        hint="pass this statement with `matrix-sync checkpoint skip --gtid GTID --reason …`, which is recorded, start the tailer, "
        "then run `matrix-sync reconcile`: it tells devices what the statement did to rows",
        details={"tables": tables},
    )
