"""Every column type, odd values included: what the decoder reads from the binlog is what SELECT prints."""

from __future__ import annotations

import datetime
import decimal
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdc.columns import Value, shortest_float
from cdc.decimals import decimal_text
from cdc.decode_json import JsonText, double_text
from cdc.items import Rows
from cdc.table_map import BIT, DOUBLE, FLOAT, GEOMETRY, VECTOR, YEAR, ColumnMeta, TableMap
from schema.errors import Halt
from tests.cdc.conftest import Binlog

LAX = "SET SESSION sql_mode = ''"

TYPES = Path(__file__).parent / "data" / "types"
"""One file a family of types: statements that make a table `t` with odd values in it."""


def as_select_prints(column: ColumnMeta, value: Value) -> str | bytes | None:
    """A decoded value in SELECT's notation, where the two differ by notation only."""
    if column.type in (GEOMETRY, VECTOR) and isinstance(value, bytes):
        return value.hex().upper()
    if value is None or isinstance(value, str | bytes):
        return value
    if column.type == BIT:
        return int(value).to_bytes((column.meta + 7) // 8, "big")
    if column.type == YEAR:
        return f"{value:04d}"
    return str(value)


def state_of(changes: list[Any]) -> dict[Value, tuple[Value, ...]]:
    """The rows as the changes leave them, by their first column."""
    rows: dict[Value, tuple[Value, ...]] = {}
    for change in changes:
        if change.before is not None:
            del rows[change.before[0]]
        if change.after is not None:
            rows[change.after[0]] = change.after
    return rows


def assert_same_as_select(binlog: Binlog, table: str = "t") -> TableMap:
    items = [item for item in binlog.items() if isinstance(item, Rows) and item.table == table]
    columns = items[-1].columns
    rows = state_of([change for item in items for change in item.changes])
    hexed = {name for name, column in zip(columns.names, columns.columns, strict=True) if column.type in (GEOMETRY, VECTOR)}
    names = ", ".join(f"HEX(`{name}`)" if name in hexed else f"`{name}`" for name in columns.names)
    selected = binlog.query(f"SELECT {names} FROM {table} ORDER BY 1")
    assert len(selected) == len(rows)
    for want in selected:
        got = rows[int(want[0])]
        for column, expected, value in zip(columns.columns, want, got, strict=True):
            if column.type in (FLOAT, DOUBLE):
                assert_same_number(binlog, table, column, want[0], value)
            else:
                assert as_select_prints(column, value) == expected, (column, want[0])
    return columns


def assert_same_number(binlog: Binlog, table: str, column: ColumnMeta, row: str, value: Value) -> None:
    """SELECT rounds a FLOAT to six digits; added to a DOUBLE it shows all bits."""
    exact = binlog.query(f"SELECT `{column.name}` + 0e0 FROM {table} WHERE id = %s", row)[0][0]
    if exact is None or value is None:
        assert exact is value
    elif column.type == DOUBLE:
        assert struct.pack("<d", float(exact)) == struct.pack("<d", value) or value == float(exact) == 0
    else:
        assert struct.pack("<f", value) == struct.pack("<f", float(exact)) or value == float(exact) == 0


@pytest.mark.parametrize("family", sorted(path.stem for path in TYPES.glob("*.sql")))
def test_decoded_values_are_what_select_prints(binlog: Binlog, family: str) -> None:
    binlog.run(*(TYPES / f"{family}.sql").read_text().removesuffix(";\n").split(";\n"))
    assert_same_as_select(binlog)


def test_columns_know_their_keys_nullability_and_visibility(binlog: Binlog) -> None:
    binlog.run(
        "CREATE TABLE t (a INT NOT NULL, b VARCHAR(9) NOT NULL, h INT INVISIBLE, p POLYGON, v VECTOR(7), PRIMARY KEY (b, a))",
        "INSERT INTO t (a, b) VALUES (1, 'x')",
    )
    (rows,) = [item for item in binlog.items() if isinstance(item, Rows)]
    columns = rows.columns
    assert columns.names == ("a", "b", "h", "p", "v")
    assert columns.index == {"a": 0, "b": 1, "h": 2, "p": 3, "v": 4}
    assert columns.primary_key == (1, 0)
    assert [column.is_nullable for column in columns.columns] == [False, False, True, True, True]
    assert [column.is_visible for column in columns.columns] == [True, True, False, True, True]
    assert columns.columns[3].geometry_type == 3
    assert columns.columns[4].vector_dimensions == 7


def test_a_prefix_primary_key_names_its_columns(binlog: Binlog) -> None:
    binlog.run("CREATE TABLE t (a INT, b TEXT, PRIMARY KEY (b(5), a))", "INSERT INTO t VALUES (1, 'x')")
    (rows,) = [item for item in binlog.items() if isinstance(item, Rows)]
    assert rows.columns.primary_key == (1, 0)


def test_a_generated_invisible_primary_key_is_a_hidden_column(binlog: Binlog) -> None:
    binlog.run(
        "SET sql_generate_invisible_primary_key = ON",
        "CREATE TABLE t (a INT)",
        "INSERT INTO t (a) VALUES (5)",
    )
    (rows,) = [item for item in binlog.items() if isinstance(item, Rows)]
    assert rows.columns.names == ("my_row_id", "a")
    assert not rows.columns.columns[0].is_visible
    assert rows.changes[0].after == (1, 5)


def test_names_come_from_the_event_and_not_from_the_later_table(binlog: Binlog) -> None:
    binlog.run(
        "CREATE TABLE t (id INT PRIMARY KEY, x INT, y VARCHAR(9))",
        "INSERT INTO t VALUES (1, 10, '1')",
        "ALTER TABLE t ADD COLUMN w INT DEFAULT 3 AFTER id, RENAME COLUMN x TO xx",
        "INSERT INTO t VALUES (2, 4, 20, '2')",
        "ALTER TABLE t DROP COLUMN w, MODIFY y BIGINT UNSIGNED, DROP COLUMN xx",
        "INSERT INTO t VALUES (3, 40)",
        "DROP TABLE t",
    )
    rows = [item for item in binlog.items() if isinstance(item, Rows)]
    assert [dict(zip(r.columns.names, r.changes[0].after or (), strict=True)) for r in rows] == [
        {"id": 1, "x": 10, "y": "1"},
        {"id": 2, "w": 4, "xx": 20, "y": "2"},
        {"id": 3, "y": 40},
    ]


def test_timestamps_are_utc_whatever_zone_the_writer_was_in(binlog: Binlog) -> None:
    binlog.run(
        "CREATE TABLE t (id INT PRIMARY KEY, ts TIMESTAMP, dt DATETIME)",
        "SET time_zone = '+05:30'",
        "INSERT INTO t VALUES (1, '2026-01-01 05:30:00', '2026-01-01 05:30:00')",
    )
    assert binlog.changes("t")[0].after == (1, "2026-01-01 00:00:00", "2026-01-01 05:30:00")


def test_a_column_added_instantly_has_its_default_in_old_rows(binlog: Binlog) -> None:
    binlog.run(
        "CREATE TABLE t (id INT PRIMARY KEY)",
        "INSERT INTO t VALUES (1)",
        "ALTER TABLE t ADD COLUMN c VARCHAR(9) NOT NULL DEFAULT 'new', ALGORITHM = INSTANT",
        "UPDATE t SET id = 2",
    )
    assert binlog.changes("t")[-1][1:] == ((1, "new"), (2, "new"))


@pytest.mark.parametrize(
    ("charset", "text"),
    [
        ("latin1", "Müller € „x“ \x81\x8d\x8f\x90\x9d"),
        ("latin2", "Łódź"), ("latin5", "ğüşİı"), ("latin7", "ąčęė"), ("cp1250", "Łódź €"), ("cp1251", "Привет"),
        ("cp1256", "سلام"), ("cp1257", "ąčęė"), ("cp850", "çé"), ("cp852", "Łó"), ("cp866", "Привет²ⁿ"), ("koi8r", "Привет"),
        ("koi8u", "Привіт•"), ("greek", "Καλημέραʽʼ"), ("hebrew", "שלום‾"), ("macroman", "é∞"), ("macce", "Łó"), ("tis620", "สวัสดี"),
        ("gbk", "中文"), ("gb2312", "中文"), ("gb18030", "中文😀ḿ"), ("big5", "中文碁"), ("sjis", "日本ｱ〜"), ("cp932", "日本ｱ～①"),
        ("ujis", "日本ｱ〜"), ("euckr", "한국갂"), ("ucs2", "Ω中"), ("utf16", "Ω😀"), ("utf16le", "Ω😀"),
        ("utf32", "Ω😀"), ("utf8mb3", "Ω中"), ("ascii", "plain"),
    ],
)  # fmt: skip
def test_text_is_read_in_the_columns_own_charset(binlog: Binlog, charset: str, text: str) -> None:
    binlog.run(LAX, f"CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(50), c CHAR(40), x TEXT) CHARACTER SET {charset}")
    with binlog.open() as connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO t VALUES (1, %s, %s, %s), (2, '', ' x ', '')", (text, text, text))
    assert binlog.query("SELECT v FROM t WHERE id = 1") == [(text,)]
    assert_same_as_select(binlog)


def test_every_byte_of_a_single_byte_charset_is_read_as_mysql_reads_it(binlog: Binlog) -> None:
    """Bytes without a character become '?' in SELECT, which loses them: there the decoder refuses."""
    from cdc.charsets import _COLLATIONS, text_decoder

    single = {row[0] for row in binlog.query("SELECT CHARACTER_SET_NAME FROM information_schema.CHARACTER_SETS WHERE MAXLEN = 1")}
    for charset in sorted(single & set(_COLLATIONS) - {"binary"}):
        decode = text_decoder(next(iter(_COLLATIONS[charset])))
        assert decode is not None
        columns = ", ".join(f"CONVERT(_{charset} x'{byte:02x}' USING utf8mb4)" for byte in range(256))
        for byte, want in enumerate(binlog.query(f"SELECT {columns}")[0]):
            if want in ("?", "\ufffd") and byte != ord("?"):
                with pytest.raises(UnicodeDecodeError):
                    decode(bytes([byte]))
            else:
                assert decode(bytes([byte])) == want, (charset, byte)


def test_every_collation_of_the_server_is_known_by_number(binlog: Binlog) -> None:
    from cdc.charsets import charset_name

    unsupported = {"armscii8", "dec8", "eucjpms", "geostd8", "hp8", "keybcs2", "swe7"}
    for charset, number in binlog.query("SELECT CHARACTER_SET_NAME, ID FROM information_schema.COLLATIONS"):
        assert charset in unsupported or charset_name(int(number)) == charset


def test_a_charset_without_decoder_halts_and_names_the_column(binlog: Binlog) -> None:
    binlog.run("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(9) CHARACTER SET armscii8)", "INSERT INTO t VALUES (1, 'x')")
    with pytest.raises(Halt, match="charset_unsupported") as halt:
        binlog.items()
    assert halt.value.details["column"] == "v"
    assert halt.value.details["gtid"]


def test_text_that_is_no_text_in_its_charset_halts(binlog: Binlog) -> None:
    binlog.run(
        "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(9) CHARACTER SET ujis)",
        "INSERT INTO t VALUES (1, _ujis x'f5a1')",
    )
    with pytest.raises(Halt, match="undecodable_text"):
        binlog.items()


def test_minimal_row_metadata_halts_only_for_wanted_tables(binlog: Binlog) -> None:
    binlog.run("CREATE TABLE t (id INT PRIMARY KEY, x BIGINT UNSIGNED)")
    binlog.mark()
    binlog.run("SET GLOBAL binlog_row_metadata = MINIMAL")
    try:
        binlog.run("INSERT INTO t VALUES (1, 18446744073709551615)")
    finally:
        binlog.run("SET GLOBAL binlog_row_metadata = FULL")
    assert [type(item).__name__ for item in binlog.items(lambda *_: False)] == ["TxBegin", "TxEnd"]
    with pytest.raises(Halt, match="metadata_minimal"):
        binlog.items()


@pytest.mark.parametrize("image", ["MINIMAL", "NOBLOB"])
@pytest.mark.parametrize("statement", ["UPDATE t SET a = 2", "DELETE FROM t"])
def test_a_row_image_without_all_columns_halts(binlog: Binlog, image: str, statement: str) -> None:
    binlog.run("CREATE TABLE t (id INT PRIMARY KEY, a INT, b TEXT)", "INSERT INTO t VALUES (1, 1, 'x')")
    binlog.mark()
    binlog.run(f"SET SESSION binlog_row_image = {image}", statement)
    with pytest.raises(Halt, match="row_image_not_full") as halt:
        binlog.items()
    assert "b" in halt.value.details["missing"]
    assert halt.value.details["file"]
    assert halt.value.details["pos"] > 0


SQL_DECIMALS = st.tuples(st.integers(1, 65), st.integers(0, 30)).filter(lambda pair: pair[1] <= pair[0])


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(SQL_DECIMALS, st.lists(st.integers(-(10**65) + 1, 10**65 - 1), min_size=1, max_size=20))
def test_decimals_of_every_precision_keep_their_digits(binlog: Binlog, shape: tuple[int, int], numbers: list[int]) -> None:
    precision, scale = shape
    binlog.mark()
    literals = [decimal.Decimal(n % 10**precision * (-1 if n < 0 else 1)).scaleb(-scale, decimal.Context(prec=70)) for n in numbers]
    values = ", ".join(f"({row}, {value:f})" for row, value in enumerate(literals))
    binlog.run(
        "DROP TABLE IF EXISTS t",
        f"CREATE TABLE t (id INT PRIMARY KEY, d DECIMAL({precision},{scale}))",
        f"INSERT INTO t VALUES {values}",
    )
    assert_same_as_select(binlog)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.integers(-3020399_000000, 3020399_000000), min_size=1, max_size=30))
