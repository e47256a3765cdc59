"""Streams from a real server: where they start and end, what breaks them, and what each break is called."""

from __future__ import annotations

import os
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from cdc import events as e
from cdc.decode import RowChange
from cdc.events import RawEvent
from cdc.gtid import GtidSet
from cdc.items import Rows, TxBegin, TxEnd
from cdc.packets import PacketReader
from cdc.source import BinlogSource, ConnectionSettings, FilePosition, _OneStream
from cdc.tx import assemble
from schema.errors import Halt, Retry
from tests.cdc.conftest import SERVER_IDS, Binlog, fresh_binlog, settings_of
from tests.proxy import Cut, Proxy
from tests.servers import Stack

TABLE = "CREATE TABLE t (id INT PRIMARY KEY, a LONGTEXT)"


@pytest.fixture
def private(stack: Stack, request: pytest.FixtureRequest) -> Iterator[Binlog]:
    """A database on a server of its own, whose binlog a test may purge or damage."""
    with stack.private_mysql(f"cdc-{request.node.name}") as server, fresh_binlog(settings_of(server.url)) as made:
        made.directory = server.data
        yield made


def ids(binlog: Binlog) -> list[object]:
    return [change.after[0] for change in binlog.changes("t") if change.after]


def test_a_start_after_each_transaction_gives_exactly_the_rest(binlog: Binlog) -> None:
    binlog.run(TABLE, *(f"INSERT INTO t VALUES ({n}, 'x')" for n in range(8)))
    ends = [item for item in binlog.items() if isinstance(item, TxEnd)]
    for seen, end in enumerate(ends):
        for gtid in end.gtids:
            binlog.start = binlog.start.add(gtid)
        assert ids(binlog) == list(range(seen, 8))
    assert binlog.start == binlog.executed()


def test_a_hole_in_the_start_set_is_filled_first(binlog: Binlog) -> None:
    binlog.run(TABLE, *(f"INSERT INTO t VALUES ({n}, 'x')" for n in range(4)))
    begins = [item.gtid for item in binlog.items() if isinstance(item, TxBegin)]
    binlog.start = binlog.executed().subtract(GtidSet().add(begins[2]))
    assert ids(binlog) == [1]


def test_a_start_from_the_empty_set_reads_from_the_first_transaction(private: Binlog) -> None:
    private.run(TABLE, "INSERT INTO t VALUES (1, 'x')")
    private.start = GtidSet()
    begins = [item.gtid for item in private.items() if isinstance(item, TxBegin)]
    assert len(begins) == private.executed().count()
    assert ids(private) == [1]


def test_a_file_position_starts_there_and_events_tell_where_they_stand(binlog: Binlog) -> None:
    binlog.run(TABLE)
    file, pos = binlog.query("SHOW BINARY LOG STATUS")[0][:2]
    binlog.run("INSERT INTO t VALUES (1, 'x')", "INSERT INTO t VALUES (2, 'y')")
    start = FilePosition(file, int(pos))
    assert [item.changes[0].after for item in binlog.items(start=start) if isinstance(item, Rows)] == [(1, "x"), (2, "y")]
    shown = {(row[0], int(row[1]), int(row[4])) for row in binlog.query(f"SHOW BINLOG EVENTS IN '{file}' FROM {int(pos)}")}
    read = [
        found for found in binlog.events(start=start) if not found.flags & e.FLAG_ARTIFICIAL and found.type != e.FORMAT_DESCRIPTION
    ]
    assert {(found.file, found.start_pos, found.end_pos) for found in read} == shown


def test_rotations_lose_and_repeat_nothing(binlog: Binlog) -> None:
    binlog.run(TABLE)
    for n in range(6):
        binlog.run(f"INSERT INTO t VALUES ({n}, 'x')", "FLUSH BINARY LOGS")
    assert ids(binlog) == list(range(6))
    files = [item.file for item in binlog.items() if isinstance(item, TxBegin)]
    assert len(set(files)) == 6
    assert files == sorted(files)


