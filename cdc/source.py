"""The binlog of one MySQL server as a stream of events: the only importer of mysql-replication.

The library connects, registers and starts the dump; packets are then read here, each checked by its CRC32, compressed
transactions unpacked. Reconnecting belongs to the tailer, from its checkpoint: whatever breaks raises, and a source that
has raised is done.

Source: MySQL 9.7 manual, "The Binary Log"; libs/mysql/binlog/event/binlog_event.h for header and footer.
"""

from __future__ import annotations

import socket
import struct
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import pymysql
from pymysqlreplication import BinLogStreamReader

from cdc import events as e
from cdc.dump import ASK_CHECKSUM, ConnectionSettings, class_connect_error, class_stream_error, start_dump_by_command
from cdc.events import RawEvent
from cdc.gtid import GtidSet
from cdc.packets import PacketReader
from cdc.payload import unpack_payload
from schema.errors import Halt, Retry, TailerError

__all__ = ["BinlogSource", "ConnectionSettings", "FilePosition"]

HEARTBEAT_SECONDS_MAX: Final = 10.0
_SILENCE_FACTOR: Final = 3
_HEADER: Final = struct.Struct("<IBIIIH")
_CHECKSUM_BYTES: Final = 4
_CHECKSUM_CRC32: Final = 1
_CRC32_RESIDUE: Final = 0x2144DF1C
"""CRC32 of anything that ends with its own CRC32, little-endian."""
_CRC32_BEFORE_STATUS: Final = 0x0F6A7026
"""The running CRC32 that a zero byte, a packet's status, takes to that of nothing: so a payload needs no slice."""
_REREAD_SERVER_ID_BIT: Final = 1 << 31
_unpack_header: Final = _HEADER.unpack_from
_BODY_AT: Final = 1 + e.HEADER_BYTES
_NOT_PLAIN: Final = frozenset({e.ROTATE, e.FORMAT_DESCRIPTION, e.TRANSACTION_PAYLOAD})
"""Events that say something of the stream itself, or hold others."""
_new: Final = tuple.__new__
"""For what is made millions of times: half the time of calling a NamedTuple, whose own function is in Python."""
_REPLICA_NAMESPACE: Final = uuid.UUID("6f1b3c5e-2d0a-5b7e-9c41-0d2f8a6e7b13")


@dataclass(frozen=True, slots=True)
class FilePosition:
    """A place in a binlog file, at the start of an event."""

    file: str
    pos: int


class _OneStream:
    """Hands the library one connection. Asked again it raises: a reconnect of its own would begin from an old place."""

    def __init__(self) -> None:
        self.connection: Any = None

    def __call__(self, **settings: Any) -> Any:
        if self.connection is not None:
            raise Retry("connection_lost", "the stream's connection broke")
        self.connection = pymysql.connect(**settings)
        return self.connection


