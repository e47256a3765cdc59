"""Which DDL may pass: what changes no row of a synced table moves the checkpoint and nothing else, the rest halts.

A DDL event holds no rows, so values it rewrote or removed cannot become changes. The words of the statement only ever make us
more careful: whatever it says, the table must afterwards be what `schema.tables` declares. A column that is not declared there may
go, or be renamed.
"""

from __future__ import annotations

import re
from typing import Any

from pymysql.connections import Connection

from cdc.items import Ddl
from cdc.query_event import bare_text
from schema.database_check import find_differences
from schema.errors import Halt
from schema.tables import TABLES

_FORM = re.compile(r"\s*(TRUNCATE|DROP|RENAME|ALTER)\b\s*(?:(TEMPORARY|IGNORE|ONLINE)\b\s*)?(\w*)", re.IGNORECASE)
_REWRITES = re.compile(
    r"\b(MODIFY|CHANGE|CONVERT\s+TO|RENAME(?!\s+(INDEX|KEY)\b)|DISCARD|IMPORT|EXCHANGE|(TRUNCATE|COALESCE)\s+PARTITION"
    r"|ENGINE(?!\s*=?\s*InnoDB))\b|\bDROP\b(?!\s*(INDEX|KEY|PRIMARY|FOREIGN|CONSTRAINT|CHECK|DEFAULT)\b)",
    re.IGNORECASE,
)
"""The word COLUMN may be left out after DROP."""
_NAME = re.compile(r"(?:(`(?:[^`]|``)+`|[\w$]+)\s*\.\s*)?(`(?:[^`]|``)+`|[\w$]+)")
_QUOTED_NAME = re.compile(r"`(?:[^`]|``)*`")
_OF_ONE_COLUMN = re.compile(
    r"\bDROP\b\s*(?:COLUMN\b\s*)?(?P<gone>`\d+`|[\w$]+)\s*(?=,|;?\s*$)"
    r"|\bRENAME\s+COLUMN\b\s*(?P<old>`\d+`|[\w$]+)\s*\bTO\b\s*(?P<new>`\d+`|[\w$]+)\s*(?=,|;?\s*$)",
    re.IGNORECASE,
)
"""Clauses that drop or rename a column, whole, in a text whose quoted names are numbers in backquotes."""
_CASCADES = re.compile(r"\bON\s+(DELETE|UPDATE)\s+(CASCADE|SET\s+NULL|SET\s+DEFAULT)\b", re.IGNORECASE)


def check_ddl(ddl: Ddl, connection: Connection[Any], database: str) -> None:
    """Raise Halt where the statement may have changed rows of a synced table, or left one unlike its declaration."""
    tables = touched_tables(ddl, database)
    if not tables:
        return
    text = bare_text(ddl.sql, ddl.sql_mode)
    form = _FORM.match(text)
    verb = form[1].upper() if form else ""
    if verb != "ALTER" or _REWRITES.search(_without_undeclared(text, tables)):
        raise _halt("ddl_changed_rows", f"{verb} of {', '.join(tables)} may have changed rows without row events", tables)
    if _CASCADES.search(text):
        raise _halt("cascade", f"{', '.join(tables)} got a foreign key with a cascade, whose rows the binlog may not hold", tables)
    differences = find_differences(connection, database)
    connection.commit()
    if differences:
        raise _halt("schema_differs", "; ".join(differences), tables)


def touched_tables(ddl: Ddl, database: str) -> list[str]:
    """Return the synced tables a TRUNCATE, DROP, RENAME or ALTER names; all of them where it drops the database."""
    text = bare_text(ddl.sql, ddl.sql_mode)
    form = _FORM.match(text)
    if form is None or (ddl.schemas and database.lower() not in map(str.lower, ddl.schemas)):
        return []
    verb, adjective, kind = ((word or "").upper() for word in form.groups())
    if verb == "DROP" and kind in ("DATABASE", "SCHEMA"):
        return sorted(TABLES)
    if adjective == "TEMPORARY" or (kind not in ("TABLE", "TABLES") and verb != "TRUNCATE"):
        return []
    # Where MySQL folds names to lower case, any case is the synced table's.
    names = {
        _unquoted(name).lower()
        for schema, name in _NAME.findall(text)
        if (_unquoted(schema) or ddl.schema).lower() == database.lower()
    }
    return sorted(names & TABLES.keys())


def _without_undeclared(text: str, tables: list[str]) -> str:
    """The words of an ALTER, quoted names as numbers, without what it does to columns that none of the tables declares.

    Such a column is in no change, so none is false when it goes or is called otherwise.
    """
    quoted: list[str] = []

    def number(name: re.Match[str]) -> str:
        quoted.append(_unquoted(name[0]))
        return f"`{len(quoted) - 1}`"

    declared = {column.lower() for table in tables for column in TABLES[table].by_name}

    def keep(clause: re.Match[str]) -> str:
        names = [quoted[int(name[1:-1])] if name.startswith("`") else name for name in clause.groups() if name is not None]
        return clause[0] if any(name.lower() in declared for name in names) else ""

    return _OF_ONE_COLUMN.sub(keep, _QUOTED_NAME.sub(number, text))


def _unquoted(name: str) -> str:
    return name[1:-1].replace("``", "`") if name.startswith("`") else name


def _halt(code: str, message: str, tables: list[str]) -> Halt:
    return Halt(
        code,
        message,
        hint="pass this statement with `matrix-sync checkpoint skip --gtid GTID --reason …`, which is recorded, start the tailer, "
        "then run `matrix-sync reconcile`: it tells devices what the statement did to rows",
        details={"tables": tables},
    )
