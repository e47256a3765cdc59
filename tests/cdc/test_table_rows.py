"""Rows by SELECT are the rows of the binlog, value by value and type by type: so an image made of one is that of the other."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from cdc.items import Rows
from cdc.table_rows import TableRows
from schema.errors import Halt
from schema.settings import MySQLAddress
from tests.cdc.conftest import Binlog
from tests.cdc.test_decode import LAX, TYPES, state_of

ALL = {"first": -(2**63), "last": 2**64 - 1, "rows_max": 10_000, "bytes_max": 2**30}


def rows_of(binlog: Binlog) -> TableRows:
    connect = binlog.connect
    address = MySQLAddress(connect.user, connect.password, connect.host, connect.port, binlog.database, connect.unix_socket)
    return TableRows(address, lock_wait_seconds=1)


def by_binlog(binlog: Binlog) -> tuple[tuple[str, ...], dict[Any, dict[str, Any]]]:
    """Names of the columns, and the rows as the row events leave them."""
    items = [item for item in binlog.items() if isinstance(item, Rows) and item.table == "t"]
    names = items[-1].columns.names
    state = state_of([change for item in items for change in item.changes])
    return names, {key: dict(zip(names, row, strict=True)) for key, row in state.items()}


def exact(value: Any) -> Any:
    """A value by its type and bits: 1 is not 1.0, -0.0 is not 0.0, JSON is not text."""
    return type(value), struct.pack("<d", value) if isinstance(value, float) else value


def assert_same(binlog: Binlog) -> None:
    names, wanted = by_binlog(binlog)
    with rows_of(binlog) as rows:
        found = rows.read_range("t", names, **ALL)
        some = rows.read_ids("t", names, list(wanted)[:3])
    assert not found.is_cut
    assert {row["id"] for row in some} == set(list(wanted)[:3])
    assert [row["id"] for row in found.rows] == sorted(wanted)
    for row in found.rows:
        for name, value in row.items():
            assert exact(value) == exact(wanted[row["id"]][name]), name


@pytest.mark.parametrize("family", sorted(path.stem for path in TYPES.glob("*.sql")))
def test_every_column_type_reads_the_same_from_the_table_as_from_the_binlog(binlog: Binlog, family: str) -> None:
    binlog.run(*(TYPES / f"{family}.sql").read_text().removesuffix(";\n").split(";\n"))
    assert_same(binlog)


def test_filled_numbers_and_displayed_decimals_read_the_same(binlog: Binlog) -> None:
    binlog.run(
        LAX,
        "CREATE TABLE t (id INT PRIMARY KEY, i INT(9) ZEROFILL, d DECIMAL(9,3) ZEROFILL, f FLOAT(9,2), g DOUBLE(12,3), y YEAR)",
        "INSERT INTO t VALUES (1, 7, 7.5, 1.005, 2.0005, 0), (2, 0, 0, -0e0, -0e0, 1999)",
    )
    assert_same(binlog)


@pytest.mark.parametrize("charset", ["latin1", "big5", "cp932", "sjis", "gb18030", "utf16", "ucs2", "koi8r", "cp1251", "utf8mb3"])
def test_text_keeps_its_characters_where_mysql_would_show_a_question_mark(binlog: Binlog, charset: str) -> None:
    text = {"big5": "碁", "cp932": "～①", "latin1": "€\x81", "koi8r": "Привет", "cp1251": "Привет"}.get(charset, "中")
    binlog.run(
        LAX,
        f"CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(9), e ENUM('{text[0]}', 'b'), x TEXT) CHARACTER SET {charset}",
    )
    with binlog.open() as connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO t VALUES (1, %s, %s, %s), (2, '', 'b', NULL)", (text, text[0], text))
    assert_same(binlog)


def test_big5_pairs_that_mysql_cannot_convert_are_not_lost(binlog: Binlog) -> None:
    binlog.run("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(9)) CHARACTER SET big5", "INSERT INTO t VALUES (1, _big5 x'f9d6')")
    assert_same(binlog)


def test_bytes_that_are_no_text_and_charsets_without_decoder_are_refused_as_in_the_binlog(binlog: Binlog) -> None:
    binlog.run(
        "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(9) CHARACTER SET ujis, w VARCHAR(9) CHARACTER SET armscii8)",
        "INSERT INTO t VALUES (1, _ujis x'f5a1', 'x')",
    )
    with rows_of(binlog) as rows:
        with pytest.raises(Halt, match="undecodable_text"):
            rows.read_range("t", ("id", "v"), **ALL)
        with pytest.raises(Halt, match="charset_unsupported"):
            rows.read_range("t", ("id", "w"), **ALL)


def test_a_session_in_another_zone_and_mode_changes_nothing(binlog: Binlog) -> None:
    before = binlog.query("SELECT @@GLOBAL.time_zone, @@GLOBAL.sql_mode")[0]
    binlog.run("SET GLOBAL time_zone = '+05:30'", "SET GLOBAL sql_mode = 'PAD_CHAR_TO_FULL_LENGTH,ANSI_QUOTES'")
    try:
        binlog.run(
            "CREATE TABLE t (id INT PRIMARY KEY, c CHAR(9), ts TIMESTAMP(6) NULL)",
            "INSERT INTO t VALUES (1, 'x', '2026-01-01 00:00:00.5'), (2, '', NULL)",
        )
        assert_same(binlog)
    finally:
        binlog.query("SET GLOBAL time_zone = %s", before[0])
        binlog.query("SET GLOBAL sql_mode = %s", before[1])


def test_a_range_ends_at_its_rows_or_bytes_and_says_so(binlog: Binlog) -> None:
    binlog.run("CREATE TABLE t (id INT PRIMARY KEY, v TEXT)")
    binlog.run(f"INSERT INTO t VALUES {', '.join(f'({n}, REPEAT(8, 1000))' for n in range(1, 11))}")
    with rows_of(binlog) as rows:
        by_rows = rows.read_range("t", ("id",), 3, 99, rows_max=4, bytes_max=2**20)
        by_bytes = rows.read_range("t", ("id", "v"), 3, 99, rows_max=100, bytes_max=2500)
        rest = rows.read_range("t", ("id", "v"), 9, 9, rows_max=100, bytes_max=2500)
    assert ([row["id"] for row in by_rows.rows], by_rows.is_cut) == ([3, 4, 5, 6], True)
    assert ([row["id"] for row in by_bytes.rows], by_bytes.is_cut) == ([3, 4, 5], True)
    assert ([row["id"] for row in rest.rows], rest.is_cut) == ([9], False)
