"""What the tailer gets from real transactions of every form, and what stops it."""

from __future__ import annotations

import struct
import uuid
from pathlib import Path

import pytest

from cdc import events as e
from cdc.events import RawEvent
from cdc.gtid import Gtid, GtidSet
from cdc.items import Ddl, Heartbeat, Item, Rows, TxBegin, TxEnd
from cdc.tx import TxAssembler, assemble
from schema.errors import Halt
from tests.cdc.conftest import Binlog, done

TABLE = "CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(300))"


def replayed(items: list[Item], table: str) -> list[tuple[object, ...]]:
    """The table as the changes leave it; each before image must be what was there."""
    rows: dict[object, tuple[object, ...]] = {}
    for item in items:
        if not isinstance(item, Rows) or item.table != table:
            continue
        key = item.columns.primary_key[0]
        for kind, before, after in item.changes:
            if before is not None:
                assert rows.pop(before[key]) == before
            assert (kind, before is None, after is None) in {
                ("insert", True, False),
                ("update", False, False),
                ("delete", False, True),
            }
            if after is not None:
                assert after[key] not in rows
                rows[after[key]] = after
    return sorted(rows.values(), key=str)


def selected(binlog: Binlog, table: str) -> list[tuple[object, ...]]:
    return sorted(((int(row[0]), *row[1:]) for row in binlog.query(f"SELECT * FROM {table}")), key=str)


def test_every_form_of_dml_replays_to_the_tables_content(binlog: Binlog, tmp_path: Path) -> None:
    loaded = tmp_path / "rows.tsv"
    loaded.write_text("100\tloaded ş\n101\t\\N\n")
    with binlog.open(local_infile=True) as connection, connection.cursor() as cursor:
        cursor.execute("SET GLOBAL local_infile = ON")
        for statement in (
            TABLE,
            "CREATE TABLE u (id INT PRIMARY KEY, a VARCHAR(300))",
            "CREATE TRIGGER copy AFTER INSERT ON t FOR EACH ROW REPLACE INTO u VALUES (NEW.id + 1000, CONCAT('trigger ', NEW.a))",
            "CREATE PROCEDURE fill() BEGIN INSERT INTO t VALUES (60, 'procedure'); UPDATE u SET a = 'p' WHERE id = 1060; END",
            "INSERT INTO t VALUES (1, 'one')",
            "INSERT INTO t VALUES (2, 'two'), (3, NULL), (4, '')",
            "REPLACE INTO t VALUES (2, 'replaced'), (5, 'new')",
            "INSERT INTO t VALUES (1, 'x'), (6, 'six') ON DUPLICATE KEY UPDATE a = CONCAT(a, '!')",
            "INSERT IGNORE INTO t VALUES (1, 'ignored'), (7, 'seven')",
            "INSERT INTO t SELECT id + 10, a FROM t AS source WHERE id < 4",
            "UPDATE t JOIN u ON u.id = t.id + 1000 SET t.a = 'joined', u.a = 'joined too' WHERE t.id IN (3, 4)",
            "DELETE t, u FROM t JOIN u ON u.id = t.id + 1000 WHERE t.id = 5",
            "UPDATE t SET id = id + 500 WHERE id = 6",
            "SET foreign_key_checks = 0",
            "DELETE FROM t WHERE id = 7 ORDER BY id LIMIT 1",
            "CALL fill()",
            f"LOAD DATA LOCAL INFILE '{loaded}' INTO TABLE t",
        ):
            cursor.execute(statement)
        connection.commit()
    items = binlog.items()
    assert replayed(items, "t") == selected(binlog, "t")
    assert replayed(items, "u") == selected(binlog, "u")
    assert done(items) == binlog.executed().subtract(binlog.start)


def test_unwanted_tables_and_other_schemas_give_begin_and_end_only(binlog: Binlog) -> None:
    other = f"{binlog.database}_other"
    binlog.run(TABLE, f"CREATE DATABASE {other}", f"CREATE TABLE {other}.t (id INT)")
    binlog.mark()
    binlog.run("INSERT INTO t VALUES (1, 'x')", f"INSERT INTO {other}.t VALUES (1)")
    asked: list[tuple[str, str]] = []

    def refuse(schema: str, table: str) -> bool:
        asked.append((schema, table))
        return False

    items = binlog.items(refuse)
    assert [type(item) for item in items] == [TxBegin, TxEnd] * 2
    assert asked == [(binlog.database, "t")]
    assert done(items) == binlog.executed().subtract(binlog.start)
    binlog.run(f"DROP DATABASE {other}")


