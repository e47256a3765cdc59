"""XA transactions: their rows come with their outcome, and their PREPARE is done only then."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cdc.gtid import GtidSet
from cdc.held_rows import XA_HELD_BYTES_MAX
from cdc.items import Rows, TxEnd
from schema.errors import Halt
from tests.cdc.conftest import Binlog, done

TABLE = "CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(300))"
XA_TABLE = (TABLE, "INSERT INTO t VALUES (1, 'before')")


@pytest.fixture(autouse=True)
def nothing_stays_prepared(binlog: Binlog) -> Iterator[None]:
    """A test that failed half-way leaves its locks to nobody: the database could not be dropped."""
    yield
    for format_id, first, second, data in binlog.query("XA RECOVER CONVERT XID"):
        raw = bytes.fromhex(data.removeprefix("0x"))
        one, other = raw[: int(first)].hex(), raw[int(first) : int(first) + int(second)].hex()
        binlog.run(f"XA ROLLBACK X'{one}', X'{other}', {format_id}")


def test_xa_rows_come_with_the_commit_and_the_prepare_is_done_only_then(binlog: Binlog) -> None:
    binlog.run(*XA_TABLE)
    binlog.mark()
    binlog.run(
        "XA START 'a', 'b', 7",
        "INSERT INTO t VALUES (2, 'xa')",
        "UPDATE t SET a = 'changed' WHERE id = 1",
        "XA END 'a', 'b', 7",
        "XA PREPARE 'a', 'b', 7",
    )
    assert binlog.shape() == ["begin", "end"]
    assert done(binlog.items()) == GtidSet()
    binlog.run("INSERT INTO t VALUES (3, 'between')")
    assert [change.after for change in binlog.changes("t")] == [(3, "between")]
    assert done(binlog.items()).count() == 1
    binlog.run("XA COMMIT 'a', 'b', 7")
    items = binlog.items()
    assert [change.after for change in binlog.changes("t")] == [(3, "between"), (2, "xa"), (1, "changed")]
    assert isinstance(items[-1], TxEnd)
    assert len(items[-1].gtids) == 2
    assert done(items) == binlog.executed().subtract(binlog.start)


def test_xa_outcome_after_a_restart_of_the_reader_brings_the_rows(binlog: Binlog) -> None:
    """The checkpoint has a hole where the PREPARE is, so the server sends it again."""
    binlog.run(*XA_TABLE)
    binlog.mark()
    binlog.run(
        "XA START 'x'", "INSERT INTO t VALUES (2, 'xa')", "XA END 'x'", "XA PREPARE 'x'", "INSERT INTO t VALUES (3, 'between')"
    )
    checkpoint = binlog.start.union(done(binlog.items()))
    assert checkpoint != binlog.executed()
    binlog.run("XA COMMIT 'x'")
    binlog.start = checkpoint
    items = binlog.items()
    assert [item.changes[0].after for item in items if isinstance(item, Rows)] == [(2, "xa")]
    assert checkpoint.union(done(items)) == binlog.executed()


def test_xa_rollback_leaves_nothing_and_both_transactions_are_done(binlog: Binlog) -> None:
    binlog.run(*XA_TABLE)
    binlog.mark()
    binlog.run("XA START 'x'", "INSERT INTO t VALUES (2, 'xa')", "XA END 'x'", "XA PREPARE 'x'", "XA ROLLBACK 'x'")
    items = binlog.items()
    assert not [item for item in items if isinstance(item, Rows)]
    assert done(items) == binlog.executed().subtract(binlog.start)
    binlog.run("XA START 'y'", "INSERT INTO t VALUES (2, 'xa')", "XA END 'y'", "XA ROLLBACK 'y'")
    assert not binlog.changes("t")


def test_xa_commit_in_one_phase_brings_its_rows_at_once(binlog: Binlog) -> None:
    binlog.run(*XA_TABLE)
    binlog.mark()
    binlog.run("XA START 'x'", "INSERT INTO t VALUES (2, 'xa')", "XA END 'x'", "XA COMMIT 'x' ONE PHASE")
    assert binlog.shape() == ["begin", "rows", "end"]
    assert done(binlog.items()) == binlog.executed().subtract(binlog.start)


def test_xa_commit_of_a_transaction_prepared_before_the_start_halts(binlog: Binlog) -> None:
    binlog.run(*XA_TABLE)
    binlog.run("XA START 'x'", "INSERT INTO t VALUES (2, 'xa')", "XA END 'x'", "XA PREPARE 'x'")
    binlog.mark()
    binlog.run("XA COMMIT 'x'")
    with pytest.raises(Halt, match="xa_unknown"):
        binlog.items()


def test_xa_transactions_that_are_too_large_to_wait_halt(binlog: Binlog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cdc.tx.XA_HELD_BYTES_MAX", 2000)
    binlog.run(*XA_TABLE)
    binlog.mark()
    binlog.run(
        "XA START 'x'", *(f"INSERT INTO t VALUES ({n}, REPEAT('x', 300))" for n in range(2, 12)), "XA END 'x'", "XA PREPARE 'x'"
    )
    try:
        with pytest.raises(Halt, match="xa_too_large"):
            binlog.items()
    finally:
        binlog.run("XA ROLLBACK 'x'")
    assert XA_HELD_BYTES_MAX == 64 * 1024 * 1024


def test_xa_rows_that_cannot_be_read_halt_at_the_commit_and_not_at_a_rollback(binlog: Binlog) -> None:
    binlog.run(*XA_TABLE)
    binlog.mark()
    undecodable = ("SET SESSION binlog_row_image = MINIMAL", "XA START 'x'", "UPDATE t SET a = 'b' WHERE id = 1", "XA END 'x'")
    binlog.run(*undecodable, "XA PREPARE 'x'", "XA ROLLBACK 'x'")
    assert done(binlog.items()) == binlog.executed().subtract(binlog.start)
    binlog.mark()
    binlog.run(*undecodable, "XA PREPARE 'x'", "XA COMMIT 'x'")
    with pytest.raises(Halt, match="row_image_not_full") as halt:
        binlog.items()
    prepare, commit = (item.gtid for item in binlog.items(lambda *_: False) if isinstance(item, TxEnd))
    assert (halt.value.details["gtid"], halt.value.details["xa_prepare"]) == (str(commit), str(prepare))


def test_a_compressed_xa_transaction_and_an_empty_one_are_read(binlog: Binlog) -> None:
    binlog.run(*XA_TABLE)
    binlog.mark()
    binlog.run(
        "SET SESSION binlog_transaction_compression = ON",
        "XA START 'x'",
        "INSERT INTO t VALUES (2, REPEAT('x', 300)), (3, REPEAT('x', 300))",
        "XA END 'x'",
        "XA PREPARE 'x'",
        "XA COMMIT 'x'",
        "XA START 'y'",
        "XA END 'y'",
        "XA PREPARE 'y'",
        "XA COMMIT 'y'",
    )
    assert [change.after for change in binlog.changes("t")] == [(2, "x" * 300), (3, "x" * 300)]
    assert done(binlog.items()) == binlog.executed().subtract(binlog.start)
