"""Acknowledged: rows of plain SQL. Meanwhile somebody else reads the same MySQL under the tailer's server id.

What must hold: a foreign reader, or another database's tailer with the same configured id, disturbs nobody. One that even has our
replica UUID ends our stream: then the tailer says `server_id_conflict`, stays away for seconds, and goes on without a loss.
"""

from __future__ import annotations

import time

import pytest
from pymysqlreplication import BinLogStreamReader

from cdc.gtid import GtidSet
from cdc.source import BinlogSource
from cdc.tailer import CONFLICT_SECONDS
from tests.cdc.conftest import settings_of
from tests.faults.conftest import StartTail
from tests.faults.waiting import wait_until
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

SERVER_ID = 0x4D4D0001


@pytest.mark.filterwarnings("ignore::DeprecationWarning:pymysql")
def test_two_databases_with_one_configured_server_id_read_side_by_side(
    stack: Stack, database: Database, sql: SqlClient, start_tail: StartTail
) -> None:
    same = {"SYNC_TAILER_SERVER_ID": str(SERVER_ID)}
    with stack.database() as other, SqlClient(other.settings) as other_sql:
        first, second = start_tail(database, **same), start_tail(other, **same)
        file, pos, *_ = sql.rows("SHOW BINARY LOG STATUS")[0]  # it knows no GTIDs with tags, which another test may have left
        foreign = BinLogStreamReader(
            connection_settings=settings_of(stack.mysql_url).arguments(),
            server_id=SERVER_ID,
            log_file=file,
            log_pos=pos,
            resume_stream=True,
        )
        for _ in range(3):
            sql.company()
            other_sql.company()
            foreign.fetchone()
            sql.wait_for_tailer()
            other_sql.wait_for_tailer()
        foreign.close()
        assert "retrying" not in first.output() + second.output()
        second.stop()


def test_a_reader_with_our_uuid_is_reported_and_not_fought(
    stack: Stack, database: Database, sql: SqlClient, start_tail: StartTail
) -> None:
    tailer = start_tail(database, "--standby", SYNC_TAILER_SERVER_ID=str(SERVER_ID))
    sql.wait_for_tailer()
    double = BinlogSource(
        connect=settings_of(stack.mysql_url), server_id=SERVER_ID, start=GtidSet.parse(_executed(sql)), name=database.name
    )
    events = double.events()
    next(events)
    wait_until(lambda: '"server_id_conflict"' in tailer.output())
    company = sql.company()
    time.sleep(CONFLICT_SECONDS / 2)
    assert not sql.changes(company), "it stays away for a while"
    double.close()
    sql.wait_for_tailer()
    assert len(sql.changes(company)) == 1
    assert tailer.output().count('"server_id_conflict"') == 1


def _executed(sql: SqlClient) -> str:
    return str(sql.value("SELECT @@GLOBAL.gtid_executed")).replace("\n", "")
