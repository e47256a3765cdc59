"""`matrix-sync demo`: plays the days and says whether every device equals MySQL."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from cli.demo.play import Outcome, play
from cli.demo.report import print_summary, summary
from cli.demo.retailer import Retailer, StoreBook
from cli.demo.server import running_server
from cli.home import Home, home_option
from cli.output import DIFFERENCES, DONE, Command, console, print_json


class _Bar:
    """One store's progress bar."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def say(self, text: str) -> None:
        self._progress.update(self._task, doing=text)

    def advance(self, baskets: int) -> None:
        self._progress.advance(self._task, baskets)


@click.command(cls=Command)
@click.option("--days", type=click.IntRange(1, 300), default=7, show_default=True, help="Consecutive trading days.")
@click.option("--stores", type=click.IntRange(1, 50), default=2, show_default=True, help="The busiest ones, each a company.")
@click.option("--tills", type=click.IntRange(2, 20), default=3, show_default=True, help="Devices of each store.")
@click.option("--baskets", type=click.IntRange(1), metavar="N", help="At most so many a day in each store.  [default: all]")
@click.option("--seed", type=int, default=1, show_default=True, help="Chooses the first day.")
@home_option("The home of the `matrix-sync up` to play on; where none runs, one is started there for the demo.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end, and no progress.")
@click.pass_context
def demo(
    ctx: click.Context, days: int, stores: int, tills: int, baskets: int | None, seed: int, home_path: Path, as_json: bool
) -> None:
    """Play trading days of a real retailer through the public API and plain SQL.

    Each store is a company with tills as devices, each basket a posted sale. Prices are changed by SQL, one till is offline for a
    day, an answer is lost. At the end every device is compared with what SELECT gives; exit code 3 where one differs.
    """
    started = time.monotonic()
    books = Retailer.load().books(stores=stores, days=days, seed=seed, baskets_max=baskets)
    outcome = _play(Home(home_path), books, tills, is_quiet=as_json)
    told = summary(outcome, time.monotonic() - started)
    if as_json:
        print_json(told)
    else:
        print_summary(console(), told)
    ctx.exit(DONE if outcome.is_equal else DIFFERENCES)


def _play(home: Home, books: list[StoreBook], tills: int, *, is_quiet: bool) -> Outcome:
    columns = (TextColumn("store {task.fields[store]}"), BarColumn(), MofNCompleteColumn(), TextColumn("baskets"))
    screen = Console(file=sys.stderr, highlight=False, quiet=is_quiet)
    progress = Progress(*columns, TimeElapsedColumn(), TextColumn("{task.fields[doing]}"), console=screen)

    def bar(book: StoreBook) -> _Bar:
        return _Bar(progress, progress.add_task("", total=len(book.baskets), store=book.store_id, doing="opening"))

    with running_server(home, lambda text: click.echo(f"matrix-sync: {text}", err=True)) as server, progress:
        return play(server, books, tills, bar)
