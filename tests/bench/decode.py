"""Decoding alone: binlog → changes as they will be stored, per CPU second, beside `mysqlbinlog -v` and mysql-replication.

Ours reads from the server, checks each event, and makes JSON; mysqlbinlog reads the file and prints text to nowhere.
"""

from __future__ import annotations

import itertools
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from cdc.builder import TxBuilder, is_wanted
from cdc.gtid import GtidSet
from cdc.items import Changes, Rows, TxBegin, TxEnd
from cdc.span import open_source
from cdc.tx import assemble
from schema.settings import MySQLAddress
from schema.tables import TABLES
from tests.bench.backlog import BULK, SINGLE, BacklogWriter
from tests.bench.figure import Figure
from tests.bench.peer_reader import read_peer_rows
from tests.bench.processes import children_cpu_seconds
from tests.servers import Stack
from tests.sql_client import SqlClient

ROWS = 400_000
PEER_ROWS_MAX = 10_000


def measure(share: float) -> Iterator[Figure]:
    """Both shapes, each in binlog files of its own."""
    with tempfile.TemporaryDirectory() as directory, Stack(Path(directory)) as stack, stack.private_mysql("decode") as server:
        client = server.programs.client("mysqlbinlog")
        with stack.database(server) as database, SqlClient(database.settings) as sql:
            writer = BacklogWriter(database.settings)
            address = database.settings.tailer()
            for shape in (SINGLE, BULK):
                sql.run("FLUSH BINARY LOGS")
                start = str(sql.value("SELECT @@GLOBAL.gtid_executed")).replace("\n", "")
                first = sql.rows("SHOW BINARY LOGS")[-1][0]
                rows = writer.write(shape, int(ROWS * share))
                files = [server.data / name for name, *_ in sql.rows("SHOW BINARY LOGS") if name >= first]
                ours = rows / decode_seconds(address, start)
                peers = rows / mysqlbinlog_seconds(client, files) if client is not None else None
                yield Figure(f"decoding, {shape}", ours, "rows/CPU s", "≥ 60 %", "mysqlbinlog -v", peers, 1e6 / ours)
                peers = peer_rate(address, start)
                yield Figure(f"decoding, {shape}", ours, "rows/CPU s", "", "mysql-replication", peers, 1e6 / ours)
            writer.close()


def decode_seconds(address: MySQLAddress, start: str) -> float:
    """CPU seconds of this process for the whole way to changes."""
    began = time.process_time()
    builder: TxBuilder | None = None
    source = open_source(address, GtidSet.parse(start))
    for item in assemble(source.events(), address.database, is_wanted, declared=TABLES):
        if isinstance(item, TxBegin):
            builder = TxBuilder(item)
        elif isinstance(item, Changes) and builder is not None:
            builder.add_changes(item)
        elif isinstance(item, Rows) and builder is not None:
            builder.add(item)
        elif isinstance(item, TxEnd) and builder is not None:
            builder.end(item)
    return time.process_time() - began


def mysqlbinlog_seconds(client: tuple[str, ...], files: list[Path]) -> float:
    """CPU seconds of MySQL's own program for the same files."""
    began = children_cpu_seconds()
    words = [*client, "--no-defaults", "-v", "--base64-output=decode-rows", *map(str, files)]
    subprocess.run(words, stdout=subprocess.DEVNULL, check=True)
    return children_cpu_seconds() - began


def peer_rate(address: MySQLAddress, start: str) -> float:
    """Rows a CPU second that mysql-replication gives."""
    began = time.process_time()
    count = sum(1 for _ in itertools.islice(read_peer_rows(address, start), PEER_ROWS_MAX))
    return count / (time.process_time() - began)
