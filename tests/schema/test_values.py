"""Values have one form: wire → MySQL → wire gives back what was taken, and what a column cannot hold is refused with its reason."""

from __future__ import annotations

import datetime as dt
import json
import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymysql.connections import Connection

from schema.columns import Access, Column, Kind, date, enum, flag, integer, json_value, long_text, money, quantity, text
from schema.tables import TABLES
from schema.values import (
    BadValue,
    is_same,
    is_same_json,
    mysql_from_wire,
    rfc3339,
    rfc3339_from_us,
    us_from_rfc3339,
    wire_from_client,
    wire_from_mysql,
    wire_json,
)
from tests.servers import Database
from tests.sql_client import SqlClient

MONEY, QUANTITY, FLAG, DAY, NAME, NOTE, JSON = (
    money("m"), quantity("q"), flag("f"), date("d"), text("t"), long_text("n"), json_value("j"),
)  # fmt: skip
CODE = text("c", 3, fixed=True)
KIND = enum("k", "sale", "saleReturn")
DAYS = integer("i", "int", -(1 << 31), (1 << 31) - 1)

ACCEPTED: list[tuple[Column, Any, Any]] = [
    (MONEY, 12.5, "12.50"), (MONEY, "12.5", "12.50"), (MONEY, 0, "0.00"), (MONEY, "-0", "0.00"), (MONEY, -0.0, "0.00"),
    (MONEY, "1e3", "1000.00"), (MONEY, "+7.10", "7.10"), (MONEY, " 7 ", "7.00"), (MONEY, 0.1, "0.10"),
    (MONEY, "9999999999999.99", "9999999999999.99"), (MONEY, -9999999999999, "-9999999999999.00"), (MONEY, "0.100000", "0.10"),
    (QUANTITY, "0.001", "0.001"), (QUANTITY, 999999999999.5, "999999999999.500"),
    (FLAG, True, True), (FLAG, 0, False), (FLAG, 1, True), (FLAG, 1.0, True),
    (DAY, "2026-02-28", "2026-02-28"), (DAY, "2024-02-29T00:00:00.000Z", "2024-02-29"), (DAY, "2024-02-29T00:00:00", "2024-02-29"),
    (NAME, "", ""), (NAME, "a" * 255, "a" * 255), (NAME, "🍵" * 255, "🍵" * 255), (NAME, "x  ", "x  "),
    (NAME, "a\0\n'\\", "a\0\n'\\"),
    (CODE, "EUR", "EUR"), (CODE, "E  ", "E"),
    (NOTE, "é" * 32_767, "é" * 32_767),
    (KIND, "saleReturn", "saleReturn"),
    (DAYS, "7", 7), (DAYS, 7.0, 7), (DAYS, -(2**31), -(2**31)), (DAYS, "+7", 7),
    (JSON, {"a": [1, None, True, 1.5, "é"]}, {"a": [1, None, True, 1.5, "é"]}),
    (JSON, [], []), (JSON, "text", "text"), (JSON, False, False),
]  # fmt: skip


def refused(column: Column, *values: Any) -> list[tuple[Column, Any]]:
    return [(column, value) for value in values]


REFUSED: list[tuple[Column, Any]] = [
    *refused(MONEY, "", "x", "1,5", True, [], {}, "nan", "inf", "-Infinity", 1e13, "10000000000000", "0.001", 1.005, 1e-300),
    *refused(MONEY, "1e999999999", "9" * 200, "0." + "0" * 200 + "1", 10**50, "0x10", "1_0", "７"),
    (QUANTITY, "0.0001"), (QUANTITY, 10**12),
    *refused(FLAG, "true", "1", 2, -1, 0.5, [], {}),
    *refused(DAY, "2026-02-30", "0000-00-00", "2026-2-3", "20260203", "2026-02-03T10:00:00Z", "", 5, True, []),
    *refused(DAY, "2026-02-03 ", "２０２６-02-03"),
    *refused(NAME, "a" * 256, 5, 1.5, True, [], {}),
    (CODE, "EURO"), (NOTE, "é" * 32_768),
    *refused(KIND, "Sale", "sale ", "", 0, 1, ["sale"], {}, True),
    *refused(DAYS, 2**31, -(2**31) - 1, 1.5, "1.0", "x", "", True, [], 1e300, "9" * 50, float("inf"), "７"),
]  # fmt: skip


