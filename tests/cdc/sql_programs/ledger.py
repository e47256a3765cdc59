"""What the change log must hold, by MySQL's own triggers: each writes the row before and after into a table beside.

Shares no code with `cdc`: MySQL prints the values, by the types that information_schema names. A trigger also knows what its
session was: whether the binlog was off, and whether the rows are logged as the tailer needs them.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.oracle import PRIVATE
from tests.sql_client import SqlClient

TABLES = ("companies", "parties", "units_of_measure", "products", "settings", "payment_accounts")

_CREATE = """
CREATE TABLE ledger (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, unit VARCHAR(60) NOT NULL, table_name VARCHAR(64) NOT NULL,
    is_hidden TINYINT NOT NULL, is_shaky TINYINT NOT NULL, old LONGTEXT NULL, new LONGTEXT NULL, KEY (unit)
) DEFAULT CHARSET = utf8mb4
"""
_TRIGGER = """
CREATE TRIGGER ledger_{table}_{event} AFTER {event} ON {table} FOR EACH ROW
INSERT INTO ledger (unit, table_name, is_hidden, is_shaky, old, new) VALUES (COALESCE(@unit, ''), '{table}', NOT @@sql_log_bin,
    @@binlog_format <> 'ROW' OR @@binlog_row_image <> 'FULL', {old}, {new})
"""
_COLUMNS = """
SELECT TABLE_NAME, COLUMN_NAME, COLUMN_TYPE FROM information_schema.COLUMNS
WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME IN %s ORDER BY TABLE_NAME, ORDINAL_POSITION
"""
_READ = "SELECT unit, table_name, is_hidden, is_shaky, old, new FROM ledger WHERE unit LIKE %s ORDER BY id"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Image = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """One change as a device would be told it. `is_optional`: nothing visible changed, so it need not be there."""

    table: str
    record_id: int
    company_id: int
    operation: str
    image: Image
    is_optional: bool = False

    def is_met_by(self, told: Change) -> bool:
        """Whether the change log's change is this one; when a hard DELETE happened, only the tailer knows."""
        if self.operation == "DELETE" and self.image["deleted_at"] is None:
            told = replace(told, image={**told.image, "deleted_at": None})
        return replace(self, is_optional=False) == told


@dataclass(frozen=True, slots=True)
class Entry:
    """What one row operation of a unit must become. `is_shaky`: logged in a way that the tailer may refuse."""

    unit: str
    is_hidden: bool
    is_shaky: bool
    changes: tuple[Change, ...]


def install(sql: SqlClient) -> None:
    """Make the ledger and its triggers."""
    sql.run(_CREATE, "SET SESSION sql_mode = ''")
    columns: dict[str, list[tuple[str, str]]] = {}
    for table, column, kind in sql.rows(_COLUMNS, TABLES):
        if (table, column) not in PRIVATE:
            columns.setdefault(table, []).append((column, kind))
    for table in TABLES:
        old, new = (
            "JSON_OBJECT(" + ", ".join(f"'{name}', {_shown(f'{row}.`{name}`', kind)}" for name, kind in columns[table]) + ")"
            for row in ("OLD", "NEW")
        )
        sql.run(
            _TRIGGER.format(table=table, event="INSERT", old="NULL", new=new),
            _TRIGGER.format(table=table, event="UPDATE", old=old, new=new),
            _TRIGGER.format(table=table, event="DELETE", old=old, new="NULL"),
        )
    sql.run("SET SESSION sql_mode = DEFAULT")


def _shown(column: str, kind: str) -> str:
    if kind == "tinyint(1)":
        return f"IF({column} IS NULL, NULL, IF({column}, CAST('true' AS JSON), CAST('false' AS JSON)))"
    if kind.startswith("timestamp"):
        return f"CONCAT('@', UNIX_TIMESTAMP({column}))"  # of a column: what is stored, whatever the session's zone
    if kind.startswith(("decimal", "date")):
        return f"CAST({column} AS CHAR)"
    return column


def read(sql: SqlClient, program: str) -> list[Entry]:
    """A program's entries in the order of their making."""
    return [
        Entry(unit, bool(is_hidden), bool(is_shaky), _changes(table, image(old), image(new)))
        for unit, table, is_hidden, is_shaky, old, new in sql.rows(_READ, f"{program}/%")
    ]


def image(text: str | None) -> Image | None:
    """JSON with every number as its digits; 1 and 1.0 and "1" are three values."""
    if text is None:
        return None
    loaded = json.loads(text, parse_int=lambda digits: ("number", digits), parse_float=lambda digits: ("number", digits))
    return {name: _moment(value) for name, value in loaded.items()}


def _moment(value: Any) -> Any:
    if not isinstance(value, str) or not re.fullmatch(r"@\d+(\.\d+)?", value):
        return value
    whole, _, fraction = value[1:].partition(".")
    if not int(whole):
        return "0000-00-00T00:00:00Z"
    text = (_EPOCH + timedelta(seconds=int(whole))).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{fraction}Z" if int(fraction or 0) else f"{text}Z"


def _changes(table: str, old: Image | None, new: Image | None) -> tuple[Change, ...]:
    """Contract §2.4, written a second time."""
    if old is not None and (new is None or _place(table, old) != _place(table, new)):
        leaving = (Change(table, *_place(table, old), "DELETE", old),)
        return leaving if new is None else (*leaving, *_changes(table, None, new))
    assert new is not None
    if new["deleted_at"] is not None:
        operation = "DELETE"
    else:
        operation = "UPDATE" if old is not None and old["deleted_at"] is None else "INSERT"
    return (Change(table, *_place(table, new), operation, new, is_optional=old == new),)


def _place(table: str, row: Image) -> tuple[int, int]:
    scope = "id" if table == "companies" else "company_id"
    return int(row["id"][1]), int(row[scope][1])