def test_times_of_every_sign_and_fraction_are_what_select_prints(binlog: Binlog, micros: list[int]) -> None:
    def literal(us: int) -> str:
        seconds, fraction = divmod(abs(us), 10**6)
        return f"'{'-' if us < 0 else ''}{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{fraction:06d}'"

    binlog.mark()
    values = ", ".join(f"({row}, " + ", ".join([literal(us)] * 7) + ")" for row, us in enumerate(micros))
    columns = ", ".join(f"t{n} TIME({n})" for n in range(7))
    binlog.run("DROP TABLE IF EXISTS t", LAX, f"CREATE TABLE t (id INT PRIMARY KEY, {columns})", f"INSERT INTO t VALUES {values}")
    assert_same_as_select(binlog)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(
        st.datetimes(datetime.datetime(1970, 1, 1, 0, 0, 1), datetime.datetime(2038, 1, 19, 3, 14, 6)), min_size=1, max_size=30
    )
)
def test_moments_are_what_select_prints(binlog: Binlog, moments: list[datetime.datetime]) -> None:
    binlog.mark()
    values = ", ".join(f"({row}, '{at}', '{at}', '{at}', '{at}', '{at}')" for row, at in enumerate(moments))
    binlog.run(
        "DROP TABLE IF EXISTS t",
        "CREATE TABLE t (id INT PRIMARY KEY, a DATETIME(6), b DATETIME(1), c TIMESTAMP(6), d TIMESTAMP(3), e DATE)",
        f"INSERT INTO t VALUES {values}",
    )
    assert_same_as_select(binlog)


