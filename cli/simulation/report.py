"""What a run tells at the end: one JSON object for programs, tables for people, and the plan's criteria beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from cli.demo.report import tell_difference
from cli.output import printable
from cli.simulation.figures import PULL, PUSH, SYNC, percentile
from cli.simulation.run import Run

_DIFFERENCES_KEPT = 100
_DIFFERENCES_SHOWN = 10
_SYNC_S_MAX, _CALL_S_MAX, _CONFLICT_RATE_MAX, _USERS_MIN = 2.0, 5.0, 0.01, 100
_PERCENTS = (50, 95, 99)
_MIB = 1024 * 1024

Plain = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Criterion:
    """One of the plan's, with what was measured, both in words."""

    name: str
    plan: str
    measured: str
    is_met: bool


def summary(run: Run) -> Plain:
    """Everything as plain values; times in ms unless the name says otherwise."""
    figures, verdict = run.figures, run.verdict
    seconds = max(run.trading_seconds, 1e-3)
    calls = [*figures.times[PUSH], *figures.times[PULL]]
    return {
        "is_equal": verdict.is_good,
        "run": run.run_id,
        "load": asdict(run.load),
        "is_cut_short": run.is_cut_short,
        "seconds": {"trading": round(run.trading_seconds, 2), "settling": round(run.settle_seconds, 2)},
        "devices": verdict.devices,
        "devices_equal": verdict.devices_equal,
        "rows_compared": verdict.rows,
        "sales": verdict.sales,
        "sales_refused": verdict.sales_refused,
        "sales_lost": verdict.sales_lost,
        "edits": figures.edits,
        "edits_skipped": figures.edits_skipped,
        "sql_rows": run.sql_rows,
        "pushes": len(figures.times[PUSH]),
        "pulls": len(figures.times[PULL]),
        "pushes_per_second": round(len(figures.times[PUSH]) / seconds, 1),
        "pulls_per_second": round(len(figures.times[PULL]) / seconds, 1),
        "changes_pushed": figures.pushed,
        "changes_pulled": figures.pulled,
        "statuses": dict(figures.statuses),
        "conflicts": figures.conflicts,
        "conflict_rate": round(figures.conflict_rate, 6),
        "offline_spells": figures.offline_spells,
        "answers_lost": figures.answers_lost,
        "pushes_pending": figures.pushes_pending,
        "asked_to_wait": figures.asked_to_wait,
        "started_again": figures.started_again,
        "failures": dict(figures.failures),
        "behind_ms_max": round(figures.behind_s_max * 1000),
        "ms": {**{what: _ms(figures.times[what]) for what in (PUSH, PULL, SYNC)}, "call": _ms(calls), "lag": _ms(figures.lags)},
        "server": _server(run),
        "criteria": [asdict(criterion) for criterion in criteria(run, calls)],
        "difference_count": len(verdict.differences),
        "differences": [asdict(difference) for difference in verdict.differences[:_DIFFERENCES_KEPT]],
        "complaints": verdict.complaints[:_DIFFERENCES_KEPT],
    }


def criteria(run: Run, calls: list[float]) -> list[Criterion]:
    """The plan's success criteria, as far as a run can measure them."""
    figures, verdict = run.figures, run.verdict
    sync, call = percentile(figures.times[SYNC], 50), percentile(calls, 95)
    lost = f"{verdict.sales_lost} of {verdict.sales} sales, {len(verdict.differences)} differences in {verdict.rows:,} rows"
    rate = f"{figures.conflict_rate:.3%}: {figures.conflicts} of {figures.pushed:,} changes"
    return [
        Criterion("a typical sync", "< 2 s", f"{sync * 1000:.0f} ms (median)", sync < _SYNC_S_MAX),
        Criterion("an API answer, p95", "< 5 s", f"{call * 1000:.0f} ms", call < _CALL_S_MAX),
        Criterion("conflicts", "< 1 %", rate, figures.conflict_rate < _CONFLICT_RATE_MAX),
        Criterion("concurrent users", "100+", f"{len(run.phones)} devices", len(run.phones) >= _USERS_MIN),
        Criterion("data lost", "none", lost, verdict.is_good),
    ]