def test_a_stream_follows_the_writer_and_says_when_it_is_drained(binlog: Binlog) -> None:
    binlog.run(TABLE)
    binlog.mark()
    source = binlog.source(blocking=True, heartbeat_seconds=1)
    stream = assemble(source.events(), binlog.database, lambda *_: True, source.is_drained)
    seen: list[object] = []
    beats = 0
    for item in stream:
        if isinstance(item, Rows):
            seen += [change.after[0] for change in item.changes if change.after]
        elif isinstance(item, TxEnd):
            assert item.is_last_buffered
        elif not isinstance(item, TxBegin):
            beats += 1
            if beats == 1:
                binlog.run("INSERT INTO t VALUES (1, 'x')")
            elif seen == [1] and beats < 9:
                beats = 9
                binlog.run("INSERT INTO t VALUES (2, 'y'), (3, 'z')")
        if seen == [1, 2, 3]:
            break
    assert seen == [1, 2, 3]
    source.close()


def test_close_from_another_thread_ends_a_waiting_stream_without_error(binlog: Binlog) -> None:
    source = binlog.source(blocking=True)
    read: list[int] = []
    reader = threading.Thread(target=lambda: read.extend(event.type for event in source.events()))
    reader.start()
    deadline = time.monotonic() + 20
    while e.FORMAT_DESCRIPTION not in read and time.monotonic() < deadline:
        time.sleep(0.02)
    source.close()
    reader.join(5)
    assert not reader.is_alive()
    assert e.FORMAT_DESCRIPTION in read


@pytest.mark.parametrize("mebibytes", [15, 20, 33])
def test_rows_larger_than_a_packet_are_joined(binlog: Binlog, mebibytes: int) -> None:
    binlog.run("CREATE TABLE big (id INT PRIMARY KEY, b LONGBLOB)", "CREATE TABLE t (id INT PRIMARY KEY, a LONGTEXT)")
    binlog.mark()
    unit = "REPEAT('0123456789abcdef', 65536)"
    with binlog.open() as connection, connection.cursor() as cursor:
        cursor.execute("SET GLOBAL max_allowed_packet = 134217728")
    binlog.run(
        f"INSERT INTO t VALUES (1, REPEAT({unit}, {mebibytes}))",
        f"INSERT INTO big VALUES (1, REPEAT({unit}, {mebibytes}))",
        "INSERT INTO t VALUES (2, 'z')",
    )
    items = binlog.items(lambda _, table: table == "t")
    rows = [item for item in items if isinstance(item, Rows)]
    first, second = (item.changes[0].after for item in rows)
    assert first == (1, "0123456789abcdef" * 65536 * mebibytes)
    assert second == (2, "z")
    assert len([item for item in items if isinstance(item, TxEnd)]) == 3


@pytest.mark.parametrize("size", [0xFFFFFF - 2, 0xFFFFFF - 1, 0xFFFFFF, 0xFFFFFF + 1])
def test_a_packet_that_ends_at_the_split_is_joined(binlog: Binlog, size: int) -> None:
    """The protocol sends an empty packet after one of exactly 16 MiB − 1."""
    binlog.run(TABLE, "INSERT INTO t VALUES (1, '')")
    (rows,) = [found for found in binlog.events() if found.type == e.WRITE_ROWS]
    overhead = 1 + e.HEADER_BYTES + len(rows.body) + 4
    binlog.mark()
    with binlog.open() as connection, connection.cursor() as cursor:
        cursor.execute("SET GLOBAL max_allowed_packet = 134217728")
    binlog.run(f"INSERT INTO t VALUES (2, REPEAT('x', {size - overhead}))", "INSERT INTO t VALUES (3, 'y')")
    big, small = (change.after for change in binlog.changes("t"))
    assert big == (2, "x" * (size - overhead))
    assert small == (3, "y")


def test_a_stream_without_checksums_is_read(private: Binlog) -> None:
    private.run(TABLE, "INSERT INTO t VALUES (1, 'x')", "SET GLOBAL binlog_checksum = NONE", "INSERT INTO t VALUES (2, 'y')")
    assert ids(private) == [1, 2]
    private.mark()
    private.run("INSERT INTO t VALUES (3, 'z')", "SET GLOBAL binlog_checksum = CRC32")
    try:
        private.run("INSERT INTO t VALUES (4, 'z')")
        assert ids(private) == [3, 4]
    finally:
        private.run("SET GLOBAL binlog_checksum = CRC32")


