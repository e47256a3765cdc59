"""Rows as images: the fast way gives what the slow one, a SELECT and, where it is right, mysql-replication give."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.row_event import DeleteRowsEvent, UpdateRowsEvent, WriteRowsEvent

from cdc import events as e
from cdc.columns import Fixed, column_codec
from cdc.decode import decode_rows, table_id
from cdc.events import RawEvent
from cdc.gtid import GtidSet
from cdc.images import Image, image_of, image_value, timestamp_image
from cdc.span import open_source
from cdc.table_map import ColumnMeta, TableMap, parse_table_map, read_table_name
from cdc.table_rows import TableRows
from schema.columns import Column, Kind, timestamp
from schema.errors import Halt
from schema.tables import TABLES, Table
from schema.values import wire_from_mysql
from tests.cdc.conftest import SERVER_IDS
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

ROWS = 12
TEXTS = ("", "a", "'\"\\", "\0\n\x1f\x7f", "日本茶🍵", "é" * 100, "</script>\u2028")
DOCUMENTS: tuple[Any, ...] = ({}, [], None, 1.5, "é", {"b": [1, {"a": None}], "a": 2**53 + 1}, -(2**63))


@pytest.fixture(scope="module")
def database(stack: Stack) -> Iterator[Database]:
    """One for the file."""
    with stack.database() as shared:
        yield shared


def some_value(column: Column, chance: random.Random) -> Any:
    """A value that the column can hold, as a parameter; sizes on both sides of where one byte counts no more."""
    if column.nullable and chance.random() < 0.3:
        return None
    match column.kind:
        case Kind.BOOLEAN:
            return chance.choice((0, 1, 1, 2, -7))
        case Kind.INTEGER if column.maximum >= 2**53 - 1:
            return chance.choice((0, 1, 2**53 - 1, 2**53, 2**64 - 1))
        case Kind.INTEGER:
            return chance.choice((column.minimum, 0, column.maximum))
        case Kind.DECIMAL:
            return chance.choice(("0", "-0.01", "12.5", "-9999999999.99", f"{chance.randrange(10**9)}.{chance.randrange(100):02d}"))
        case Kind.ENUM:
            return chance.choice(column.labels)
        case Kind.DATE:
            return chance.choice(("2026-02-28", "0001-01-01", "9999-12-31"))
        case Kind.TIMESTAMP:
            return chance.choice(("2026-01-01 00:00:00", "2038-01-19 03:14:07.5", "1970-01-01 00:00:01.000001"))
        case Kind.JSON:
            return json.dumps(chance.choice(DOCUMENTS))
        case _:
            text = chance.choice(TEXTS)[: column.characters_max or None]
            return text.rstrip(" ") if column.mysql_type.startswith("char(") else text


def write_rows(sql: SqlClient, table: Table, chance: random.Random) -> None:
    """Rows with any values, references or not, and an update of each."""
    names = [column.name for column in table.columns]
    marks = ",".join(["%s"] * len(names))
    with sql.connection.cursor() as cursor:
        for number in range(1, ROWS + 1):
            values = [number, *(some_value(column, chance) for column in table.columns[1:])]
            cursor.execute(f"REPLACE INTO {table.name} ({','.join(f'`{n}`' for n in names)}) VALUES ({marks})", values)
            changed = chance.choice(table.own)
            cursor.execute(f"UPDATE {table.name} SET `{changed.name}` = %s WHERE id = %s", (some_value(changed, chance), number))


def row_events(database: Database, start: GtidSet, declared: Table, *, is_declared: bool) -> Iterator[tuple[TableMap, RawEvent]]:
    """The row events of a table, each with its table map."""
    maps: dict[bytes, TableMap] = {}
    for event in open_source(database.settings.tailer(), start).events():
        if event.type == e.TABLE_MAP and read_table_name(event.body) == (database.name, declared.name):
            found = maps[table_id(event.body)] = parse_table_map(event.body)
            if is_declared:
                found.declare(declared)
        elif event.type in e.ROWS_EVENTS and table_id(event.body) in maps:
            yield maps[table_id(event.body)], event


def read_rows(database: Database, start: GtidSet, table: Table, *, as_images: bool) -> list[tuple[Any, Any, tuple[str, ...]]]:
    """Before, after and the names of what they hold."""
    return [
        (change.before, change.after, columns.names)
        for columns, event in row_events(database, start, table, is_declared=as_images)
        for change in decode_rows(columns, event)
    ]


def shown(image: Image | None) -> list[Any] | None:
    """What can be compared of an image that another process of making made: flags that are shown as true are one object each."""
    return None if image is None else list(image)


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")  # mysql-replication's own
@pytest.mark.parametrize("name", TABLES)
def test_images_are_what_the_slow_way_a_select_and_mysql_replication_give(database: Database, sql: SqlClient, name: str) -> None:
    table, seed = TABLES[name], random.randrange(2**32)
    print(f"seed {seed}")
    start = GtidSet.parse(sql.value("SELECT @@GLOBAL.gtid_executed"))
    file, pos, *_ = sql.rows("SHOW BINARY LOG STATUS")[0]
    sql.run("SET SESSION foreign_key_checks = 0", "SET SESSION unique_checks = 0")
    chance = random.Random(seed)
    while True:
        try:
            write_rows(sql, table, chance)
            break
        except Exception as problem:  # two rows with the same unique value
            assert "1062" in str(problem), problem
    fast = [(shown(b), shown(a)) for b, a, _ in read_rows(database, start, table, as_images=True)]
    slow = [
        tuple(None if row is None else shown(image_of(table, dict(zip(names, row, strict=True)))) for row in (before, after))
        for before, after, names in read_rows(database, start, table, as_images=False)
    ]
    assert fast == slow and len(fast) >= ROWS
    newest: dict[int, list[Any]] = {}
    for old, new in fast:
        take_row(newest, old, new)
    rows = TableRows(database.settings.tailer(), lock_wait_seconds=1, read_timeout=30)
    try:
        found = rows.read_ids(table.name, tuple(table.by_name), range(1, ROWS + 1))
    finally:
        rows.close()
    assert {row["id"]: shown(image_of(table, row)) for row in found} == newest
    places = [table.columns.index(column) for column in without_json(table)]
    peers = peers_images(database, (str(file), int(pos)), table)
    assert peers == {number: [image[place] for place in places] for number, image in newest.items()}


def take_row(newest: dict[int, list[Any]], old: list[Any] | None, new: list[Any] | None) -> None:
    """A REPLACE may take another row away, or give it a new id."""
    if old is not None:
        newest.pop(old[0], None)
    if new is not None:
        newest[new[0]] = new


def peers_images(database: Database, start: tuple[str, int], table: Table) -> dict[int, list[Any]]:
    """The newest images as mysql-replication reads them, but for JSON, which it gives as Python's values in another key order.

    `start` is a place in a binlog file: it cannot read tagged GTID sets.
    """
    address = database.settings.tailer()
    reader = BinLogStreamReader(
        connection_settings={"host": address.host, "port": address.port, "user": address.user, "password": address.password},
        server_id=next(SERVER_IDS),
        log_file=start[0],
        log_pos=start[1],
        resume_stream=True,
        only_tables=[table.name],
        only_schemas=[database.name],
        only_events=[WriteRowsEvent, UpdateRowsEvent, DeleteRowsEvent],
        blocking=False,
    )
    newest: dict[int, list[Any]] = {}

    def image(values: dict[str, Any] | None) -> list[Any] | None:
        if values is None:
            return None
        return [image_value(column, values[column.name]) for column in without_json(table)]

    try:
        for event in reader:
            for row in event.rows:
                if isinstance(event, DeleteRowsEvent):
                    take_row(newest, image(row["values"]), None)
                else:
                    take_row(newest, image(row.get("before_values")), image(row.get("after_values") or row["values"]))
    finally:
        reader.close()
    return newest


def without_json(table: Table) -> list[Column]:
    return [column for column in table.columns if column.kind is not Kind.JSON]


@given(seconds=st.integers(0, 2**32 - 1), fraction=st.sampled_from([0, 1, 500_000, 999_999]) | st.integers(0, 999_999))
def test_a_timestamp_of_seven_bytes_is_what_its_text_becomes(seconds: int, fraction: int) -> None:
    raw = struct.pack(">I", seconds) + fraction.to_bytes(3, "big")
    codec = column_codec("t", ColumnMeta("at", 17, 6, is_nullable=True))
    assert isinstance(codec, Fixed) and codec.convert is not None
    assert timestamp_image(raw) == wire_from_mysql(timestamp("at"), codec.convert(raw))


def test_a_flag_that_becomes_another_truth_has_changed_and_is_shown_as_true() -> None:
    flag = next(column for column in TABLES["parties"].columns if column.kind is Kind.BOOLEAN)
    assert image_value(flag, 2) != image_value(flag, 1) != image_value(flag, 3) != image_value(flag, 2)
    assert image_value(flag, 2) == image_value(flag, 2)


def test_a_type_that_no_declaration_means_halts_with_the_column(database: Database, sql: SqlClient) -> None:
    start = GtidSet.parse(sql.value("SELECT @@GLOBAL.gtid_executed"))
    sql.run(
        "SET SESSION foreign_key_checks = 0",
        "ALTER TABLE parties MODIFY payment_terms_days VARCHAR(20)",
        "INSERT INTO parties (id, company_id, name, payment_terms_days) VALUES (99, 1, 'x', 'soon')",
    )
    with pytest.raises(Halt, match="not_derivable: column payment_terms_days"):
        read_rows(database, start, TABLES["parties"], as_images=True)
