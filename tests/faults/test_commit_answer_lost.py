"""Acknowledged: rows by plain SQL. Lost: MySQL's answer to the tailer's COMMIT, whether it came to be or not.

What must hold: the tailer asks what is stored, and assumes nothing: each row is in the change log exactly once.
"""

from __future__ import annotations

import threading

from cdc.tailer import Tailer
from cli.embedded import MySQLServer
from schema.settings import MySQLAddress
from tests.cdc.conftest import settings_of
from tests.cdc.proxy import Cut, Proxy
from tests.faults.machines import moved
from tests.servers import Stack
from tests.sql_client import SqlClient

ANSWERS = 10
CATCH_UP_SECONDS = 60


class LosingCommits:
    """Ends the connection in place of the answer to a COMMIT, where it is armed."""

    def __init__(self) -> None:
        self.is_armed = threading.Event()
        self.lost = 0
        self._is_awaited = False

    def overhear(self, sent: bytes) -> bytes:
        if self.is_armed.is_set() and sent.endswith(b"\x03COMMIT"):
            self._is_awaited = True
        return sent

    def spoil(self, answer: bytes) -> bytes:
        if self._is_awaited:
            self._is_awaited = False
            self.is_armed.clear()
            self.lost += 1
            raise Cut(b"")
        return answer


def test_each_row_is_stored_once(stack: Stack, machine: MySQLServer) -> None:
    with stack.database(machine) as database, SqlClient(database.settings) as sql:
        line = LosingCommits()
        with Proxy(settings_of(machine.url), line.spoil, line.overhear) as proxy:
            url = MySQLAddress.parse(database.settings.mysql_tailer_url)
            through = url.__class__(url.user, url.password, "127.0.0.1", proxy.connect.port, url.database).url()
            led = moved(database, machine, mysql_tailer_url=through, mysql_socket="", tailer_backoff_seconds_max=1)
            tailer = Tailer(led.settings)
            running = threading.Thread(target=tailer.run)
            running.start()
            try:
                company = sql.company()
                sql.wait_for_tailer(CATCH_UP_SECONDS)
                for number in range(ANSWERS):
                    line.is_armed.set()
                    sql.run(f"INSERT INTO parties (company_id, name) VALUES ({company}, '{number}')")
                    sql.wait_for_tailer(CATCH_UP_SECONDS)
            finally:
                tailer.stop()
                running.join()
        names = [
            row[0] for row in sql.rows("SELECT data->>'$.name' FROM sync_changes WHERE table_name = 'parties' ORDER BY version")
        ]
        head = sql.value("SELECT head FROM sync_state")
        assert line.lost == ANSWERS and names == [str(number) for number in range(ANSWERS)]
        assert sql.rows("SELECT MIN(version), MAX(version), COUNT(*) FROM sync_changes") == [(2, head, head - 1)]