def test_a_unix_socket_is_as_good(private: Binlog) -> None:
    private.run(TABLE, "INSERT INTO t VALUES (1, 'x')")
    private.connect = replace(private.connect, unix_socket=private.query("SELECT @@socket")[0][0], port=1)
    assert ids(private) == [1]


def follow(source: BinlogSource) -> list[int]:
    """Read on until the stream breaks; types of its events."""
    return [event.type for event in source.events()]


def dump_threads(binlog: Binlog) -> list[str]:
    return [row[0] for row in binlog.query("SELECT ID FROM information_schema.PROCESSLIST WHERE COMMAND LIKE 'Binlog Dump%'")]


def test_a_killed_dump_is_a_retry_and_no_end(binlog: Binlog) -> None:
    source = binlog.source(blocking=True)
    before = set(dump_threads(binlog))
    stream = source.events()
    next(stream)
    (ours,) = set(dump_threads(binlog)) - before
    binlog.run(f"KILL {ours}")
    with pytest.raises(Retry, match=r"stream_ended|connection_lost|server_error"):
        list(stream)


def test_a_second_reader_with_our_server_id_means_a_conflict(binlog: Binlog) -> None:
    number = next(SERVER_IDS)
    first = binlog.source(blocking=True, server_id=number).events()
    next(first)
    second = binlog.source(blocking=True, server_id=number)
    stream = second.events()
    next(stream)
    with pytest.raises(Retry, match="server_id_conflict"):
        list(first)
    second.close()


def test_a_silent_connection_is_noticed_after_three_heartbeats(binlog: Binlog) -> None:
    is_silent = threading.Event()
    with Proxy(binlog.connect, lambda data: b"" if is_silent.is_set() else data) as proxy:
        source = BinlogSource(connect=proxy.connect, server_id=next(SERVER_IDS), start=binlog.start, heartbeat_seconds=0.5)
        stream = source.events()
        assert any(event.type in (e.HEARTBEAT, e.HEARTBEAT_V2) for event in stream)
        is_silent.set()
        began = time.monotonic()
        with pytest.raises(Retry, match="connection_silent"):
            list(stream)
        assert 1 < time.monotonic() - began < 4


@pytest.mark.parametrize("after", [1, 30, 100, 500, 800, 900, 1000, 1100, 1200, 1500, 2000, 2500])
@pytest.mark.parametrize("tls", [True, False])
def test_a_connection_cut_anywhere_is_a_retry(binlog: Binlog, after: int, tls: bool) -> None:
    binlog.run(TABLE, *(f"INSERT INTO t VALUES ({n}, REPEAT('x', 500))" for n in range(4)))
    sent = 0

    def cut(data: bytes) -> bytes:
        nonlocal sent
        sent += len(data)
        if sent >= after:
            raise Cut(data[: len(data) - (sent - after)])
        return data

    with Proxy(replace(binlog.connect, is_tls_allowed=tls), cut) as proxy:
        source = BinlogSource(connect=proxy.connect, server_id=next(SERVER_IDS), start=binlog.start, heartbeat_seconds=2)
        with pytest.raises(Retry, match=r"connection_lost|server_unreachable"):
            follow(source)


CUT_STEP = int(os.environ.get("CUT_STEP", "4"))
"""With 1 every byte is a place to cut; the other ones have their turn in other runs."""


class CutAfter:
    """A spoiler that cuts after so many bytes of a server, and counts them."""

    def __init__(self, after: int | None = None) -> None:
        self._after = after
        self.bytes = 0

    def __call__(self, data: bytes) -> bytes:
        self.bytes += len(data)
        if self._after is not None and self.bytes > self._after:
            raise Cut(data[: len(data) - (self.bytes - self._after)])
        return data


