"""What would make changes of a synced table invisible to the binlog: cascades, other engines, a missing key, another name."""

from __future__ import annotations

from typing import Any

from pymysql.connections import Connection

from cdc.findings import Finding, fatal, ok
from schema.tables import TABLES

_READ_CASCADES = """
SELECT TABLE_NAME, CONSTRAINT_NAME, DELETE_RULE, UPDATE_RULE FROM information_schema.REFERENTIAL_CONSTRAINTS
WHERE CONSTRAINT_SCHEMA = %s
  AND (DELETE_RULE IN ('CASCADE', 'SET NULL', 'SET DEFAULT') OR UPDATE_RULE IN ('CASCADE', 'SET NULL', 'SET DEFAULT'))
ORDER BY TABLE_NAME, CONSTRAINT_NAME
"""
_READ_NAMES = """
SELECT @@lower_case_table_names, SCHEMA_NAME FROM information_schema.SCHEMATA WHERE LOWER(SCHEMA_NAME) = LOWER(%s)
"""
_READ_TABLES = """
SELECT t.TABLE_NAME, t.ENGINE,
  (SELECT GROUP_CONCAT(s.COLUMN_NAME ORDER BY s.SEQ_IN_INDEX) FROM information_schema.STATISTICS s
   WHERE s.TABLE_SCHEMA = t.TABLE_SCHEMA AND s.TABLE_NAME = t.TABLE_NAME AND s.INDEX_NAME = 'PRIMARY')
FROM information_schema.TABLES t WHERE t.TABLE_SCHEMA = %s
"""


def check_cascades(connection: Connection[Any], database: str) -> Finding:
    """Name every foreign key whose action changes rows of a synced table without row events of their own.

    Source: MySQL 9.7 manual, "Row-Based Replication and Foreign Keys".
    """
    with connection.cursor() as cursor:
        cursor.execute(_READ_CASCADES, (database,))
        found = [row for row in cursor.fetchall() if row[0] in TABLES]
    if not found:
        return ok("cascades", "no foreign key of a synced table has a cascade")
    named = [f"{table}.{name} (ON DELETE {delete}, ON UPDATE {update})" for table, name, delete, update in found]
    return fatal(
        "cascades",
        f"foreign keys change rows that the binlog may not hold: {', '.join(named)}",
        "; ".join(f"ALTER TABLE {table} DROP FOREIGN KEY {name}, and add it with RESTRICT" for table, name, *_ in found),
    )


def check_name(connection: Connection[Any], database: str) -> Finding:
    """Where MySQL folds the names of databases, its binlog has them in lower case, and is compared name by name.

    Source: MySQL 9.7 manual, "Identifier Case Sensitivity".
    """
    with connection.cursor() as cursor:
        cursor.execute(_READ_NAMES, (database,))
        found = cursor.fetchall()
    folds = bool(found) and int(found[0][0]) != 0
    names = {database, *(str(name) for _, name in found)}
    if folds and names != {database.lower()}:
        return fatal(
            "database_name",
            f"MySQL folds names (lower_case_table_names) and has the database {', '.join(sorted(names))}: the binlog may call it "
            f"{database.lower()}, and its changes would be taken for another database's",
            f"write {database.lower()} in MYSQL_URL and all SYNC_MYSQL_*_URL; where it is 2, call the database so too",
        )
    return ok("database_name", f"the binlog calls the database {database}")


def check_tables(connection: Connection[Any], database: str) -> Finding:
    """Every synced table that exists is InnoDB, with `id` alone as its primary key."""
    with connection.cursor() as cursor:
        cursor.execute(_READ_TABLES, (database,))
        found = [row for row in cursor.fetchall() if row[0] in TABLES]
    wrong = [f"{table} is {engine or 'a view'}, not InnoDB" for table, engine, _ in found if str(engine).lower() != "innodb"]
    wrong += [
        f"{table} has {f'({key})' if key else 'nothing'} as its primary key, not (id)"
        for table, engine, key in found
        if engine and key != "id"
    ]
    if not wrong:
        return ok("tables", f"{len(found)} synced tables are InnoDB, with their primary key")
    return fatal("tables", "; ".join(wrong), "ALTER TABLE … ENGINE = InnoDB, or ADD PRIMARY KEY (id), while the tailer is stopped")