def test_a_begin_tells_gtid_place_server_and_commit_time(binlog: Binlog) -> None:
    binlog.run(TABLE)
    binlog.mark()
    now = float(binlog.query("SELECT UNIX_TIMESTAMP(NOW(6))")[0][0])
    binlog.run("INSERT INTO t VALUES (1, 'x')")
    begin, rows, end = binlog.items()
    assert isinstance(begin, TxBegin)
    assert isinstance(rows, Rows)
    assert isinstance(end, TxEnd)
    assert GtidSet().add(begin.gtid) == binlog.executed().subtract(binlog.start)
    assert now - 1 < begin.commit_time_us / 1e6 < now + 60
    assert begin.server_id == int(binlog.query("SELECT @@server_id")[0][0])
    file, pos = binlog.query("SHOW BINARY LOG STATUS")[0][:2]
    assert (end.file, end.end_pos) == (file, int(pos))
    assert begin.pos < end.end_pos
    assert end.gtids == (begin.gtid,)
    assert (rows.table, rows.columns.schema, rows.statement) == ("t", binlog.database, None)


def test_rows_of_a_tagged_transaction_belong_to_it(binlog: Binlog) -> None:
    binlog.run(TABLE)
    binlog.mark()
    binlog.run(
        "INSERT INTO t VALUES (1, 'x')",
        f"SET gtid_next = 'AUTOMATIC:{'long_tag_of_32_characters_abcdefg'[:32]}'",
        "INSERT INTO t VALUES (2, 'y')",
        "SET gtid_next = 'AUTOMATIC'",
        "INSERT INTO t VALUES (3, 'z')",
    )
    items = binlog.items()
    begins = [item for item in items if isinstance(item, TxBegin)]
    assert [begin.gtid.tag for begin in begins] == ["", "long_tag_of_32_characters_abcdef", ""]
    assert [change.after[0] for item in items if isinstance(item, Rows) for change in item.changes if change.after] == [1, 2, 3]
    assert done(items) == binlog.executed().subtract(binlog.start)
    assert abs(begins[1].commit_time_us - begins[0].commit_time_us) < 60_000_000
    binlog.mark()
    binlog.run("INSERT INTO t VALUES (4, 'after a start set with tags')")
    assert binlog.start.has_tags()
    assert [change.after for change in binlog.changes("t")] == [(4, "after a start set with tags")]


@pytest.mark.parametrize("compression", ["ON", "OFF"])
def test_compressed_transactions_give_the_same_items(binlog: Binlog, compression: str) -> None:
    binlog.run(TABLE)
    binlog.mark()
    binlog.run(
        f"SET SESSION binlog_transaction_compression = {compression}",
        "BEGIN",
        "INSERT INTO t VALUES (1, REPEAT('compressed', 20)), (2, REPEAT('compressed', 20))",
        "UPDATE t SET a = 'short' WHERE id = 1",
        "COMMIT",
        "INSERT INTO t VALUES (3, REPEAT('z', 300))",
    )
    items = binlog.items()
    assert [type(item) for item in items] == [TxBegin, Rows, Rows, TxEnd, TxBegin, Rows, TxEnd]
    assert replayed(items, "t") == selected(binlog, "t")
    ends = [item for item in items if isinstance(item, TxEnd)]
    assert ends[1].end_pos == int(binlog.query("SHOW BINARY LOG STATUS")[0][1])


def test_rows_rolled_back_to_a_savepoint_never_come(binlog: Binlog) -> None:
    binlog.run(TABLE)
    binlog.run(
        "BEGIN",
        "INSERT INTO t VALUES (1, 'kept')",
        "SAVEPOINT `A b`",
        "INSERT INTO t VALUES (2, 'dropped')",
        "ROLLBACK TO SAVEPOINT `A b`",
        "INSERT INTO t VALUES (3, 'kept too')",
        "RELEASE SAVEPOINT `A b`",
        "COMMIT",
    )
    assert [change.after for change in binlog.changes("t")] == [(1, "kept"), (3, "kept too")]


