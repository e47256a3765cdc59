"""`matrix-sync simulate`: the load test, the demo and the soak test of many devices."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click
from rich.console import Console

from cli.demo.retailer import Retailer
from cli.demo.server import running_server
from cli.home import Home, home_option
from cli.output import DIFFERENCES, DONE, Command, console, print_json
from cli.simulation.plan import Load
from cli.simulation.play import simulate as play
from cli.simulation.report import print_summary, summary
from cli.simulation.run import Run
from cli.simulation.screen import Screen

ABORTED = 130
_MINUTE_S = 60


@click.command(cls=Command)
@click.option("--companies", type=click.IntRange(1, 200), default=2, show_default=True, help="Each sells what some stores sold.")
@click.option("--devices", type=click.IntRange(1, 500), default=5, show_default=True, help="Devices of each company.")
@click.option(
    "--rate",
    type=click.FloatRange(0, 10_000, min_open=True),
    default=5,
    show_default=True,
    help="Sales and edits a second, over all devices. A sale is about 30 rows.",
)
@click.option(
    "--sql-rate",
    type=click.FloatRange(0, 100_000),
    default=20,
    show_default=True,
    help="Rows a second that SQL clients write, over all companies.",
)
@click.option("--minutes", type=click.FloatRange(0, 60 * 24 * 30, min_open=True), default=1, show_default=True, help="How long.")
@click.option(
    "--sync-every",
    type=click.FloatRange(0, 3600, min_open=True),
    default=2,
    show_default=True,
    help="Seconds between two syncs of a device that is online.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Chooses who does what and when, and who is offline.")
@home_option("The home of the `matrix-sync up` to load; where none runs, one is started there meanwhile.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end, and no progress.")
@click.pass_context
def simulate(
    ctx: click.Context, companies: int, devices: int, rate: float, sql_rate: float, minutes: float, sync_every: float, seed: int,
    home_path: Path, as_json: bool,
) -> None:  # fmt: skip
    """Load a running server with many devices, and compare each with MySQL at the end.

    Devices sell a real retailer's baskets and edit the same records, go offline and come back, and lose answers; SQL clients
    write beside them. Ctrl-C ends the load, and what was done is still compared; a second Ctrl-C ends all. Exit code 3 where a
    device differs from MySQL, or a sale is lost. The whole year, all 1.5 million lines, is played if the load is large enough.
    """
    load = Load(companies, devices, rate, sql_rate, minutes * _MINUTE_S, sync_every, seed)
    try:
        run = _simulate(Home(home_path), load, is_quiet=as_json)
    except KeyboardInterrupt:
        click.echo("matrix-sync: aborted, nothing was compared", err=True)
        os._exit(ABORTED)  # without waiting for a thread that may wait for MySQL
    told = summary(run)
    if as_json:
        print_json(told)
    else:
        print_summary(console(), told)
    ctx.exit(DONE if run.verdict.is_good else DIFFERENCES)


def _simulate(home: Home, load: Load, *, is_quiet: bool) -> Run:
    screen = Screen(Console(file=sys.stderr, highlight=False, quiet=is_quiet), load.seconds)
    with screen:
        screen.say("reading the books")
        regions = Retailer.load().regions(load.companies, load.baskets, load.seed)
        with running_server(home, lambda text: click.echo(f"matrix-sync: {text}", err=True)) as server:
            return play(server, load, regions, screen)
