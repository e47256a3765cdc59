"""GtidSet against a set of plain numbers, against MySQL's own functions, and its text and bytes."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdc.events import PREVIOUS_GTIDS
from cdc.gtid import Gtid, GtidSet
from cdc.source import FilePosition
from schema.errors import MatrixError
from tests.cdc.conftest import Binlog

UUIDS = ("3e11fa47-71ca-11e1-9e33-c80aa9429562", "00000000-0000-0000-0000-000000000001", "ffffffff-71ca-11e1-9e33-000000000000")
GTIDS = st.builds(Gtid, st.sampled_from(UUIDS), st.sampled_from(["", "app", "_z9"]), st.integers(1, 30))
MODELS = st.frozensets(GTIDS, max_size=40)


def made_of(model: frozenset[Gtid]) -> GtidSet:
    found = GtidSet()
    for gtid in model:
        found = found.add(gtid)
    return found


@given(MODELS, MODELS)
def test_union_subtract_and_subset_agree_with_sets_of_single_gtids(left: frozenset[Gtid], right: frozenset[Gtid]) -> None:
    a, b = made_of(left), made_of(right)
    assert a.union(b) == made_of(left | right)
    assert a.subtract(b) == made_of(left - right)
    assert a.is_subset_of(b) == (left <= right)
    assert (a == b) == (left == right)
    assert a.count() == len(left)
    assert all(a.contains(gtid) == (gtid in left) for gtid in left | right)


@given(MODELS)
def test_text_and_bytes_of_a_set_give_the_set_back(model: frozenset[Gtid]) -> None:
    a = made_of(model)
    assert GtidSet.parse(str(a)) == a
    assert str(GtidSet.parse(str(a))) == str(a)
    assert GtidSet.decode(a.encode()) == a
    assert hash(GtidSet.parse(str(a))) == hash(a)


@given(MODELS, GTIDS)
def test_add_changes_only_the_copy(model: frozenset[Gtid], gtid: Gtid) -> None:
    a = made_of(model)
    before = str(a)
    assert a.add(gtid) == made_of(model | {gtid})
    assert str(a) == before


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(MODELS, MODELS)
def test_mysql_computes_and_prints_the_same(binlog: Binlog, left: frozenset[Gtid], right: frozenset[Gtid]) -> None:
    a, b = made_of(left), made_of(right)
    with binlog.open() as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT GTID_SUBTRACT(%s, ''), GTID_SUBTRACT(%s, %s), GTID_SUBSET(%s, %s)", (str(a), str(a), str(b), str(a), str(b))
        )
        same, rest, is_subset = cursor.fetchall()[0]
    assert same.replace("\n", "") == str(a)
    assert rest.replace("\n", "") == str(a.subtract(b))
    assert is_subset == str(int(a.is_subset_of(b)))


def test_numbers_are_compared_as_numbers_and_not_as_text() -> None:
    nine, ten = GtidSet.parse(f"{UUIDS[0]}:1-9"), GtidSet.parse(f"{UUIDS[0]}:1-10")
    assert nine.is_subset_of(ten)
    assert str(ten.subtract(nine)) == f"{UUIDS[0]}:10"


def test_the_servers_text_with_line_ends_spaces_and_capitals_is_read() -> None:
    text = f" {UUIDS[0].upper()}:1-3 : 5,\n{UUIDS[1]}:App:1 - 2:2-4:7"
    assert str(GtidSet.parse(text)) == f"{UUIDS[1]}:app:1-4:7,{UUIDS[0]}:1-3:5"


@pytest.mark.parametrize(
    "text",
    ["x", f"{UUIDS[0]}", f"{UUIDS[0]}:", f"{UUIDS[0]}:0", f"{UUIDS[0]}:5-3", f"{UUIDS[0]}:1-", f"{UUIDS[0]}:9bad:1",
     f"{UUIDS[0]}:9223372036854775807", f"{UUIDS[0][:-1]}:1", f"{UUIDS[0]}:-1", f"{UUIDS[0]}:1;2", f"{UUIDS[0]}:tag"],
)  # fmt: skip
def test_text_that_is_no_gtid_set_is_refused(text: str) -> None:
    with pytest.raises(MatrixError, match="bad_gtid"):
        GtidSet.parse(text)


def test_a_single_gtid_is_read_with_and_without_tag() -> None:
    assert Gtid.parse(f"{UUIDS[0]}:7") == Gtid(UUIDS[0], "", 7)
    assert str(Gtid.parse(f"{UUIDS[0]}:app:7")) == f"{UUIDS[0]}:app:7"
    with pytest.raises(MatrixError, match="bad_gtid"):
        Gtid.parse(f"{UUIDS[0]}:7-8")


@given(MODELS, st.data())
def test_cut_bytes_are_refused_and_never_read_as_a_smaller_set(model: frozenset[Gtid], data: st.DataObject) -> None:
    whole = made_of(model | {Gtid(UUIDS[0], "", 1)}).encode()
    size = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(MatrixError, match="bad_gtid"):
        GtidSet.decode(whole[:size])


def test_the_servers_own_bytes_are_read_and_written_alike(binlog: Binlog) -> None:
    binlog.run("SET gtid_next = 'AUTOMATIC:made_by_test'", "CREATE TABLE t (id INT PRIMARY KEY)", "SET gtid_next = 'AUTOMATIC'")
    before = binlog.executed()
    binlog.run("FLUSH BINARY LOGS")
    newest = binlog.query("SHOW BINARY LOGS")[-1][0]
    bodies = [event.body for event in binlog.events(start=FilePosition(newest, 4)) if event.type == PREVIOUS_GTIDS]
    assert before.has_tags()
    assert [GtidSet.decode(body) for body in bodies] == [before]
    assert bodies == [before.encode()]