def test_a_logged_rollback_to_a_savepoint_halts_only_when_wanted_rows_are_undone(binlog: Binlog) -> None:
    events = insert_events(binlog)
    gtid, begin, *rows, xid = events
    savepoint, undo = query_event(begin, "SAVEPOINT `s`"), query_event(begin, "ROLLBACK TO `s`")
    assert len(fed(binlog, [gtid, begin, *rows, savepoint, undo, xid])) == 3
    with pytest.raises(Halt, match="rollback_logged"):
        fed(binlog, [gtid, begin, savepoint, *rows, undo, xid])
    with pytest.raises(Halt, match="rollback_logged"):
        fed(binlog, [gtid, begin, *rows, query_event(begin, "ROLLBACK")])
    assert [type(item) for item in fed(binlog, [gtid, begin, query_event(begin, "ROLLBACK")])] == [TxBegin, TxEnd]


def test_the_statement_comes_with_its_rows_where_the_server_logs_it(binlog: Binlog) -> None:
    binlog.run(
        TABLE,
        "SET SESSION binlog_rows_query_log_events = ON",
        f"INSERT INTO t VALUES (1, '{'ş' * 200}')",
        "SET SESSION binlog_rows_query_log_events = OFF",
        "DELETE FROM t",
    )
    rows = [item for item in binlog.items() if isinstance(item, Rows)]
    assert [item.statement for item in rows] == [f"INSERT INTO t VALUES (1, '{'ş' * 200}')", None]


def test_ddl_comes_as_an_item_with_the_schemas_it_names(binlog: Binlog) -> None:
    binlog.run(TABLE, "USE mysql", f"ALTER TABLE {binlog.database}.t ADD COLUMN b INT", f"TRUNCATE {binlog.database}.t")
    ddl = [item for item in binlog.items() if isinstance(item, Ddl)]
    assert [item.schema for item in ddl] == [binlog.database, "mysql", "mysql"]
    assert ddl[0].schemas == ddl[1].schemas == {binlog.database}
    assert ddl[2].schemas == {"mysql", binlog.database}  # TRUNCATE: the server names no schema, the text does
    assert ddl[1].sql == f"ALTER TABLE {binlog.database}.t ADD COLUMN b INT"
    assert binlog.shape() == ["begin", "ddl", "end"] * 3


def test_create_table_select_gives_ddl_and_rows_in_one_transaction(binlog: Binlog) -> None:
    binlog.run(TABLE, "INSERT INTO t VALUES (1, 'x')")
    binlog.mark()
    binlog.run("CREATE TABLE copy AS SELECT * FROM t")
    assert binlog.shape() == ["begin", "ddl", "rows", "end"]


def query_event(like: RawEvent, sql: str) -> RawEvent:
    body = struct.pack("<IIBHH", 1, 0, 0, 0, 0) + b"\0" + sql.encode()
    return RawEvent(e.QUERY, like.timestamp, like.server_id, like.flags, like.file, like.start_pos, like.end_pos, body)


def event(type_: int, body: bytes = b"", flags: int = 0) -> RawEvent:
    return RawEvent(type_, 0, 1, flags, "binlog.000007", 1234, 1300, body)


GTID_BODY = struct.pack("<B16sQBQQ", 0, uuid.UUID(int=1).bytes, 5, 2, 0, 1) + (1_700_000_000_000_000).to_bytes(7, "little")


def insert_events(binlog: Binlog) -> list[RawEvent]:
    """The events of one INSERT: GTID, BEGIN, table map, rows, XID."""
    binlog.run(TABLE)
    binlog.mark()
    binlog.run("INSERT INTO t VALUES (1, 'x')")
    wanted = {e.GTID, e.QUERY, e.TABLE_MAP, e.WRITE_ROWS, e.XID}
    return [found for found in binlog.events() if found.type in wanted]


def fed(binlog: Binlog, events: list[RawEvent]) -> list[Item]:
    return list(assemble(events, binlog.database, lambda *_: True))


def test_rows_without_their_table_map_halt(binlog: Binlog) -> None:
    gtid, begin, table_map, rows, xid = insert_events(binlog)
    assert len(fed(binlog, [gtid, begin, table_map, rows, xid])) == 3
    with pytest.raises(Halt, match="table_map_missing"):
        fed(binlog, [gtid, begin, rows, xid])
    with pytest.raises(Halt, match="table_map_missing"):  # the map held for one statement only
        fed(binlog, [gtid, begin, table_map, rows, rows, xid])


