"""Writes that the binlog does not get, and what the change log must be after they were reconciled."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.oracle import SYNCED, Oracle
from tests.sql_client import SqlClient


@contextmanager
def hidden(sql: SqlClient) -> Iterator[SqlClient]:
    """What runs inside is not logged."""
    sql.run("SET SESSION sql_log_bin = 0")
    try:
        yield sql
    finally:
        sql.run("SET SESSION sql_log_bin = 1")


def newest_images(sql: SqlClient, company: int) -> dict[str, dict[int, Any]]:
    """Live records as the change log has them, restricted columns among them."""
    newest = {(c["table_name"], c["record_id"]): c for c in sql.changes(company) if c["for_device"] is None}
    live: dict[str, dict[int, Any]] = {table: {} for table in SYNCED}
    for (table, record_id), change in newest.items():
        if change["operation"] != "DELETE":
            live[table][record_id] = {**json.loads(change["data"]), **json.loads(change["sealed"] or "{}")}
    return live


def assert_log_is_the_tables(sql: SqlClient, *companies: int) -> None:
    """The newest image of every record is the row as SELECT shows it, nothing else is live, and versions have no gap."""
    for company in companies:
        assert newest_images(sql, company) == Oracle(sql).rows(company)
    head = sql.value("SELECT head FROM sync_state")
    stretches = sql.rows("SELECT version >> 40, MIN(version), MAX(version), COUNT(*) FROM sync_changes GROUP BY 1 ORDER BY 1")
    assert all(count == last - first + 1 for _, first, last, count in stretches), "an epoch has a gap"
    assert (stretches[0][1], stretches[-1][2]) == (2, head)


def mended(sql: SqlClient, company: int) -> list[dict[str, Any]]:
    """Changes that a run made, oldest first, their JSON read."""
    found = [change for change in sql.changes(company) if change["origin"] == "reconcile"]
    for change in found:
        change["data"] = json.loads(change["data"])
        change["before"] = json.loads(change["before"]) if change["before"] else None
    return found
