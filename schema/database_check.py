"""Compares schema/tables.py with the tables MySQL has: columns, their types, and the composite references."""

from __future__ import annotations

from typing import Any

from pymysql.connections import Connection

from schema.errors import StartError
from schema.tables import TABLES, Table

_COLUMNS = """
SELECT TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE FROM information_schema.COLUMNS
WHERE TABLE_SCHEMA = %s ORDER BY TABLE_NAME, ORDINAL_POSITION
"""
_REFERENCES = """
SELECT TABLE_NAME, COLUMN_NAME, REFERENCED_TABLE_NAME, REFERENCED_COLUMN_NAME FROM information_schema.KEY_COLUMN_USAGE
WHERE TABLE_SCHEMA = %s AND REFERENCED_TABLE_NAME IS NOT NULL
"""


def find_differences(connection: Connection[Any], database: str) -> list[str]:
    """Return one sentence for each difference; empty when the declarations hold.

    A column that MySQL has and we do not declare is no difference: it stays invisible until it is registered.
    """
    with connection.cursor() as cursor:
        cursor.execute(_COLUMNS, (database,))
        columns = {(t, c): (str(kind).lower(), nullable == "YES") for t, c, kind, nullable in cursor.fetchall()}
        cursor.execute(_REFERENCES, (database,))
        references = {tuple(row) for row in cursor.fetchall()}
    differences = []
    for table in TABLES.values():
        differences += _column_differences(table, columns)
        differences += _reference_differences(table, references)
    return differences


def check(connection: Connection[Any], database: str) -> None:
    """Raise StartError that names every difference."""
    differences = find_differences(connection, database)
    if differences:
        raise StartError(
            "schema_differs",
            "the tables are not what schema/tables.py declares: " + "; ".join(differences),
            hint="undo the ALTER, or add the column to schema/tables.py with a migration",
        )


def _column_differences(table: Table, columns: dict[tuple[str, str], tuple[str, bool]]) -> list[str]:
    differences = []
    for column in table.columns:
        found = columns.get((table.name, column.name))
        wanted = (column.mysql_type.lower(), column.nullable)
        if found is None:
            differences.append(f"{table.name}.{column.name} is missing")
        elif found != wanted:
            differences.append(f"{table.name}.{column.name} is {_shown(found)}, not {_shown(wanted)}")
    return differences


def _reference_differences(table: Table, references: set[tuple[Any, ...]]) -> list[str]:
    return [
        f"{table.name}.{column} does not refer to {target} by a composite foreign key"
        for column, target in table.references.items()
        if not {(table.name, column, target, "id"), (table.name, "company_id", target, "company_id")} <= references
    ]


def _shown(column: tuple[str, bool]) -> str:
    return f"{column[0]} {'NULL' if column[1] else 'NOT NULL'}"