@pytest.mark.parametrize(("column", "value", "wire"), ACCEPTED)
def test_a_clients_value_has_one_wire_form(column: Column, value: Any, wire: Any) -> None:
    found = wire_from_client(column, value)
    assert found == wire and type(found) is type(wire)
    assert wire_from_client(column, found) == found, "and that form is its own"


@pytest.mark.parametrize(("column", "value"), REFUSED)
def test_what_a_column_cannot_hold_is_refused_with_a_reason_never_bent(column: Column, value: Any) -> None:
    with pytest.raises(BadValue) as problem:
        wire_from_client(column, value)
    assert problem.value.column == column.name and problem.value.reason


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda c: st.lists(c) | st.dictionaries(st.text(), c)
    )
)
def test_any_json_value_is_taken_or_refused_and_nothing_else(value: Any) -> None:
    for column in (MONEY, QUANTITY, FLAG, DAY, NAME, CODE, KIND, DAYS):
        try:
            wire = wire_from_client(column, value)
        except BadValue:
            continue
        assert wire is None or wire_from_client(column, wire) == wire


@given(st.decimals(min_value=-(10**13) + 1, max_value=10**13 - 1, places=2))
def test_money_keeps_every_digit(amount: Decimal) -> None:
    wire = wire_from_client(MONEY, str(amount))
    assert Decimal(wire) == amount and len(wire.partition(".")[2]) == 2
    assert wire_from_mysql(MONEY, Decimal(wire)) == wire == wire_from_mysql(MONEY, wire)


@given(st.datetimes(min_value=dt.datetime(1970, 1, 1, 0, 0, 1), max_value=dt.datetime(2038, 1, 1)))
def test_a_timestamp_is_rfc_3339_in_utc_its_fraction_only_when_it_is_not_zero(moment: dt.datetime) -> None:
    wire = rfc3339(moment)
    assert wire.endswith("Z") and not wire.endswith(".000000Z")
    assert rfc3339(moment.strftime("%Y-%m-%d %H:%M:%S.%f")) == wire, "the decoder's text has the same form"
    assert rfc3339_from_us(us_from_rfc3339(wire)) == wire


@given(st.integers(0, 2**52))
def test_microseconds_and_rfc_3339_are_one(us: int) -> None:
    assert us_from_rfc3339(rfc3339_from_us(us)) == us


@pytest.mark.parametrize("text", ["", "x", "2026-02-30T00:00:00Z", "2026-01-01T25:00:00Z", "1", "９"])
def test_a_timestamp_that_is_none_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        us_from_rfc3339(text)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"a": 1, "b": 2}, {"b": 2.0, "a": 1}, True), (1, True, False), (0, False, False), (None, False, False),
        ([1, 2], [2, 1], False),
        ({"a": None}, {}, False), ("1", 1, False), ([], {}, False), ({"a": [True]}, {"a": [1]}, False), (1.5, 1.5, True),
    ],
)  # fmt: skip
def test_json_is_compared_by_value(one: Any, other: Any, same: bool) -> None:
    assert is_same_json(one, other) is same is is_same_json(other, one)
    assert is_same(JSON, one, other) is same


def test_integers_beyond_what_a_double_holds_are_text() -> None:
    column = integer("i", "bigint unsigned", 0, (1 << 64) - 1)
    assert wire_from_mysql(column, 2**53 - 1) == 2**53 - 1
    assert wire_from_mysql(column, 2**53) == str(2**53) and wire_from_mysql(column, -(2**53)) == str(-(2**53))
    assert mysql_from_wire(column, "18446744073709551615") == 2**64 - 1