class BinlogSource:
    """A dump from just after the transactions of `start`, or from a file position.

    `server_id` and `name` name us to the server, and must be ours alone: a second reader with both ends the first one's stream.
    `on_wait` is called several times a second, in the reading thread, while the server has nothing to send.
    With `blocking=False` the stream ends where the binlog does. Nothing is opened before `events` is asked.
    """

    def __init__(
        self,
        *,
        connect: ConnectionSettings,
        server_id: int,
        start: GtidSet | FilePosition,
        heartbeat_seconds: float = HEARTBEAT_SECONDS_MAX,
        blocking: bool = True,
        name: str = "",
        on_wait: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_wait = on_wait
        self._connect = connect
        self._server_id = server_id
        self._replica_uuid = str(uuid.uuid5(_REPLICA_NAMESPACE, f"{server_id} {name}".strip()))
        self._start = start
        self._heartbeat_seconds = min(heartbeat_seconds, HEARTBEAT_SECONDS_MAX)
        self._is_blocking = blocking
        self._is_closed = False
        self._connection: Any = None
        self._packets: PacketReader | None = None
        self._has_checksum: bool | None = None
        self._file = start.file if isinstance(start, FilePosition) else ""
        self._pos = start.pos if isinstance(start, FilePosition) else 0

    def events(self) -> Iterator[RawEvent]:
        """Events in binlog order, heartbeats among them. Ends at the binlog's end (not blocking) and after `close`.

        Raises Retry (`auth_failed`, `server_unreachable`, `connection_lost`, `connection_silent`, `stream_ended`,
        `protocol_error`, `checksum_mismatch`, `server_error`, `server_id_conflict`) and Halt (`binlog_purged`,
        `checkpoint_ahead`, `position_unknown`, `event_too_large`, `binlog_unreadable`, `checksum_mismatch`,
        `event_malformed`).
        """
        try:
            packets = self._packets = self._open()
            read, accept = packets.read, self._accept
            while not self._is_closed:
                payload = read()
                if self._has_checksum and len(payload) >= _BODY_AT + _CHECKSUM_BYTES and not payload[0]:
                    timestamp, type_, server_id, size, log_pos, flags = _unpack_header(payload, 1)
                    pos, end_pos = self._pos, self._pos + size
                    if (
                        log_pos == end_pos & 0xFFFFFFFF
                        and size == len(payload) - 1
                        and type_ not in _NOT_PLAIN
                        and not flags & e.FLAG_ARTIFICIAL
                        and zlib.crc32(payload, _CRC32_BEFORE_STATUS) == _CRC32_RESIDUE
                    ):  # as nearly all are: good, and just behind the last one; all others `_accept` takes or refuses
                        self._pos = end_pos
                        body = payload[_BODY_AT:-_CHECKSUM_BYTES]
                        yield _new(RawEvent, (type_, timestamp, server_id, flags, self._file, pos, end_pos, body))
                        continue
                if payload.startswith(b"\0"):
                    event = accept(payload)
                    if event.type != e.TRANSACTION_PAYLOAD:
                        yield event
                    else:
                        yield from unpack_payload(event)
                elif payload.startswith(b"\xfe") and len(payload) < 9:
                    if self._is_blocking:
                        raise Retry("stream_ended", "MySQL ended the stream: it shuts down or the dump was killed")
                    return
                elif payload.startswith(b"\xff"):
                    start = self._start if isinstance(self._start, GtidSet) else None
                    raise class_stream_error(payload, self._connect, start)
                else:
                    raise Retry("protocol_error", f"a packet begins with {payload[:1].hex() or 'nothing'}")
        except TailerError:
            if not self._is_closed:
                raise
        finally:
            self._disconnect()

    def is_drained(self, patient_until: float = 0.0) -> bool:
        """Whether nothing more is buffered or readable right now, nor comes by then, in seconds of time.monotonic()."""
        patience = max(0.0, patient_until - time.monotonic())
        return self._packets is None or not self._packets.has_more(patience)

    def close(self) -> None:
        """End the stream; a read that waits in another thread ends too."""
        self._is_closed = True
        connection = self._connection
        if connection is not None and connection._sock is not None:
            with suppress(OSError):
                connection._sock.shutdown(socket.SHUT_RDWR)

    def _disconnect(self) -> None:
        connection, self._connection, self._packets = self._connection, None, None
        if connection is not None:
            connection._force_close()  # COM_QUIT would wait behind a stream that nobody reads

    def _open(self) -> PacketReader:
        timeout = self._heartbeat_seconds * _SILENCE_FACTOR
        settings = {**self._connect.arguments(), "read_timeout": timeout, "write_timeout": timeout, "init_command": ASK_CHECKSUM}
        try:
            if isinstance(self._start, GtidSet) and (not self._start or self._start.has_tags()):
                self._connection = pymysql.connect(**settings)
                start_dump_by_command(
                    self._connection,
                    self._start,
                    server_id=self._server_id,
                    replica_uuid=self._replica_uuid,
                    heartbeat_seconds=self._heartbeat_seconds,
                    blocking=self._is_blocking,
                )
            else:
                self._open_by_library(settings)
        except (pymysql.err.MySQLError, OSError) as problem:
            raise class_connect_error(problem) from problem
        return PacketReader(self._connection._sock, sequence=1, timeout_seconds=timeout, on_wait=self._on_wait)

    def _open_by_library(self, settings: dict[str, Any]) -> None:
        by_file = isinstance(self._start, FilePosition)
        stream = _OneStream()
        reader = BinLogStreamReader(
            connection_settings=settings,
            server_id=self._server_id,
            blocking=self._is_blocking,
            auto_position=None if by_file else str(self._start),
            log_file=self._file if by_file else None,
            log_pos=self._pos if by_file else None,
            resume_stream=by_file,
            slave_uuid=self._replica_uuid,
            slave_heartbeat=self._heartbeat_seconds,
            report_slave=("matrix-sync", "", "", 0),
            pymysql_wrapper=stream,
            enable_logging=False,
        )
        # fetchone() would read the first packet too, and open a second connection for schema look-ups.
        try:
            reader._BinLogStreamReader__connect_to_stream()
        finally:
            self._connection = stream.connection

    def _accept(self, payload: bytes) -> RawEvent:
        """Check one packet's event and keep file and position."""
        if len(payload) <= e.HEADER_BYTES:
            raise Retry("protocol_error", "an event is shorter than its header")
        timestamp, type_, server_id, size, log_pos, flags = _HEADER.unpack_from(payload, 1)
        if size != len(payload) - 1:
            raise Retry("protocol_error", f"an event of {size} bytes came in {len(payload) - 1}")
        end = size + 1 - _CHECKSUM_BYTES
        if not self._has_checksum or type_ == e.FORMAT_DESCRIPTION:
            end = size + 1 - self._footer_bytes(type_, payload)
        elif zlib.crc32(payload, _CRC32_BEFORE_STATUS) != _CRC32_RESIDUE:
            raise self._class_bad_checksum()
        start_pos = self._pos
        if log_pos == (start_pos + size) & 0xFFFFFFFF and not flags & e.FLAG_ARTIFICIAL:
            self._pos = start_pos + size
        else:
            start_pos = self._jump(flags, size, log_pos)
        body = payload[1 + e.HEADER_BYTES : end]
        event = _new(RawEvent, (type_, timestamp, server_id, flags, self._file, start_pos, self._pos, body))
        if type_ == e.ROTATE:
            self._pos = int.from_bytes(body[:8], "little")
            self._file = body[8:].decode("utf-8", "replace")
        return event

    def _jump(self, flags: int, size: int, log_pos: int) -> int:
        """Move to the end of an event that does not follow on the last one; return where it starts.

        The server left transactions out between, or made the event for the stream. Headers hold 32 bits of a position.
        """
        if not log_pos or flags & e.FLAG_ARTIFICIAL:
            return self._pos
        before = self._pos
        self._pos += log_pos - self._pos & 0xFFFFFFFF
        return max(self._pos - size, before)

    def _footer_bytes(self, type_: int, payload: bytes) -> int:
        """Bytes after the event's body, where that is not sure to be a checksum."""
        is_good = zlib.crc32(memoryview(payload)[1:]) == _CRC32_RESIDUE
        if type_ == e.FORMAT_DESCRIPTION:
            # Always with a footer; the byte before it says what the events after it have.
            self._has_checksum = payload[-_CHECKSUM_BYTES - 1] == _CHECKSUM_CRC32
            if self._has_checksum and not is_good:
                raise self._class_bad_checksum()
            return _CHECKSUM_BYTES
        # Before the first format description comes an artificial ROTATE.
        return _CHECKSUM_BYTES if self._has_checksum is None and is_good else 0

    def _class_bad_checksum(self) -> TailerError:
        """A Retry if the event reads well a second time: then the wire was to blame, and not the file."""
        place = {"file": self._file, "pos": self._pos}
        if self._server_id & _REREAD_SERVER_ID_BIT or self._is_readable_again():
            return Retry("checksum_mismatch", f"an event at {self._file}:{self._pos} came damaged", details=place)
        return Halt(
            "checksum_mismatch",
            f"the event at {self._file}:{self._pos} is damaged in the binlog file",
            hint="restore the binlog file from a replica, or skip its transactions, then `matrix-sync reconcile`",
            details=place,
        )

    def _is_readable_again(self) -> bool:
        again = BinlogSource(
            connect=self._connect,
            server_id=self._server_id | _REREAD_SERVER_ID_BIT,
            start=FilePosition(self._file, self._pos),
            blocking=False,
        )
        stream = again.events()
        try:
            about_file = (e.ROTATE, e.FORMAT_DESCRIPTION)
            return any(event.type not in about_file or event.start_pos > self._pos for event in stream)
        except Retry as problem:
            return problem.code != "checksum_mismatch"
        finally:
            stream.close()  # type: ignore[attr-defined]