def test_row_events_of_version_1_are_read(binlog: Binlog) -> None:
    gtid, begin, table_map, rows, xid = insert_events(binlog)
    old = RawEvent(e.WRITE_ROWS_V1, 0, 1, 0, rows.file, rows.start_pos, rows.end_pos, rows.body[:8] + rows.body[10:])
    (found,) = [item for item in fed(binlog, [gtid, begin, table_map, old, xid]) if isinstance(item, Rows)]
    assert found.changes[0].after == (1, "x")


def test_extra_information_in_a_row_event_is_passed_over(binlog: Binlog) -> None:
    gtid, begin, table_map, rows, xid = insert_events(binlog)
    extra = b"\x01" + struct.pack("<H", 3)  # a partition's number, as partitioned tables have it
    body = rows.body[:8] + struct.pack("<H", 2 + len(extra)) + extra + rows.body[10:]
    longer = RawEvent(e.WRITE_ROWS, 0, 1, 0, rows.file, rows.start_pos, rows.end_pos, body)
    (found,) = [item for item in fed(binlog, [gtid, begin, table_map, longer, xid]) if isinstance(item, Rows)]
    assert found.changes[0].after == (1, "x")


@pytest.mark.parametrize("torn", [[0], [0, 1], [0, 1, 2, 3]])
def test_a_transaction_without_end_halts_at_the_next_one_and_at_the_files_end(binlog: Binlog, torn: list[int]) -> None:
    events = insert_events(binlog)
    for after in (events[0], event(e.STOP), event(e.FORMAT_DESCRIPTION), event(e.ROTATE)):
        with pytest.raises(Halt, match="tx_incomplete"):
            fed(binlog, [*(events[n] for n in torn), after])
    assert fed(binlog, [events[0], event(e.ROTATE, flags=e.FLAG_ARTIFICIAL)])


def test_rows_before_any_gtid_halt(binlog: Binlog) -> None:
    events = insert_events(binlog)
    with pytest.raises(Halt, match="tx_incomplete"):
        fed(binlog, events[1:])


def assembled(*events: RawEvent) -> list[Item]:
    return list(assemble(events, "app", lambda *_: True))


def test_a_server_without_gtids_halts() -> None:
    with pytest.raises(Halt, match="gtid_mode_off"):
        assembled(event(e.ANONYMOUS_GTID, GTID_BODY))


def test_an_incident_halts_with_the_servers_words() -> None:
    with pytest.raises(Halt, match=r"incident.*lost events") as halt:
        assembled(event(e.GTID, GTID_BODY), event(e.INCIDENT, b"\x01\x00\x0blost events"))
    assert halt.value.details == {"gtid": f"{uuid.UUID(int=1)}:5", "file": "binlog.000007", "pos": 1234, "event": e.INCIDENT}


def test_unknown_events_halt_unless_they_may_be_ignored() -> None:
    assert assembled(event(99, flags=e.FLAG_IGNORABLE)) == []
    with pytest.raises(Halt, match="unknown_event"):
        assembled(event(99))


def test_a_heartbeat_tells_how_far_the_server_is() -> None:
    assert assembled(event(e.HEARTBEAT_V2)) == [Heartbeat("binlog.000007", 1300)]


def test_a_replicated_transactions_time_is_that_of_its_first_server() -> None:
    immediate = (1_700_000_000_000_000 | 1 << 55).to_bytes(7, "little")
    original = (1_600_000_000_000_000).to_bytes(7, "little")
    (begin,) = assembled(event(e.GTID, GTID_BODY[:-7] + immediate + original))
    assert isinstance(begin, TxBegin)
    assert begin.commit_time_us == 1_600_000_000_000_000
    assert begin.gtid == Gtid(str(uuid.UUID(int=1)), "", 5)


def test_the_last_transaction_that_is_buffered_says_so(binlog: Binlog) -> None:
    binlog.run(TABLE, "INSERT INTO t VALUES (1, 'x')")
    waiting = [True]
    assembler = TxAssembler(binlog.database, lambda *_: True, lambda: not waiting[0])
    ends = []
    for found in binlog.events():
        ends += [item.is_last_buffered for item in assembler.feed(found) if isinstance(item, TxEnd)]
        waiting[0] = not ends
    assert ends == [False, True]
