"""Cut: the stream, again and again inside one statement's rows. What must hold: every row once, and none before all.

`python -m tests.faults.huge_tx` shows the memory that a million rows take.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from schema.settings import MySQLAddress
from tests.cdc.background import Background
from tests.cdc.conftest import settings_of
from tests.faults.huge_tx import DIGITS, RSS_MB_MAX, check, write_one_tx
from tests.proxy import Cut, Proxy
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

ROWS = 6_000
CATCH_UP_SECONDS = 120
CUTS = [0.1, 0.6, 0.3, 0.9, 0.99]
"""Where, as shares of the statement's bytes: each reconnect begins again before it."""


@pytest.mark.parametrize("compression", ["OFF", "ON"])
def test_reconnects_inside_one_statement_lose_and_double_nothing(
    stack: Stack, database: Database, sql: SqlClient, compression: str
) -> None:
    company = sql.company()
    sql.run(*DIGITS)
    before = _binlog_bytes(sql)
    sql.run(f"SET SESSION binlog_transaction_compression = {compression}")
    write_one_tx(sql, company, ROWS)
    size = _binlog_bytes(sql) - before
    cuts = [int(share * size) for share in CUTS]
    passed = 0

    def cut(data: bytes) -> bytes:
        nonlocal passed
        passed += len(data)
        if cuts and passed > cuts[0]:
            passed = 0
            cuts.pop(0)
            raise Cut(data[: len(data) // 2])
        return data

    with Proxy(settings_of(stack.mysql_url), cut) as proxy:
        address = replace(MySQLAddress.parse(database.settings.mysql_tailer_url), host=proxy.connect.host, port=proxy.connect.port)
        settings = replace(database.settings, mysql_tailer_url=address.url(), mysql_socket="", tailer_part_changes_max=500)
        with Background(replace(settings, tailer_backoff_seconds_max=1)):
            head = sql.wait_for_tailer(CATCH_UP_SECONDS)
    assert not cuts, "the stream was cut at every place"
    counted = "SELECT MIN(version), MAX(version), COUNT(*), COUNT(DISTINCT tx), COUNT(DISTINCT record_id) FROM sync_changes"
    assert sql.rows(f"{counted} WHERE table_name = 'parties'") == [(head - ROWS + 1, head, ROWS, 1, ROWS)]
    order = "SELECT COUNT(*) FROM parties p JOIN sync_changes c ON c.company_id = p.company_id AND c.record_id = p.id"
    assert sql.value(f"{order} AND c.table_name = 'parties' AND c.data->>'$.name' = p.name") == ROWS


def _binlog_bytes(sql: SqlClient) -> int:
    return sum(int(row[1]) for row in sql.rows("SHOW BINARY LOGS"))


def test_memory_does_not_grow_with_a_transaction(stack: Stack, database: Database) -> None:
    peak, _ = check(stack, database, 20_000)
    assert peak < RSS_MB_MAX // 2
