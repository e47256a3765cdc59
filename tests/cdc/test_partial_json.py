"""UPDATEs that log parts of JSON documents: the whole document comes out as SELECT prints it, or the tailer halts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdc import events as e
from cdc.items import Rows
from cdc.json_diff import DoesNotApply, apply_differences
from cdc.tx import assemble
from schema.errors import Halt
from tests.cdc.conftest import Binlog
from tests.cdc.test_decode import TREES

PARTIAL = "SET SESSION binlog_row_value_options = PARTIAL_JSON"
PADDING = "x" * 3000
"""Without it whole documents are shorter than their differences, and MySQL logs those."""

KEYS = st.sampled_from(
    ["a", "b", "key", "ü😀", "with space", 'quo"te', "back\\slash", "do.t", "", "1st", "日本", "a\nb", "$x", "[0]"]
)
LEAVES = TREES | st.dictionaries(KEYS, TREES, max_size=4) | st.lists(TREES, max_size=4)
DOCUMENTS = st.dictionaries(KEYS, LEAVES, max_size=5).map(lambda tree: {**tree, "padding": PADDING})
LEGS = (
    KEYS.map(lambda key: f".{json.dumps(key, ensure_ascii=False)}")
    | st.integers(0, 4).map(lambda n: f"[{n}]")
    | st.sampled_from(["[last]", "[last-1]"])
)
PATHS = st.lists(LEGS, min_size=1, max_size=3).map(lambda legs: "$" + "".join(legs))
EDITS = st.lists(
    st.tuples(st.sampled_from(["JSON_SET", "JSON_REPLACE", "JSON_REMOVE"]), PATHS, TREES | LEAVES), min_size=1, max_size=4
)


def expression(column: str, edits: list[tuple[str, str, Any]]) -> tuple[str, list[str]]:
    """The nested calls, and their parameters."""
    parameters: list[str] = []
    for function, path, value in edits:
        parameters.append(path)
        if function == "JSON_REMOVE":
            column = f"{function}({column}, %s)"
        else:
            column = f"{function}({column}, %s, CAST(%s AS JSON))"
            parameters.append(json.dumps(value))
    return column, parameters


def types(binlog: Binlog) -> set[int]:
    """The kinds of row event that update."""
    return {event.type for event in binlog.events()} & {e.UPDATE_ROWS, e.PARTIAL_UPDATE_ROWS}


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(DOCUMENTS, EDITS), min_size=1, max_size=6))
def test_partial_updates_give_the_documents_that_select_prints(binlog: Binlog, cases: list[tuple[Any, list[Any]]]) -> None:
    binlog.mark()
    binlog.run("DROP TABLE IF EXISTS t", "CREATE TABLE t (id INT PRIMARY KEY, k JSON, j JSON, n INT DEFAULT 0)")
    seen: dict[Any, Any] = {}
    with binlog.open() as connection, connection.cursor() as cursor:
        cursor.execute(PARTIAL)
        for row, (document, edits) in enumerate(cases):
            cursor.execute("INSERT INTO t (id, k, j) VALUES (%s, NULL, %s)", (row, json.dumps(document)))
            changed, parameters = expression("j", edits)
            cursor.execute(f"UPDATE t SET j = {changed}, n = 1 WHERE id = {row}", parameters)
        connection.commit()
    for item in binlog.items():
        for change in item.changes if isinstance(item, Rows) else ():
            if change.before is not None:
                assert seen[change.before[0]] == change.before
            assert change.after is not None
            seen[change.after[0]] = change.after
    assert sorted((str(row[0]), *row[1:3], str(row[3])) for row in seen.values()) == sorted(binlog.query("SELECT * FROM t"))


def test_values_that_json_has_no_type_for_keep_their_form_in_a_part(binlog: Binlog) -> None:
    binlog.run(
        "CREATE TABLE t (id INT PRIMARY KEY, j JSON)",
        f"INSERT INTO t VALUES (1, JSON_OBJECT('keep', CAST(1.5 AS DECIMAL(9,2)), 'pad', '{PADDING}', 'list', JSON_ARRAY(1, 2)))",
        PARTIAL,
        "UPDATE t SET j = JSON_SET(j, '$.d', CAST(-12.3450 AS DECIMAL(10,4)), '$.t', CAST('-10:11:12.5' AS TIME(6)), "
        "'$.b', x'cafe', '$.big', 18446744073709551615, '$.z', -0.0, '$.list[7]', CAST('2026-11-24' AS DATE))",
        "UPDATE t SET j = JSON_REMOVE(j, '$.list[0]', '$.d')",
    )
    assert types(binlog) == {e.PARTIAL_UPDATE_ROWS}
    assert [binlog.changes("t")[-1].after] == [(1, binlog.query("SELECT j FROM t")[0][0])]


def test_several_documents_generated_columns_and_nulls_keep_their_places(binlog: Binlog) -> None:
    columns = ", ".join(f"j{n} JSON" for n in range(10))
    document = f"JSON_OBJECT('a', 1, 'padding', '{PADDING}')"
    binlog.run(
        f"CREATE TABLE t (id INT PRIMARY KEY, {columns}, v JSON AS (JSON_ARRAY(j1->'$.a')) VIRTUAL, s JSON AS (j1->'$.a') STORED, "
        "b BLOB, n DECIMAL(9,2))",
        f"INSERT INTO t (id, j1, j4, j9, b, n) VALUES (1, {document}, {document}, {document}, x'00ff', 1.5), (2, {document}, NULL, "
        f"{document}, NULL, NULL)",
        PARTIAL,
        "UPDATE t SET j1 = JSON_SET(j1, '$.a', 2), j4 = JSON_OBJECT('whole', 1), j9 = JSON_REMOVE(j9, '$.a'), n = 2",
        "UPDATE t SET j1 = NULL WHERE id = 2",
        "UPDATE t SET n = 3",
        "UPDATE t SET j9 = JSON_REPLACE(j9, '$.padding', 'short', '$.nothing', 1)",
    )
    assert types(binlog) == {e.PARTIAL_UPDATE_ROWS}
    rows: dict[Any, Any] = {}
    for change in binlog.changes("t"):
        assert change.before is None or rows[change.before[0]] == change.before
        rows[change.after[0]] = change.after  # type: ignore[index]
    shown = [tuple(None if v is None else v if isinstance(v, bytes) else str(v) for v in row) for row in rows.values()]
    assert shown == binlog.query("SELECT * FROM t ORDER BY id")


def test_a_difference_that_does_not_fit_its_document_halts(binlog: Binlog) -> None:
    binlog.run(
        "CREATE TABLE t (id INT PRIMARY KEY, j JSON)",
        f"INSERT INTO t VALUES (1, JSON_OBJECT('abc', 1, 'padding', '{PADDING}'))",
        PARTIAL,
        "UPDATE t SET j = JSON_REPLACE(j, '$.abc', 2)",
    )
    events = binlog.events()
    assert [item for item in assemble(events, binlog.database, lambda *_: True) if isinstance(item, Rows)]
    elsewhere = [event._replace(body=event.body.replace(b"$.abc", b"$.abd")) for event in events]
    with pytest.raises(Halt, match="partial_json") as halt:
        list(assemble(elsewhere, binlog.database, lambda *_: True))
    assert halt.value.details["column"] == "j" and halt.value.details["gtid"]


ONE = b"\x05\x01\x00"  # the number 1


@pytest.mark.parametrize(
    ("difference", "error"),
    [
        (b"\x03\x03$.a" + b"\x03" + ONE, ValueError),  # no such operation
        (b"\x00\x01$" + b"\x03" + ONE, ValueError),  # the root
        (b"\x00\x04$**a" + b"\x03" + ONE, ValueError),
        (b"\x00\x05$.a[0", ValueError),
        (b"\x00\x03$.a\xf0" + ONE, ValueError),
        (b"\x01\x03$.a" + b"\x03" + ONE, DoesNotApply),  # is there already
        (b"\x01\x04$[0]" + b"\x03" + ONE, DoesNotApply),
        (b"\x02\x03$.b", DoesNotApply),
        (b"\x00\x06$.a[0]" + b"\x03" + ONE, DoesNotApply),  # a scalar is not wrapped
    ],
)
def test_bytes_that_are_no_difference_are_refused(difference: bytes, error: type[Exception]) -> None:
    document = bytes.fromhex("0001000c000b00010005010061")
    assert apply_differences(document, b"") == '{"a": 1}'
    with pytest.raises(error):
        apply_differences(document, difference)


def test_value_options_that_are_not_known_are_refused(binlog: Binlog) -> None:
    """A later server's: how the image after is to be read then, nobody knows."""
    binlog.run(
        "CREATE TABLE t (id INT PRIMARY KEY, j JSON)",
        f"INSERT INTO t VALUES (1, JSON_OBJECT('abc', 1, 'padding', '{PADDING}'))",
        PARTIAL,
        "UPDATE t SET j = JSON_REPLACE(j, '$.abc', 2)",
    )
    rows = next(event for event in binlog.events() if event.type == e.PARTIAL_UPDATE_ROWS)
    options = rows.body.index(PADDING.encode()) + len(PADDING)
    assert rows.body[options : options + 2] == b"\x01\x01", "the options, and which columns hold differences"
    unknown = rows._replace(body=rows.body[:options] + b"\x03" + rows.body[options + 1 :])
    events = [unknown if event.type == e.PARTIAL_UPDATE_ROWS else event for event in binlog.events()]
    with pytest.raises(Halt):
        list(assemble(events, binlog.database, lambda *_: True))
