"""mysql-replication's own row events, and a minimal tailer that stands on them: what most people would write."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import orjson
from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.row_event import DeleteRowsEvent, UpdateRowsEvent, WriteRowsEvent

from cdc.sql import literal
from schema.connect import open_connection
from schema.settings import MySQLAddress
from schema.tables import TABLES

_SERVER_ID: Final = 0x4E7E3300
_BATCH: Final = 1000
_OPERATIONS: Final = {WriteRowsEvent: "INSERT", UpdateRowsEvent: "UPDATE", DeleteRowsEvent: "DELETE"}
_TABLE: Final = """
CREATE TABLE IF NOT EXISTS peer_changes (
    company_id BIGINT UNSIGNED NOT NULL, version BIGINT UNSIGNED NOT NULL, table_name VARCHAR(64) NOT NULL,
    record_id BIGINT UNSIGNED NOT NULL, operation VARCHAR(6) NOT NULL, data LONGTEXT NOT NULL,
    PRIMARY KEY (company_id, version), UNIQUE KEY (version))
"""


def read_peer_rows(address: MySQLAddress, start: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Operation, table and values of each row of a synced table after the transactions of a GTID set."""
    reader = BinLogStreamReader(
        connection_settings={"host": address.host, "port": address.port, "user": address.user, "password": address.password},
        server_id=_SERVER_ID,
        auto_position=start,
        only_schemas=[address.database],
        only_tables=list(TABLES),
        only_events=list(_OPERATIONS),
        blocking=False,
        enable_logging=False,
    )
    try:
        for event in reader:
            operation = _OPERATIONS[type(event)]
            for row in event.rows:
                yield operation, event.table, row.get("after_values") or row["values"]
    finally:
        reader.close()


def follow_by_peer(reading: MySQLAddress, writing: MySQLAddress, start: str, rows_max: int) -> int:
    """Store up to so many rows in a table of its own: no origins, values before, chain or newest versions. Returns how many."""
    connection = open_connection(writing)
    with connection.cursor() as cursor:
        cursor.execute(_TABLE)
        cursor.execute("DELETE FROM peer_changes")
    connection.commit()
    batch: list[str] = []
    version = 0
    for operation, table, values in read_peer_rows(reading, start):
        version += 1
        company = values.get("company_id", values["id"])
        data = orjson.dumps(values, default=str).decode()
        batch.append(f"({company},{version},'{table}',{values['id']},'{operation}',{literal(data)})")
        if len(batch) == _BATCH or version == rows_max:
            connection.query(f"INSERT INTO peer_changes VALUES {','.join(batch)}")
            connection.commit()
            batch.clear()
        if version == rows_max:
            break
    connection.close()
    return version
