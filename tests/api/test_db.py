"""The fair pool, the kinds of session, and what each MySQL error becomes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest

from api.db import (
    CommitUnknown,
    Database,
    DatabaseError,
    DataRefused,
    DeadlockFound,
    DuplicateKey,
    ForeignKeyFailed,
    LockWaitTimeout,
    MovedOn,
    Session,
)
from schema.errors import SyncError
from schema.settings import MySQLAddress
from tests.servers import Database as Fresh
from tests.sql_client import SqlClient

POOL_SIZE = 3


@pytest.fixture(params=[False, True], ids=["text", "raw_text"])
async def db(shared: Fresh, request: pytest.FixtureRequest) -> AsyncIterator[Database]:
    database = Database(shared.settings.api(), pool_size=POOL_SIZE, wait_ms_max=300, raw_text=request.param)
    yield database
    await database.close()


@pytest.fixture
def company(admin: SqlClient) -> int:
    return admin.company()


async def add_unit(session: Session, company: int, name: str) -> int:
    return (await session.execute("INSERT INTO units_of_measure (company_id, name) VALUES (%s, %s)", (company, name))).last_id


async def kill(admin: SqlClient, session: Session) -> None:
    row = await session.fetch_one("SELECT CONNECTION_ID()")
    assert row is not None
    admin.run(f"KILL {row[0]}")
    await asyncio.sleep(0.05)


async def test_sessions_are_in_utc_strict_and_wait_shortly_for_locks(db: Database) -> None:
    async with db.read() as session:
        row = await session.fetch_one("SELECT @@time_zone = '+00:00', @@sql_mode LIKE '%STRICT_ALL%', @@innodb_lock_wait_timeout")
    assert row == (1, 1, 5)


async def test_values_come_back_as_they_were_stored(db: Database, company: int) -> None:
    sql = "INSERT INTO products (company_id, name, sku, sale_price) VALUES (%s, %s, %s, %s)"
    async with db.transaction() as session:
        product = (await session.execute(sql, (company, "Té 😀 '%s\\", "a\0b", Decimal("12.50")))).last_id
        row = await session.fetch_one("SELECT name, sku, sale_price FROM products WHERE id = %s AND name <> %s", (product, "x"))
    assert row is not None
    name, sku, price = row
    assert (name if isinstance(name, str) else name.decode()) == "Té 😀 '%s\\"
    assert (sku if isinstance(sku, str) else sku.decode()) == "a\0b"
    assert price == Decimal("12.50")


async def test_rows_of_a_write_are_the_matched_ones(db: Database, company: int) -> None:
    async with db.transaction() as session:
        result = await session.execute("UPDATE companies SET name = name WHERE id = %s", (company,))
        nothing = await session.execute("UPDATE companies SET name = name WHERE id = %s", (company + 1000,))
    assert (result.rows, nothing.rows) == (1, 0)


async def test_an_exception_rolls_the_transaction_back(db: Database, company: int, admin: SqlClient) -> None:
    with pytest.raises(RuntimeError):
        async with db.transaction() as session:
            await add_unit(session, company, "kg")
            raise RuntimeError
    async with db.transaction() as session:
        await add_unit(session, company, "litre")
    assert admin.rows("SELECT name FROM units_of_measure WHERE company_id = %s", company) == [("litre",)]


async def test_a_snapshot_sees_one_moment_and_writes_nothing(db: Database, company: int, admin: SqlClient) -> None:
    count = "SELECT COUNT(*) FROM units_of_measure WHERE company_id = %s"
    async with db.snapshot() as session:
        admin.run(f"INSERT INTO units_of_measure (company_id, name) VALUES ({company}, 'kg')")
        assert await session.fetch_one(count, (company,)) == (0,)
    async with db.snapshot() as session:
        assert await session.fetch_one(count, (company,)) == (1,)
        with pytest.raises(Exception, match="READ ONLY"):
            await add_unit(session, company, "litre")
    async with db.transaction() as session:
        assert await session.fetch_one("SELECT COUNT(*) FROM units_of_measure WHERE company_id = %s FOR UPDATE", (company,)) == (1,)


async def test_a_transaction_reads_what_others_commit_meanwhile(db: Database, company: int, admin: SqlClient) -> None:
    count = "SELECT COUNT(*) FROM units_of_measure WHERE company_id = %s"
    async with db.transaction() as session:
        assert await session.fetch_one(count, (company,)) == (0,)
        admin.run(f"INSERT INTO units_of_measure (company_id, name) VALUES ({company}, 'kg')")
        assert await session.fetch_one(count, (company,)) == (1,)


async def test_refused_statements_leave_the_transaction_good(db: Database, company: int, admin: SqlClient) -> None:
    product = "INSERT INTO products (company_id, name, sku, uom_id, sale_price) VALUES (%s, %s, %s, %s, %s)"
    async with db.transaction() as session:
        await session.execute(product, (company, "Tea", "T", None, 1))
        with pytest.raises(DuplicateKey) as duplicate:
            await session.execute(product, (company, "Tea", "T", None, 1))
        with pytest.raises(ForeignKeyFailed) as foreign:
            await session.execute(product, (company, "Tea", "U", 99999, 1))
        for bad in ("12345678901234567", "abc", None):
            with pytest.raises(DataRefused):
                await session.execute(product, (company, "Tea", "V", None, bad))
        with pytest.raises(DataRefused):
            await session.execute(product, (company, "x" * 256, "V", None, 1))
        with pytest.raises(DataRefused):
            await session.execute(product, (company, "half \ud83d", "V", None, 1))
    assert (duplicate.value.key, foreign.value.constraint) == ("products_sku", "products_uom_id")
    assert foreign.value.is_parent_missing
    assert admin.rows("SELECT sku FROM products WHERE company_id = %s", company) == [("T",)]


@pytest.mark.parametrize("value", [{"a": 1}, ["1", "2"], ("1",), object()])
async def test_only_values_are_parameters(db: Database, value: Any) -> None:
    async with db.read() as session:
        with pytest.raises(TypeError):
            await session.fetch_one("SELECT %s", (value,))
        assert await session.fetch_one("SELECT 1") == (1,)


async def test_callers_wait_in_line_and_are_told_when_it_is_too_long(db: Database) -> None:
    served: list[int] = []

    async def ask(number: int, seconds: float) -> None:
        async with db.read() as session:
            served.append(number)
            await session.fetch_one("SELECT SLEEP(%s)", (seconds,))

    holders = [asyncio.create_task(ask(number, 0.15)) for number in range(POOL_SIZE)]
    await asyncio.sleep(0.05)
    waiters = [asyncio.create_task(ask(number, 0)) for number in range(10, 16)]
    await asyncio.gather(*holders, *waiters)
    assert served[POOL_SIZE:] == list(range(10, 16))

    holders = [asyncio.create_task(ask(number, 0.6)) for number in range(POOL_SIZE)]
    await asyncio.sleep(0.05)
    started = time.monotonic()
    with pytest.raises(SyncError) as refused:
        await ask(99, 0)
    assert (refused.value.status, refused.value.code) == (503, "busy")
    assert refused.value.headers["Retry-After"] == "1"
    assert 0.25 < time.monotonic() - started < 0.5
    await asyncio.gather(*holders)
    assert (db.connections_in_use, db.callers_waiting) == (0, 0)


async def test_a_cancelled_query_never_answers_the_next_one(db: Database) -> None:
    async def ask(number: int) -> None:
        async with db.read() as session:
            row = await session.fetch_one("SELECT %s, SLEEP(%s), REPEAT('y', %s)", (number, number % 3 / 100, number % 2 * 200_000))
            assert row is not None
            assert row[0] == number

    async def hurry(number: int) -> None:
        with suppress(TimeoutError, SyncError):
            await asyncio.wait_for(ask(number), 0.004 * (number % 5))

    for block in range(6):
        await asyncio.gather(*(hurry(block * 20 + number) for number in range(20)))
    for number in range(9):
        await ask(number)
    assert (db.connections_in_use, db.callers_waiting) == (0, 0)


async def test_a_killed_idle_connection_is_replaced_without_an_error(db: Database, admin: SqlClient) -> None:
    async with db.read() as session:
        await kill(admin, session)
    async with db.read() as session:
        row = await session.fetch_one("SELECT CONNECTION_ID()")
    assert row is not None
    admin.run(f"KILL {row[0]}")
    await asyncio.sleep(0.05)
    async with db.read() as session:
        assert await session.fetch_one("SELECT 7") == (7,)


async def test_a_connection_lost_in_a_transaction_is_503_and_lost_in_commit_says_so(
    db: Database, company: int, admin: SqlClient
) -> None:
    with pytest.raises(SyncError) as lost:
        async with db.transaction() as session:
            await kill(admin, session)
            await add_unit(session, company, "kg")
    with pytest.raises(CommitUnknown) as unknown:
        async with db.transaction() as session:
            await add_unit(session, company, "kg")
            await kill(admin, session)
    assert (lost.value.status, lost.value.code) == (503, "database_unavailable")
    assert unknown.value.status == 503
    assert admin.value("SELECT COUNT(*) FROM units_of_measure WHERE company_id = %s", company) == 0


async def test_a_deadlock_is_run_again_whole(db: Database, company: int, admin: SqlClient) -> None:
    units = [admin.run(f"INSERT INTO units_of_measure (company_id, name) VALUES ({company}, '{name}')") for name in "ab"]
    runs = 0

    async def add_to_both(order: list[int]) -> None:
        async def work(session: Session) -> None:
            nonlocal runs
            runs += 1
            for unit in order:
                await session.execute("UPDATE units_of_measure SET name = CONCAT(name, 'x') WHERE id = %s", (unit,))
                await asyncio.sleep(0.05)

        await db.run(work, attempts=5)

    await asyncio.gather(add_to_both(units), add_to_both(units[::-1]))
    assert runs > 2
    assert admin.rows("SELECT name FROM units_of_measure WHERE company_id = %s ORDER BY id", company) == [("axx",), ("bxx",)]


async def test_what_was_built_on_something_that_has_moved_is_run_again_whole(db: Database, company: int, admin: SqlClient) -> None:
    """A guard goes with the COMMIT; data that another statement of the packet refuses is not taken for it."""
    guard = "UPDATE companies SET name = IF(name = %s, 'guarded', NULL) WHERE id = %s"
    seen = []

    async def work(session: Session) -> None:
        (name,) = await session.fetch_one("SELECT name FROM companies WHERE id = %s", (company,)) or ("",)
        seen.append((session.attempt, name.decode() if isinstance(name, bytes) else name))
        session.put_before(("INSERT INTO units_of_measure (company_id, name) VALUES (%s, %s)", (company, f"kg {session.attempt}")))
        if session.attempt == 1:
            admin.run(f"UPDATE companies SET name = 'moved' WHERE id = {company}")
        session.put_guard((guard, (name, company)))

    await db.run(work, attempts=3)
    assert [attempt for attempt, _ in seen] == [1, 2] and seen[1][1] == "moved"
    assert admin.rows("SELECT name FROM units_of_measure WHERE company_id = %s", company) == [("kg 2",)]
    assert admin.value("SELECT name FROM companies WHERE id = %s", company) == "guarded"
    for misplaced in (("before", "after"), ("after", "before")):
        with pytest.raises(DataRefused):
            async with db.transaction() as session:
                for place in misplaced:
                    if place == "before":
                        session.put_guard((guard, ("guarded", company)))
                    else:
                        session.put_before(("UPDATE companies SET name = NULL WHERE id = %s", (company,)))


@pytest.mark.parametrize("error", [DeadlockFound("again", "again"), LockWaitTimeout("again", "again"), MovedOn()], ids=repr)
async def test_what_stays_locked_is_busy_after_the_last_attempt(db: Database, error: DatabaseError) -> None:
    runs = 0

    async def work(session: Session) -> None:
        nonlocal runs
        runs += 1
        raise error

    with pytest.raises(SyncError) as refused:
        await db.run(work, attempts=3)
    assert (refused.value.code, runs) == ("busy", 3)


async def test_an_account_that_may_not_is_no_client_error(db: Database) -> None:
    """MySQL itself keeps the API from writing the change log: 1142."""
    async with db.read() as session:
        with pytest.raises(Exception, match="denied") as refused:
            await session.execute("DELETE FROM sync_changes")
    assert refused.value.args[0] == 1142


async def test_a_server_that_is_away_is_503() -> None:
    database = Database(MySQLAddress("u", "p", "127.0.0.1", 1, "d"), pool_size=1, wait_ms_max=100)
    for _ in range(2):
        with pytest.raises(SyncError) as refused:
            await database.open()
        assert (refused.value.status, refused.value.code) == (503, "database_unavailable")
    assert database.connections_in_use == 0