def print_summary(console: Console, told: Plain) -> None:
    """Print the tables, and what does not agree, if anything."""
    console.print(_figures(told))
    console.print(_times(told))
    console.print(_criteria(told))
    for difference in told["differences"][:_DIFFERENCES_SHOWN]:
        console.print(tell_difference(difference), style="red")
    for complaint in told["complaints"][:_DIFFERENCES_SHOWN]:
        console.print(printable(complaint), style="red")
    if told["is_cut_short"]:
        console.print("the load was ended early")
    if told["is_equal"]:
        text = f"✔ {told['devices']} devices hold exactly what SELECT gives: {told['rows_compared']:,} rows compared, all columns"
        console.print(text, style="bold green")
        return
    wrong = told["devices"] - told["devices_equal"]
    text = f"✘ {told['difference_count']} differences on {wrong} of {told['devices']} devices, {len(told['complaints'])} complaints"
    console.print(text, style="bold red")


def _figures(told: Plain) -> Table:
    table = Table("", "count", "")
    table.columns[1].justify = "right"
    for label, name, tell in _LINES:
        table.add_row(label, f"{told[name]:,}", tell(told))
    seconds = told["seconds"]
    table.add_row("seconds of trading", f"{seconds['trading']:,}", f"and {seconds['settling']} to come to rest")
    for name, used in told["server"].items():
        table.add_row(
            f"{name}, CPU seconds", f"{used['cpu_seconds']:,}", f"memory {used['mib_first']:,} → {used['mib_last']:,} MiB"
        )
    for problem, count in told["failures"].items():
        table.add_row("failed", f"{count:,}", problem, style="red")
    return table


def _times(told: Plain) -> Table:
    table = Table("ms", *(f"p{percent}" for percent in _PERCENTS), "max")
    for what, row in (("a push", PUSH), ("a pull", PULL), ("a whole sync", SYNC), ("COMMIT → a waiting device", "lag")):
        values = told["ms"][row]
        table.add_row(what, *(f"{values[name]:,}" for name in (*(f"p{percent}" for percent in _PERCENTS), "max")))
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def _criteria(told: Plain) -> Table:
    table = Table("the plan's criterion", "plan", "measured", "")
    for found in told["criteria"]:
        table.add_row(found["name"], found["plan"], found["measured"], "✔" if found["is_met"] else "✘")
    return table


def _ms(seconds: Any) -> dict[str, float]:
    """Percentiles in ms."""
    values = {f"p{percent}": percentile(seconds, percent) for percent in _PERCENTS}
    return {name: round(value * 1000, 1) for name, value in {**values, "max": percentile(seconds, 100)}.items()}


def _server(run: Run) -> dict[str, Plain]:
    """CPU while trading, and memory before and after it, by process."""
    if not run.usage:
        return {}
    first, last = run.usage[0], run.usage[-1]
    return {
        name: {
            "cpu_seconds": round(last[name].cpu_seconds - first[name].cpu_seconds, 1),
            "mib_first": round(first[name].resident_bytes / _MIB),
            "mib_last": round(last[name].resident_bytes / _MIB),
        }
        for name in first.keys() & last.keys()
    }


def _statuses(told: Plain) -> str:
    return ", ".join(f"{count:,} {status}" for status, count in sorted(told["statuses"].items()))


def _nothing(_told: Plain) -> str:
    return ""


_LINES: tuple[tuple[str, str, Callable[[Plain], str]], ...] = (
    ("devices", "devices", lambda told: f"{told['offline_spells']:,} times offline"),
    ("sales", "sales", lambda told: f"{told['sales_refused']} refused"),
    ("edits", "edits", lambda told: f"{told['edits_skipped']} more of rows that the device had not heard of"),
    ("rows by SQL", "sql_rows", _nothing),
    ("pushes", "pushes", lambda told: f"{told['pushes_per_second']:,}/s; {told['answers_lost']} answers lost on the way"),
    ("pulls", "pulls", lambda told: f"{told['pulls_per_second']:,}/s"),
    ("changes pushed", "changes_pushed", _statuses),
    ("changes pulled", "changes_pulled", _nothing),
    ("conflicts", "conflicts", lambda told: f"{told['conflict_rate']:.3%} of the changes pushed"),
    ("asked to wait", "asked_to_wait", _nothing),
    ("events late by, ms", "behind_ms_max", lambda _told: "at most: above a second, this machine can't make the load"),
)
