"""What devices were given, stored for many of them at once: as it was found, or anew on what is stored by then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from api.db import Database
from api.deliveries import Deliveries, decode, encode
from api.delivery_store import DeliveryStore, Found
from tests.servers import Database as Fresh
from tests.sql_client import SqlClient

COMPANY = 1
FOUND = Deliveries(epoch=1)
MOVED = Deliveries(epoch=2)
DEVICES = ("a", "b", "c")


@pytest.fixture
async def store(shared: Fresh) -> AsyncIterator[DeliveryStore]:
    database = Database(shared.settings.api(), pool_size=2, wait_ms_max=5000)
    yield DeliveryStore(database)
    await database.close()


def given(now: Deliveries) -> Deliveries:
    """What a pull makes of a state."""
    return replace(now, fresh_head=now.fresh_head + 7)


def store_states(admin: SqlClient, **states: Deliveries) -> None:
    admin.run("DELETE FROM sync_deliveries")
    for device, state in states.items():
        admin.run(f"INSERT INTO sync_deliveries (company_id, device_id, state) VALUES ({COMPANY}, '{device}', '{encode(state)}')")


async def note_pulls(store: DeliveryStore, admin: SqlClient) -> dict[str, Deliveries]:
    """Of all devices at once, each as if it had found `FOUND`; the states that are stored then, of those that have a time."""
    found = Found(encode(FOUND).encode(), given(FOUND))
    done = await asyncio.gather(*(store.update(COMPANY, device, given, is_pull=True, found=found) for device in DEVICES))
    assert all(done)
    rows = admin.rows("SELECT device_id, state FROM sync_deliveries WHERE last_pull_at IS NOT NULL")
    return {device: decode(state) for device, state in rows}


async def test_states_that_stand_as_they_were_found_are_replaced_by_one_statement(
    store: DeliveryStore, admin: SqlClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Database, "run", raising=True)  # what makes them anew
    store_states(admin, a=FOUND, b=FOUND, c=FOUND)
    assert await note_pulls(store, admin) == dict.fromkeys(DEVICES, given(FOUND))


async def test_where_one_was_written_meanwhile_all_are_made_anew_on_what_is_stored(store: DeliveryStore, admin: SqlClient) -> None:
    store_states(admin, a=FOUND, b=MOVED, c=FOUND)
    assert await note_pulls(store, admin) == {"a": given(FOUND), "b": given(MOVED), "c": given(FOUND)}, "each once"


async def test_where_the_row_of_one_is_gone_it_is_stored_again(store: DeliveryStore, admin: SqlClient) -> None:
    store_states(admin, a=FOUND, c=FOUND)
    stored = await note_pulls(store, admin)
    assert stored["b"] == given(Deliveries())
    assert {stored[device].epoch for device in "ac"} == {FOUND.epoch}