def test_a_stream_cut_at_every_byte_gives_whole_events_and_the_rest_comes_from_the_checkpoint(binlog: Binlog) -> None:
    binlog.run("CREATE TABLE t (id INT PRIMARY KEY, a TEXT)")
    binlog.mark()
    binlog.run("INSERT INTO t VALUES (1, 'ä')")
    whole, wanted, begin = binlog.events(), binlog.changes("t"), binlog.start
    judged: set[int] = set()
    with Proxy(replace(binlog.connect, is_tls_allowed=False)) as proxy:
        proxy.spoil = counted = CutAfter()
        assert read_through(proxy, begin) == (whole, True)
        in_tx = sum(event.end_pos - event.start_pos for event in whole if event.type not in (e.ROTATE, e.FORMAT_DESCRIPTION))
        for after in range(counted.bytes - in_tx + random.randrange(CUT_STEP), counted.bytes, CUT_STEP):
            proxy.spoil = CutAfter(after)
            events, is_whole = read_through(proxy, begin)
            assert events == whole[: len(events)], f"cut after {after} bytes"
            assert not is_whole, f"cut after {after} bytes"
            if len(events) not in judged:
                judged.add(len(events))
                binlog.start, stored = checkpoint_after(binlog, begin, events)
                assert [*stored, *binlog.changes("t")] == wanted, f"cut after {after} bytes"
    assert len(judged) > 5


def read_through(proxy: Proxy[ConnectionSettings], start: GtidSet) -> tuple[list[RawEvent], bool]:
    """The events that come through, and whether the stream came to its end."""
    source = BinlogSource(connect=proxy.connect, server_id=next(SERVER_IDS), start=start, blocking=False)
    events: list[RawEvent] = []
    try:
        events.extend(source.events())
    except Retry:
        return events, False
    return events, True


def checkpoint_after(binlog: Binlog, start: GtidSet, events: list[RawEvent]) -> tuple[GtidSet, list[RowChange]]:
    """Where a tailer that got these goes on, and the changes it has stored: those of whole transactions."""
    stored: list[RowChange] = []
    pending: list[RowChange] = []
    for item in assemble(iter(events), binlog.database, lambda schema, table: True):
        if isinstance(item, Rows):
            pending += item.changes
        elif isinstance(item, TxEnd):
            start = start.add(item.gtid)
            stored, pending = stored + pending, []
    return start, stored


def test_an_event_damaged_on_the_way_is_a_retry(binlog: Binlog) -> None:
    binlog.run(TABLE, "INSERT INTO t VALUES (1, 'damage me here')")
    spoiled = [0]

    def spoil(data: bytes) -> bytes:
        if b"damage me here" in data and not spoiled[0]:
            spoiled[0] = 1
            return data.replace(b"damage me here", b"damage me hexe")
        return data

    with Proxy(replace(binlog.connect, is_tls_allowed=False), spoil) as proxy:
        source = BinlogSource(connect=proxy.connect, server_id=next(SERVER_IDS), start=binlog.start, blocking=False)
        with pytest.raises(Retry, match="checksum_mismatch") as retry:
            follow(source)
    assert retry.value.details["pos"] > 4


def test_an_event_damaged_in_the_file_halts(private: Binlog) -> None:
    private.run(TABLE, "INSERT INTO t VALUES (1, 'damage me here')", "INSERT INTO t VALUES (2, 'x')", "FLUSH BINARY LOGS")
    file = private.directory / private.query("SHOW BINARY LOGS")[0][0]
    content = file.read_bytes()
    assert content.count(b"damage me here") == 1
    file.write_bytes(content.replace(b"damage me here", b"damage me hexe"))
    with pytest.raises(Halt, match=r"checksum_mismatch|binlog_unreadable") as halt:
        private.items()
    assert halt.value.hint


def test_a_purged_binlog_halts_and_names_the_missing_transactions(private: Binlog) -> None:
    private.run(TABLE, "INSERT INTO t VALUES (1, 'x')")
    begin = private.start
    private.run("FLUSH BINARY LOGS")
    newest = private.query("SHOW BINARY LOGS")[-1][0]
    private.run(f"PURGE BINARY LOGS TO '{newest}'")
    private.run("INSERT INTO t VALUES (2, 'y')")
    purged = GtidSet.parse(private.query("SELECT @@GLOBAL.gtid_purged")[0][0])
    for start in (begin, GtidSet()):
        private.start = start
        with pytest.raises(Halt, match="binlog_purged") as halt:
            private.items()
        assert GtidSet.parse(halt.value.details["missing"]) == purged.subtract(start)
        assert "A purged binlog" in halt.value.hint


