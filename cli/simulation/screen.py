"""What a person sees while a run goes on: a progress bar and live figures; without a terminal, a line now and then."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from cli.simulation.figures import PULL, PUSH, percentile
from cli.simulation.run import Run

_LINE_EVERY_S = 10.0
_RECENT = 500
"""Lags and times that are shown live are of so many recent ones."""


class Screen:
    """On stderr, through a console that may be quiet."""

    def __init__(self, console: Console, seconds: float) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[live]}"), console=console
        )
        self._task = self._progress.add_task("", total=seconds, live="")
        self._seen = (time.monotonic(), 0, 0)
        self._line_at = 0.0

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        """What is being done now."""
        self._progress.update(self._task, description=text)
        self._print(text)

    def trading(self, seconds: float, run: Run) -> None:
        """Called a few times a second."""
        live = self._live(run)
        self._progress.update(self._task, description="trading", completed=seconds, live=live)
        if seconds >= self._line_at:
            self._line_at += _LINE_EVERY_S
            self._print(f"{seconds:5.0f} s  {live}")

    def _live(self, run: Run) -> str:
        figures = run.figures
        pushes, pulls = len(figures.times[PUSH]), len(figures.times[PULL])
        then, pushes_then, pulls_then = self._seen
        now = time.monotonic()
        self._seen = (now, pushes, pulls)
        passed = max(now - then, 1e-3)
        lag = percentile(figures.lags[-_RECENT:], 99) * 1000
        push, pull = (percentile(figures.times[what][-_RECENT:], 95) * 1000 for what in (PUSH, PULL))
        return (
            f"{(pushes - pushes_then) / passed:.0f} pushes/s  {(pulls - pulls_then) / passed:.0f} pulls/s"
            f"  p95 {push:.0f}, {pull:.0f} ms  lag p99 {lag:.0f} ms"
            f"  {figures.pushed:,} changes pushed, {figures.pulled:,} pulled, {run.sql_rows:,} by SQL"
            f"  {figures.conflicts} conflicts ({figures.conflict_rate:.2%})"
        )

    def _print(self, text: str) -> None:
        if not self._console.is_terminal:
            self._console.print(text, soft_wrap=True)
