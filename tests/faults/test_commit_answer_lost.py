"""Acknowledged: rows of plain SQL; a push whose answer was an error. Lost: the answer of a COMMIT that MySQL carried out.

What must hold: the tailer reads what became of it and assumes nothing; a device's retry is told of the row that the first
try stored.
"""

from __future__ import annotations

import pytest

from tests.api.tills import open_api, shop
from tests.device import Refused, insert
from tests.faults.conftest import StartTail
from tests.faults.kit import assert_nothing_is_wrong, new_seed, with_settings, writing
from tests.faults.waiting import wait_until
from tests.ledger import Ledger
from tests.oracle import Oracle
from tests.proxy import APPENDS, Proxy
from tests.servers import Database, Stack
from tests.sql_client import SqlClient


def test_the_tailer_never_stores_twice_what_it_was_not_told_of(
    stack: Stack, database: Database, sql: SqlClient, start_tail: StartTail, ledger: Ledger
) -> None:
    company, chance = sql.company(), new_seed()
    with Proxy(database.settings.tailer(), hides_tls=True) as proxy:
        proxy.commits_to_lose, proxy.loss_probability, proxy.chance, proxy.writes = 8, 0.5, chance, APPENDS
        through = with_settings(database, mysql_tailer_url=proxy.connect.url(), mysql_socket="", tailer_backoff_seconds_max=1)
        tailer = start_tail(through, "--standby")
        with writing(database, company, ledger, chance):
            wait_until(lambda: proxy.commits_lost == proxy.commits_to_lose, 120)
        assert_nothing_is_wrong(database, ledger, company, stack.mysql)
        assert tailer.is_running


async def test_a_device_that_pushes_again_is_told_of_the_one_row(database: Database, sql: SqlClient, start_tail: StartTail) -> None:
    start_tail(database)
    with Proxy(database.settings.api(), hides_tls=True) as proxy:
        through = with_settings(database, mysql_api_url=proxy.connect.url(), mysql_socket="")
        async with open_api(through) as api:
            owner, (line, _) = await shop(api)
            await line.push(insert("parties", "first", name="First"))
            proxy.commits_to_lose = 1
            with pytest.raises(Refused) as refused:
                await line.push(insert("parties", "a", name="Ann"))
            assert refused.value.status == 503 and proxy.commits_lost == 1
            answer = await line.push(insert("parties", "a", name="Ann"))
            assert [result["status"] for result in answer["results"]] == ["duplicate"]
            rows = Oracle(sql).table("parties", owner.company_id)
            assert [row["name"] for row in rows.values()] == ["First", "Ann"]
            assert answer["id_mappings"] == {"a": max(rows)}
