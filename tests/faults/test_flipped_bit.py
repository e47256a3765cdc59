"""Acknowledged: rows of plain SQL. Flipped on the way from MySQL to the tailer: one bit of one row event.

What must hold: its checksum does not fit, so it is read again, and only the true value is stored. Where the file itself is damaged
the tailer halts (`test_source.py`).
"""

from __future__ import annotations

from tests.faults.conftest import StartTail
from tests.faults.kit import with_settings
from tests.proxy import Proxy
from tests.servers import Database
from tests.sql_client import SqlClient

MARK = b"one bit of this"


def test_a_bit_that_flips_on_the_way_never_reaches_the_change_log(
    database: Database, sql: SqlClient, start_tail: StartTail
) -> None:
    flipped: list[int] = []

    def flip(data: bytes) -> bytes:
        if MARK not in data or flipped:
            return data
        flipped.append(place := data.index(MARK))
        return data[:place] + bytes([data[place] ^ 0x04]) + data[place + 1 :]

    with Proxy(database.settings.tailer(), flip, hides_tls=True) as proxy:
        tailer = start_tail(with_settings(database, mysql_tailer_url=proxy.connect.url(), mysql_socket=""))
        company = sql.company()
        sql.wait_for_tailer()
        sql.run(f"INSERT INTO parties (company_id, name) VALUES ({company}, '{MARK.decode()}')")
        sql.wait_for_tailer()
        assert flipped and '"checksum_mismatch"' in tailer.output()
        names = sql.rows("SELECT data->>'$.name' FROM sync_changes WHERE table_name = 'parties'")
        assert names == [(MARK.decode(),)] and tailer.is_running