def test_a_checkpoint_ahead_of_the_server_halts(binlog: Binlog) -> None:
    ((source, tag), intervals), *_ = binlog.start.intervals.items()
    binlog.start = GtidSet({(source, tag): [(1, intervals[-1][1] + 1000)]})
    with pytest.raises(Halt, match=r"checkpoint_ahead|binlog_purged"):
        binlog.items()


@pytest.mark.parametrize("start", [FilePosition("binlog.999999", 4), FilePosition("binlog.000001", 4_000_000_000)])
def test_a_position_that_is_not_there_halts(private: Binlog, start: FilePosition) -> None:
    with pytest.raises(Halt, match="position_unknown"):
        private.items(start=start)


def test_a_wrong_password_a_missing_privilege_and_a_closed_port_are_retries(binlog: Binlog) -> None:
    binlog.run("CREATE USER cdc_no_replication@'%' IDENTIFIED BY 'secret-canary'")
    try:
        for connect in (
            replace(binlog.connect, password="wrong-canary"),
            replace(binlog.connect, user="cdc_no_replication", password="secret-canary"),
        ):
            with pytest.raises(Retry, match="auth_failed") as retry:
                follow(BinlogSource(connect=connect, server_id=next(SERVER_IDS), start=binlog.start))
            assert "canary" not in f"{retry.value} {retry.value.details} {connect}"
            with pytest.raises(Retry, match="auth_failed"):
                follow(BinlogSource(connect=connect, server_id=next(SERVER_IDS), start=GtidSet()))
    finally:
        binlog.run("DROP USER cdc_no_replication@'%'")
    with pytest.raises(Retry, match="server_unreachable"):
        follow(BinlogSource(connect=replace(binlog.connect, port=1), server_id=next(SERVER_IDS), start=binlog.start))


def test_positions_go_on_counting_beyond_four_gibibytes() -> None:
    source = BinlogSource(connect=settings_of("mysql://u:p@h:1/d"), server_id=1, start=FilePosition("f", 0xFFFFFF00))
    assert source._jump(0, 0x80, 0xFFFFFF80) == 0xFFFFFF00
    assert source._jump(0, 0x100, 0x80) == 0xFFFFFF80
    assert source._pos == 0x1_0000_0080
    assert source._jump(0, 0x80, 0x1100) == 0x1_0000_1080  # others were left out between
    assert source._jump(e.FLAG_ARTIFICIAL, 0x80, 0x99) == 0x1_0000_1100


def test_an_end_that_mysql_says_is_a_retry_where_the_stream_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for is_blocking in (True, False):
        here, there = socket.socketpair()
        with here, there:
            there.sendall(b"\x05\0\0\x01\xfe\0\0\x02\0")
            packets = PacketReader(here, sequence=1, timeout_seconds=1, on_wait=lambda: None)
            monkeypatch.setattr(BinlogSource, "_open", lambda _, packets=packets: packets)
            connect, start = settings_of("mysql://u:p@h:1/d"), FilePosition("f", 4)
            source = BinlogSource(connect=connect, server_id=1, start=start, blocking=is_blocking)
            if is_blocking:
                with pytest.raises(Retry, match="stream_ended"):
                    list(source.events())
            else:
                assert list(source.events()) == []


def test_an_event_of_another_size_than_it_says_is_refused() -> None:
    source = BinlogSource(connect=settings_of("mysql://u:p@h:1/d"), server_id=1, start=FilePosition("f", 4))
    body = b"12345678"
    for size in (e.HEADER_BYTES + len(body) - 1, e.HEADER_BYTES + len(body) + 1):
        header = struct.pack("<IBIIIH", 0, e.XID, 1, size, 0, 0)
        with pytest.raises(Retry, match="protocol_error"):
            source._accept(b"\0" + header + body)


def test_the_library_gets_one_connection_and_never_a_second() -> None:
    """Its own reconnect would begin from the set it was made with, and bring transactions twice."""
    stream = _OneStream()
    stream.connection = object()
    with pytest.raises(Retry, match="connection_lost"):
        stream(host="127.0.0.1", port=1)
