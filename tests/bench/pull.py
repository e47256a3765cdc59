"""Pull under load: deltas, cursors that advance, empty pulls, pages, first syncs; beside a bare handler with the same bytes.

Requests are answered by a worker for each core, first syncs by one, since each worker reads a page once; bare ones likewise.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tests.bench.bare import bare_server
from tests.bench.figure import Figure
from tests.bench.generated import generate
from tests.bench.lab import PULL, Cpu, Crew, Lab, open_lab
from tests.bench.load import Ready, Result, Talk, Walk, post
from tests.bench.processes import cpu_seconds

RECORDS = 20_000
CHANGES = 200_000
DELTA = 100
PAGE = 1_000
PAGES_MAX = 5_000
"""The largest page that the server gives."""
EMPTY_BYTES_MAX = 1_000
ADVANCING_DEVICES = 1_000
WORKERS = 2
FIRST_SYNCS = 100
_WARM_SECONDS = 2.0
_ROWS_READ = """
SELECT SUM(count_fetch) FROM performance_schema.table_io_waits_summary_by_table
WHERE object_schema = %s AND object_name = 'sync_changes'
"""
_BARE = "a bare aiohttp handler, same bytes"


def measure(share: float) -> Iterator[Figure]:
    """Yield the figures; `share` takes that part of the rows and of the ten seconds of each."""
    records, seconds = max(2_000, int(RECORDS * share)), max(4.0, 10 * share)
    with _opened(records, seconds, share, workers=WORKERS) as bench:
        yield from bench.deltas()
        yield bench.advancing()
        yield from bench.empty()
        yield bench.page()
    with _opened(records, seconds, share, workers=1) as bench:
        yield from bench.first_syncs(records)


@contextmanager
def _opened(records: int, seconds: float, share: float, *, workers: int) -> Iterator[_Bench]:
    with open_lab(workers=workers) as lab:
        crew = lab.hire(FIRST_SYNCS)
        begin, head = generate(lab, crew.company_id, max(10 * records, int(CHANGES * share)), records)
        yield _Bench(lab, crew, begin, head, seconds, workers)


class _Bench:
    """One company whose changes lie between two heads."""

    def __init__(self, lab: Lab, crew: Crew, begin: int, head: int, seconds: float, workers: int) -> None:
        self._lab, self._crew, self._begin, self._head, self._seconds = lab, crew, begin, head, seconds
        self._workers = workers

    def deltas(self) -> Iterator[Figure]:
        """The same delta for each device over and over, each device at a place of its own."""
        for connections, p99 in ((16, 30), (100, 100)):
            lines = self._lines(connections, lambda i: self._begin + 20 + i * 200, DELTA)
            result, cpu, peer = self._beside_bare(lines)
            yield _figure(f"delta of {DELTA}, {connections} connections", result, cpu, f"≥ 2,700 req/s, p99 < {p99} ms", peer)

    def advancing(self) -> Figure:
        """Cursors that advance with every pull, so that each is recorded, durably."""
        crew = self._lab.hire(ADVANCING_DEVICES, company_id=self._crew.company_id)
        talks = [self._walk(crew, i, self._begin + i, DELTA, end=self._head - DELTA) for i in range(len(crew.tokens))]
        lines = [talks[i::100] for i in range(100)]
        result, cpu = self._load(lines)
        return _figure(f"delta of {DELTA}, {len(talks)} devices that advance", result, cpu, "≥ 1,500 req/s, p99 < 150 ms")

    def empty(self) -> Iterator[Figure]:
        """Nothing new, for devices that were given everything: a cursor that the server did not answer is not believed."""
        crew = self._lab.hire(100, company_id=self._crew.company_id)
        head = self._lab.caught_up()
        self._lab.load([[self._walk(crew, i, 0, PAGES_MAX, end=head, is_once=True)] for i in range(100)], 600)[0].demand()
        for connections in (16, 100):
            lines = self._lines(connections, lambda _: head, DELTA, crew)
            result, cpu, peer = self._beside_bare(lines)
            if result.received_bytes > EMPTY_BYTES_MAX * result.count:
                raise RuntimeError("pulls that should find nothing new were given something")
            yield _figure(f"empty, {connections} connections", result, cpu, "≥ 15,000 req/s", peer)

    def page(self) -> Figure:
        """Pages of 1,000, each device at a place of its own."""
        lines = self._lines(8, lambda i: self._begin + i * (PAGE // 2), PAGE)
        result, cpu, peer = self._beside_bare(lines)
        return _figure(f"page of {PAGE}", result, cpu, "≥ 500,000 records/s", peer, each=PAGE)

    def first_syncs(self, records: int) -> Iterator[Figure]:
        """One device, then many at once, from 0 to the end; its pages are others, so that theirs are not in memory yet."""
        lone = self._lab.hire(1, company_id=self._crew.company_id)
        head = self._lab.caught_up()
        result, cpu = self._lab.load([[self._walk(lone, 0, 0, PAGE + 1, end=head, is_once=True)]], 600)
        each = records / result.demand().count
        yield _figure(f"first sync of {records:,} by one device", result, cpu, "≥ 150,000 records/s", each=each)
        lines = [[self._walk(self._crew, i, 0, PAGE, end=head, is_once=True)] for i in range(FIRST_SYNCS)]
        reads = self._rows_read()
        result, cpu = self._lab.load(lines, 600)
        read = (self._rows_read() - reads) / records
        peer = self._bare(result.received_bytes // result.demand().count, FIRST_SYNCS)
        what = f"{FIRST_SYNCS} first syncs at once, each record read {read:.1f} times"
        yield _figure(what, result, cpu, "within 1.5 × of the peer, read once", peer, each=each)

    def _walk(self, crew: Crew, i: int, begin: int, limit: int, *, end: int, is_once: bool = False) -> Walk:
        body = json.dumps({"device_id": crew.devices[i], "limit": limit, "last_version": 0}).replace('": 0}', '": %d}')
        return Walk(PULL, crew.tokens[i], body.encode(), begin, end, is_once)

    def _lines(self, count: int, cursor: Callable[[int], int], limit: int, crew: Crew | None = None) -> list[list[Talk]]:
        crew = crew or self._crew
        bodies = [{"device_id": crew.devices[i], "last_version": cursor(i), "limit": limit} for i in range(count)]
        return [[Ready([post(PULL, token, json.dumps(body).encode())])] for token, body in zip(crew.tokens, bodies, strict=False)]

    def _load(self, lines: Sequence[Sequence[Talk]]) -> tuple[Result, Cpu]:
        self._lab.load(lines, _WARM_SECONDS)
        result, cpu = self._lab.load(lines, self._seconds)
        return result.demand(), cpu

    def _beside_bare(self, lines: Sequence[Sequence[Talk]]) -> tuple[Result, Cpu, float]:
        result, cpu = self._load(lines)
        return result, cpu, self._bare(result.received_bytes // result.count, len(lines))

    def _bare(self, size: int, connections: int) -> float:
        """Answers of this size a second; ours are told with their headers, of which a bare answer has about as many."""
        with bare_server(self._lab.stack.directory, b"x" * size, workers=self._workers) as (child, port):
            lines = [[Ready([post(PULL, "t" * 300, b"y" * 80)])] for _ in range(connections)]
            self._lab.load(lines, _WARM_SECONDS / 2, port=port)
            before = cpu_seconds(child.pid)
            result, _ = self._lab.load(lines, self._seconds, port=port)
            cpu_us = (cpu_seconds(child.pid) - before) / result.demand().count * 1e6
            print(f"    {_BARE}: {result}; {cpu_us:.0f} µs of CPU each", file=sys.stderr)
            return result.per_second

    def _rows_read(self) -> int:
        """Rows of the change log that MySQL has handed out so far."""
        return int(self._lab.sql.value(_ROWS_READ, self._lab.settings.admin().database))


def _figure(what: str, result: Result, cpu: Cpu, target: str, peer: float | None = None, *, each: float = 0.0) -> Figure:
    """`each`: records an answer, where the figure counts records; CPU is that of all servers."""
    print(f"    {what}: {result}; {cpu.each(result.count)}", file=sys.stderr)
    per_answer, unit = (each, "records/s") if each else (1.0, "req/s")
    return Figure(
        what=f"{what}, p99 {result.ms(99):.0f} ms",
        ours=result.per_second * per_answer,
        unit=unit,
        target=target,
        peer=_BARE if peer is not None else "",
        peers=peer * per_answer if peer is not None else None,
        cpu_us=cpu.total / result.count / per_answer * 1e6,
    )
