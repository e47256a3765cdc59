"""Acknowledged: rows on a primary. Killed: the primary; a replica takes its place, with less than it had, or with more.

What must hold: reading goes on by GTID, nothing twice; what the replica never got is noticed, and devices that saw it start again;
what it has beyond arrives like anything else.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cli.embedded import MySQLServer
from schema.versions import pack
from tests.api.tills import drained, open_api, shop
from tests.device import Refused, insert
from tests.faults.machines import ask, executed, moved, pair, promote, wait_for_replica
from tests.servers import Stack
from tests.sql_client import SqlClient

CATCH_UP_SECONDS = 60
PARTY = "INSERT INTO parties (company_id, name) VALUES ({company}, '{name}')"


@pytest.fixture
def servers(stack: Stack) -> Iterator[tuple[MySQLServer, MySQLServer]]:
    """Primary and replica."""
    with pair(stack) as both:
        yield both


def names(sql: SqlClient) -> list[str]:
    return [row[0] for row in sql.rows("SELECT data->>'$.name' FROM sync_changes WHERE table_name = 'parties' ORDER BY version")]


async def test_to_a_replica_that_lost_transactions(stack: Stack, servers: tuple[MySQLServer, MySQLServer]) -> None:
    primary, replica = servers
    with stack.database(primary) as database:
        tail = stack.spawn("tail", environ=database.environ)
        async with open_api(database) as api:
            owner, (ahead, behind) = await shop(api)
            with SqlClient(database.settings) as sql:
                sql.run(PARTY.format(company=owner.company_id, name="both have it"))
                fork = sql.wait_for_tailer(CATCH_UP_SECONDS)
            good = await drained(behind)
            wait_for_replica(replica, executed(primary))
            ask(replica, "STOP REPLICA IO_THREAD")
            with SqlClient(database.settings) as sql:
                sql.run(*(PARTY.format(company=owner.company_id, name=f"lost {number}") for number in range(5)))
                sql.wait_for_tailer(CATCH_UP_SECONDS)
            cursor = await drained(ahead)
        primary.kill()
        tail.stop()
        promote(replica)
        there = moved(database, replica)
        tail = stack.spawn("tail", environ=there.environ)
        with SqlClient(there.settings) as sql:
            sql.run(*(PARTY.format(company=owner.company_id, name=f"new {number}") for number in range(8)))
            sql.wait_for_tailer(CATCH_UP_SECONDS)
            assert sql.rows("SELECT epoch, fork FROM sync_epochs WHERE epoch > 0") == [(1, fork)]
            assert names(sql) == ["both have it", *(f"new {number}" for number in range(8))]
            assert sql.value("SELECT server_uuid = @@server_uuid FROM sync_state") == 1
        async with open_api(there) as api:
            for line in (ahead, behind):
                line.http, line.url = api.nobody.http, api.nobody.url
            with pytest.raises(Refused) as refused:
                await ahead.pull(cursor)
            assert (refused.value.status, refused.value.body["reason"]) == (410, "epoch")
            changes, last = await behind.pull_all(good)
            assert [c["data"]["name"] for c in changes if c["version"] > good] == [f"new {number}" for number in range(8)]
            assert last >= pack(1, 8)
            pushed = await ahead.push_one(insert("parties", "unsent", name="unsent"))
            assert pushed["status"] == "applied" and pushed["record_id"] > 1 << 20
        tail.stop()


async def test_to_a_replica_with_errant_transactions(stack: Stack, servers: tuple[MySQLServer, MySQLServer]) -> None:
    primary, replica = servers
    with stack.database(primary) as database:
        tail = stack.spawn("tail", environ=database.environ)
        with SqlClient(database.settings) as sql:
            company = sql.company()
            sql.run(PARTY.format(company=company, name="on both"))
            head = sql.wait_for_tailer(CATCH_UP_SECONDS)
        tail.stop()
        wait_for_replica(replica, executed(primary))
        ask(replica, f"USE `{database.name}`", PARTY.format(company=company, name="errant"))
        primary.kill()
        promote(replica)
        there = moved(database, replica)
        tail = stack.spawn("tail", environ=there.environ)
        with SqlClient(there.settings) as sql:
            sql.run(PARTY.format(company=company, name="after"))
            assert sql.wait_for_tailer(CATCH_UP_SECONDS) == head + 2, "no gap, no new epoch"
            assert names(sql) == ["on both", "errant", "after"]
            assert sql.rows("SELECT epoch FROM sync_epochs") == [(0,)]
            assert sql.value("SELECT COUNT(*) FROM sync_audit WHERE action = 'server_changed'") == 1
        tail.stop()