finite = st.floats(allow_nan=False, allow_infinity=False).filter(lambda f: f == 0 or 1e-300 < abs(f) < 1e300)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | finite | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=10), inner, max_size=4)
    ),
    max_leaves=8,
)
column_values: dict[Kind, Any] = {
    Kind.TEXT: st.text(st.characters(codec="utf-8"), max_size=60),
    Kind.BOOLEAN: st.booleans(),
    Kind.DATE: st.dates(min_value=dt.date(1000, 1, 1)).map(lambda day: day.isoformat()),
    Kind.JSON: json_values,
}


def values_for(column: Column) -> Any:
    """Client values that the column holds."""
    if column.kind is Kind.DECIMAL:
        most = 10 ** (column.precision - column.scale) - 1
        strategy: Any = st.decimals(min_value=-most, max_value=most, places=column.scale).map(str)
    elif column.kind is Kind.ENUM:
        strategy = st.sampled_from(column.labels)
    elif column.kind is Kind.INTEGER:
        strategy = st.integers(column.minimum, column.maximum)
    elif column.mysql_type.startswith("char("):
        strategy = st.text(st.characters(min_codepoint=65, max_codepoint=90), max_size=column.characters_max)
    else:
        strategy = column_values[column.kind]
    return st.none() | strategy if column.nullable else strategy


TRIED = {
    name: tuple(c for c in TABLES[name].own if not c.references and c.access is not Access.PRIVATE and c.name != "transaction_id")
    for name in ("parties", "products", "settings", "invoices", "payment_accounts", "account_transactions")
}
rows = st.sampled_from(["parties", "products", "settings", "invoices", "payment_accounts"]).flatmap(
    lambda name: st.tuples(st.just(name), st.fixed_dictionaries({c.name: values_for(c) for c in TRIED[name]}))
)


def test_what_was_stored_comes_back_from_select_and_from_the_binlogs_encoder_alike(database: Database, sql: SqlClient) -> None:
    """Wire → MySQL → wire, for rows of every kind of column."""
    company = sql.company()
    numbers = iter(range(10**9))

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(rows)
    def round_trip(drawn: tuple[str, dict[str, Any]]) -> None:
        name, sent = drawn
        table = TABLES[name]
        if table.unique is not None:
            sent[table.unique.columns[-1]] = f"unique {next(numbers)}"
        wire = {column: wire_from_client(table.by_name[column], value) for column, value in sent.items()}
        stored = _stored(sql.connection, name, company, wire)
        for column, value in wire.items():
            found = wire_from_mysql(table.by_name[column], stored[column])
            assert is_same(table.by_name[column], found, value), (column, value, found)
            if table.by_name[column].kind is not Kind.JSON:
                assert found == value and type(found) is type(value)

    round_trip()


def _stored(connection: Connection[Any], name: str, company: int, wire: dict[str, Any]) -> dict[str, Any]:
    columns = list(wire)
    params = [mysql_from_wire(TABLES[name].by_name[column], wire[column]) for column in columns]
    listed = ", ".join(f"`{column}`" for column in columns)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO `{name}` (company_id, {listed}) VALUES (%s, {', '.join('%s' for _ in columns)})", (company, *params)
        )
        cursor.execute(f"SELECT {listed} FROM `{name}` WHERE id = %s", (cursor.lastrowid,))
        found = cursor.fetchone()
    assert found is not None
    return dict(zip(columns, found, strict=True))


@given(json_values)
def test_the_log_keeps_the_text_of_json_and_one_form_of_everything_else(value: Any) -> None:
    raw = json.dumps(value)
    row = {"j": raw, "m": "1.50", "f": 1, "t": "é"}
    told = wire_json(row, (JSON, MONEY, FLAG, NAME))
    parsed = json.loads(told)
    assert is_same_json(parsed["j"], json.loads(raw)) or (isinstance(value, float) and math.isnan(value))
    assert (parsed["m"], parsed["f"], parsed["t"]) == ("1.50", True, "é") and list(parsed) == ["j", "m", "f", "t"]
    assert f'"j":{raw}' in told


def test_a_text_type_of_the_decoders_own_is_taken_as_json() -> None:
    class Text(str):
        pass

    assert wire_json({"j": Text('{"a": 1}')}, (JSON,)) == '{"j":{"a": 1}}'