ANY_TEXT = st.characters(exclude_categories=["Cs"])
TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(ANY_TEXT, max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(ANY_TEXT, max_size=9), inner, max_size=5),
    max_leaves=30,
)  # fmt: skip


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(TREES, min_size=1, max_size=10))
def test_json_documents_are_what_select_prints(binlog: Binlog, trees: list[Any]) -> None:
    binlog.mark()
    binlog.run("DROP TABLE IF EXISTS t", "CREATE TABLE t (id INT PRIMARY KEY, j JSON)")
    with binlog.open() as connection, connection.cursor() as cursor:
        cursor.executemany("INSERT INTO t VALUES (%s, %s)", [(row, json.dumps(tree)) for row, tree in enumerate(trees)])
    assert_same_as_select(binlog)
    assert all(isinstance(change.after[1], JsonText) for change in binlog.changes("t") if change.after is not None)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=40))
def test_doubles_in_json_have_mysqls_layout(binlog: Binlog, numbers: list[float]) -> None:
    with binlog.open() as connection, connection.cursor() as cursor:
        for number in numbers:
            cursor.execute("SELECT CAST(CAST(%s AS JSON) AS CHAR)", (json.dumps(number),))
            assert cursor.fetchall()[0][0] == double_text(number)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_float_is_the_shortest_number_that_gives_its_bits_back(number: float) -> None:
    raw = struct.pack("<f", number)
    short = shortest_float(raw)
    assert struct.pack("<f", short) == raw
    assert len(f"{short:.9g}".lstrip("-").replace(".", "").split("e")[0].strip("0")) <= 9


def test_a_decimal_with_impossible_digits_is_refused() -> None:
    with pytest.raises(ValueError, match="digits that cannot be"):
        decimal_text(b"\xff\xff\xff\xff", 9, 0)
