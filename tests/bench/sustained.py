"""A hundred devices that push and pull for ten minutes while SQL clients write 500 rows a second, by the simulation's own parts."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cli.demo.retailer import Retailer
from cli.demo.server import Server
from cli.simulation.figures import PULL, PUSH, percentile
from cli.simulation.plan import Load
from cli.simulation.play import simulate
from cli.simulation.processes import Usage
from cli.simulation.run import Run
from tests.bench.figure import Figure
from tests.servers import Stack

COMPANIES = 5
DEVICES = 20
SECONDS = 600
RATE = 10
SQL_RATE = 500
_OURS = ("tail", "serve")
_START_S_MAX = 60


def measure(share: float) -> Iterator[Figure]:
    """Yield the figures of one run; `share` takes that part of the ten minutes, and below a tenth fewer devices too."""
    devices = max(2, round(DEVICES * min(1, share * 10)))
    load = Load(COMPANIES, devices, RATE, SQL_RATE, max(5.0, SECONDS * share), sync_every_s=2, seed=1)
    regions = Retailer.load().regions(load.companies, load.baskets, load.seed)
    with _server() as server:
        yield from _figures(simulate(server, load, regions, _Watcher()))


@contextmanager
def _server() -> Iterator[Server]:
    """MySQL, Redis, a tailer and the API, for this alone."""
    with tempfile.TemporaryDirectory() as directory, Stack(Path(directory)) as stack, stack.database() as database:
        tail = stack.spawn("tail", environ=database.environ)
        serve = stack.spawn("serve", "--port", "0", environ=database.environ)
        deadline = time.monotonic() + _START_S_MAX
        while "listening on " not in serve.output():
            if not serve.is_running or time.monotonic() > deadline:
                raise RuntimeError(f"the API did not start:\n{serve.last_lines()}")
            time.sleep(0.05)
        url = serve.output().partition("listening on ")[2].split()[0]
        pids = {"tail": tail.pid, "serve": serve.pid, "mysqld": stack.mysql.pid if stack.mysql else None}
        yield Server(url, database.settings.admin(), {name: pid for name, pid in pids.items() if pid is not None})


def _figures(run: Run) -> Iterator[Figure]:
    figures, verdict = run.figures, run.verdict
    calls = [*figures.times[PUSH], *figures.times[PULL]]
    commits = [seconds for company in run.companies if company.desk for seconds in company.desk.times]
    commit = "a SQL client's UPDATE beside it, p{}"
    cpu_us = _cpu_seconds(run.usage) / max(1, len(calls)) * 1e6
    rows = run.sql_rows / run.trading_seconds
    yield Figure("rows by SQL meanwhile", rows, "rows/s", f"{SQL_RATE} asked for", "asked for", float(SQL_RATE))
    yield Figure(
        "calls", len(calls) / run.trading_seconds, "req/s", f"{len(run.phones)} devices, {RATE} sales and edits/s", cpu_us=cpu_us
    )
    for name, values, percent, target in (("any call", calls, 95, 250), ("lag, COMMIT → waiting pull", figures.lags, 99, 500)):
        ours, peers = percentile(values, percent) * 1000, percentile(commits, percent) * 1000
        yield Figure(f"{name}, p{percent}", ours, "ms", f"< {target} ms", commit.format(percent), peers)
    yield Figure("failed calls and syncs", figures.failures.total(), "", "0")
    yield Figure("devices equal to SELECT", verdict.devices_equal, "devices", f"{verdict.devices}", "of", float(verdict.devices))
    yield Figure("sales lost", verdict.sales_lost, "sales", "0", "of", float(verdict.sales))
    early, late = _memory_mib(run.usage[len(run.usage) // 3]), _memory_mib(run.usage[-1])
    yield Figure("memory of tailer and API at the end", late, "MiB", "flat: ratio ≤ 1.1", "after a third of the time", early)


def _memory_mib(usage: dict[str, Usage]) -> float:
    return sum(usage[name].resident_bytes for name in _OURS if name in usage) / 2**20


def _cpu_seconds(samples: list[dict[str, Usage]]) -> float:
    """Of all server processes, while trading."""
    first, last = samples[0], samples[-1]
    return sum(last[name].cpu_seconds - first[name].cpu_seconds for name in first.keys() & last.keys())


class _Watcher:
    """Says what is being done."""

    def say(self, text: str) -> None:
        print(f"sustained: {text}", file=sys.stderr, flush=True)

    def trading(self, seconds: float, run: Run) -> None:
        """The figures are told at the end."""
