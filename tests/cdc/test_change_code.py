"""Changes by generated code: they are what images and `derive` make of the same rows, and refused where those are."""

from __future__ import annotations

import random
from collections.abc import Iterator
from json.encoder import encode_basestring
from typing import Any

import orjson
import pymysql
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc.change_code import ChangeCode
from cdc.change_reader import read_changes
from cdc.decode import decode_rows
from cdc.derive import derive_changes
from cdc.events import RawEvent
from cdc.gtid import GtidSet
from cdc.row_code import PATTERNS_MAX
from cdc.table_map import TableMap
from schema.changes import RecordChange
from schema.columns import Column
from schema.errors import Halt
from schema.tables import TABLES, Table
from tests.cdc.test_images import row_events, some_value
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

TIME_US = 1_770_000_000_123_000
ROWS, STEPS = 8, 50


@pytest.fixture(scope="module")
def database(stack: Stack) -> Iterator[Database]:
    """One for the file."""
    with stack.database() as shared:
        yield shared


def by_images(table: Table, columns: TableMap, event: RawEvent) -> list[RecordChange]:
    return [change for _, before, after in decode_rows(columns, event) for change in derive_changes(table, before, after, TIME_US)]


def step(sql: SqlClient, table: Table, chance: random.Random) -> None:
    """Anything that SQL does to a row, or to all of them in one statement; what breaks a unique key does nothing."""
    columns = [column for column in table.columns if column.name not in ("id", "deleted_at")]
    number, column = chance.randrange(1, ROWS), chance.choice(columns)
    where = f"WHERE id = {number}" if chance.random() < 0.7 else ""
    try:
        match chance.randrange(7):
            case 0 | 1:
                insert(sql, table, number, columns, chance)
            case 2 | 3:
                run(sql, f"UPDATE {table.name} SET `{column.name}` = %s {where}", some_value(column, chance))
            case 4:
                run(sql, f"UPDATE {table.name} SET deleted_at = {chance.choice(('NULL', 'NOW(6)'))} {where}")
            case 5:
                run(sql, f"DELETE FROM {table.name} {where}")
            case _:
                moved = "id" if table.is_scope or chance.random() < 0.5 else "company_id"
                run(sql, f"UPDATE {table.name} SET {moved} = IF({moved} > 100, {moved} - 1, {moved} + 1) WHERE id = {number}")
    except pymysql.err.IntegrityError as problem:
        assert problem.args[0] == 1062, problem


def insert(sql: SqlClient, table: Table, number: int, columns: list[Column], chance: random.Random) -> None:
    names = ",".join(f"`{column.name}`" for column in columns)
    values = [some_value(column, chance) for column in columns]
    run(sql, f"INSERT INTO {table.name} (id, {names}) VALUES ({number}, {','.join(['%s'] * len(columns))})", *values)


def run(sql: SqlClient, statement: str, *values: Any) -> None:
    with sql.connection.cursor() as cursor:
        cursor.execute(statement, values or None)


@pytest.mark.parametrize("name", TABLES)
def test_changes_are_what_images_make(database: Database, sql: SqlClient, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    table, seed = TABLES[name], random.randrange(2**32)
    print(f"seed {seed}")
    start = GtidSet.parse(sql.value("SELECT @@GLOBAL.gtid_executed"))
    sql.run("SET SESSION foreign_key_checks = 0")
    chance = random.Random(seed)
    for _ in range(STEPS):
        step(sql, table, chance)
    for patterns_max in (PATTERNS_MAX, 3):
        monkeypatch.setattr("cdc.change_reader.PATTERNS_MAX", patterns_max)
        fast, slow = [], []
        for columns, event in row_events(database, start, table, is_declared=True):
            fast.append(read_changes(columns, event, TIME_US))
            slow.append(by_images(table, columns, event))
        assert fast == slow and len(fast) > ROWS
        assert all(type(change) is RecordChange for changes in fast for change in changes)


def test_a_row_that_is_cut_off_is_refused_as_images_are(database: Database, sql: SqlClient) -> None:
    start, table, company = GtidSet.parse(sql.value("SELECT @@GLOBAL.gtid_executed")), TABLES["parties"], sql.company()
    sql.run("ALTER TABLE parties ADD COLUMN remark VARCHAR(50)")  # text in the last place, which nothing else would miss
    party = sql.run(f"INSERT INTO parties (company_id, name, remark) VALUES ({company}, 'Ann', 'good')")
    sql.run(
        f"UPDATE parties SET phone = '1' WHERE id = {party}",
        f"DELETE FROM parties WHERE id = {party}",
        "ALTER TABLE parties DROP COLUMN remark",
    )
    for columns, event in row_events(database, start, table, is_declared=True):
        for size in range(8, len(event.body) + 1):
            cut = event._replace(body=event.body[:size])
            try:
                slow = by_images(table, columns, cut)
            except Halt:
                with pytest.raises(Halt, match=r"event_malformed|row_image_not_full|undecodable_text"):
                    read_changes(columns, cut, TIME_US)
            else:
                assert read_changes(columns, cut, TIME_US) == slow


def test_what_does_not_become_a_change_halts_with_a_reason(
    database: Database, sql: SqlClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise KeyError("new")

    monkeypatch.setattr(ChangeCode, "stored", fails)
    start = GtidSet.parse(sql.value("SELECT @@GLOBAL.gtid_executed"))
    sql.run(f"INSERT INTO parties (company_id, name) VALUES ({sql.company()}, 'Ann')")
    for columns, event in row_events(database, start, TABLES["parties"], is_declared=True):
        with pytest.raises(Halt, match="not_derivable: rows of parties cannot be made changes: KeyError"):
            read_changes(columns, event, TIME_US)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_text_is_escaped_as_everywhere_else(text: str) -> None:
    assert encode_basestring(text).encode() == orjson.dumps(text)


def test_every_character_is_escaped_as_everywhere_else() -> None:
    text = "".join(chr(code) for code in range(0x11000) if not 0xD800 <= code < 0xE000)
    assert encode_basestring(text).encode() == orjson.dumps(text)
