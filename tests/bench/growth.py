"""What a pull costs when the change log is long: a delta with 50 times the rows in it, a first pull with 1,000 times the changes.

CPU of all servers for the same answer is what is compared; the wall beside it depends on what else the machine does. Each figure
has a MySQL of its own, so that the disk holds one of the two logs at a time: 700 bytes a change, 36 GB for the longer one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

from tests.bench.figure import Figure
from tests.bench.generated import generate
from tests.bench.lab import PULL, Cpu, Crew, Lab, open_lab
from tests.bench.load import Result, Walk

SHORT = 1_000_000
LONG = 50_000_000
RECORDS = 20_000
BEHIND = 20_000_000
DELTA = 100
PAGE = 1_000
TIMES = 5
"""First pulls that are measured: each has pages of another size, so that none is in the API's memory already."""
DEVICES = 16


def measure(share: float) -> Iterator[Figure]:
    """Yield the figures; `share` takes that part of the rows, and of ten seconds."""
    records = max(1_000, int(RECORDS * share))
    with open_lab() as lab:
        few, many = lab.hire(1 + TIMES), lab.hire(1 + TIMES)
        generate(lab, few.company_id, records, records)
        generate(lab, many.company_id, max(50 * records, int(BEHIND * share)), records, is_skewed=True)
        yield _first_pulls(lab, few, many, records)
    with open_lab() as lab:
        crew = lab.hire(DEVICES)
        begin, head = generate(lab, crew.company_id, max(10 * records, int(SHORT * share)), records)
        short = _deltas(lab, crew, begin, head, share)
        begin, head = generate(lab, crew.company_id, max(50 * records, int((LONG - SHORT) * share)), records)
        yield _compared(f"delta of {DELTA}", _deltas(lab, crew, begin, head, share), short, "1/50 of the rows in the change log")


def _deltas(lab: Lab, crew: Crew, begin: int, head: int, share: float) -> tuple[Result, Cpu]:
    """Each device walks through a stretch of its own, all of them spread over the log."""
    stretch = (head - begin) // DEVICES
    starts = [begin + i * stretch for i in range(DEVICES)]
    lines = [[Walk(PULL, crew.tokens[i], _body(crew, i, DELTA), start, start + stretch - DELTA)] for i, start in enumerate(starts)]
    seconds = max(1.5, 10 * share)
    lab.load(lines, seconds)  # brings the rows into the buffer pool, which does not hold the long log
    result, cpu = lab.load(lines, seconds)
    return result.demand(), cpu


def _first_pulls(lab: Lab, few: Crew, many: Crew, records: int) -> Figure:
    found = []
    for crew in (few, many):
        head = lab.caught_up()
        lab.load([[_walk(crew, 0, PAGE, head)]], 600)  # brings the rows into the buffer pool
        result, cpu = lab.load([[_walk(crew, i, PAGE + i, head) for i in range(1, 1 + TIMES)]], 600)
        found.append((result.demand(), cpu))
    return _compared(f"first pull of {records:,} records, changes behind them", found[1], found[0], "no changes behind them")


def _walk(crew: Crew, i: int, limit: int, head: int) -> Walk:
    return Walk(PULL, crew.tokens[i], _body(crew, i, limit), 0, head, is_once=True)


def _body(crew: Crew, i: int, limit: int) -> bytes:
    return json.dumps({"device_id": crew.devices[i], "limit": limit, "last_version": 0}).replace('": 0}', '": %d}').encode()


def _compared(what: str, ours: tuple[Result, Cpu], peers: tuple[Result, Cpu], peer: str) -> Figure:
    (result, cpu), (other, other_cpu) = ours, peers
    print(f"    {what}: {result}; {cpu.each(result.count)}\n    {peer}: {other}; {other_cpu.each(other.count)}", file=sys.stderr)
    return Figure(
        what=what,
        ours=cpu.total / result.count * 1e6,
        unit="µs CPU an answer",
        target="within 1.2 ×",
        peer=peer,
        peers=other_cpu.total / other.count * 1e6,
    )
