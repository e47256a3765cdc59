"""`matrix-sync reconcile` and `snapshot`: ask the tailer to make the change log agree with the tables, and follow it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import click
from pymysql.connections import Connection
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from cdc.row_differences import Kind
from cdc.runs import Run, RunKind, RunState, end_run, read_open_run, read_run, request_run
from cdc.status import read_tailer_status
from cli.output import FAILED, Command, actor, print_json, sealed_option, session
from cli.verify import json_option, report_differences, table_option
from schema.errors import StartError
from schema.settings import Settings
from schema.tables import TABLES

POLL_SECONDS = 0.2
TAILER_AWAY_SECONDS = 20.0
"""How long a run waits for a tailer before it is left to the next one: a standby takes over in less."""


@click.command(cls=Command)
@table_option
@click.option("--dry-run", is_flag=True, help="Name the differences as `verify` does, and write nothing.")
@click.option("--cancel", is_flag=True, help="End the run that is open; what it has done stays.")
@sealed_option
@json_option
@click.pass_context
def reconcile(ctx: click.Context, tables: Sequence[str], dry_run: bool, cancel: bool, sealed: bool, as_json: bool) -> None:
    """Make the change log agree with the tables: rows it lacks, rows that are gone, rows that are other than it says.

    After a TRUNCATE, an ALTER that rewrote values, writes with sql_log_bin off, or a binlog that was purged unread. The running
    tailer does it, range by range, while others write; each difference becomes a change with origin reconcile. Ctrl-C leaves the
    run to the tailer; the same command again follows it.

    Exit codes: 0 done; 3 a dry run found differences; 1 the run failed, was cancelled, or no tailer runs.
    """
    settings = Settings.load()
    if cancel:
        _cancel(settings, as_json=as_json)
    elif dry_run:
        ctx.exit(report_differences(settings, tables, sealed=sealed, as_json=as_json))
    else:
        ctx.exit(_run(settings, RunKind.RECONCILE, tables, as_json=as_json))


@click.command(cls=Command)
@table_option
@click.option("--dry-run", is_flag=True, help="Name the rows that the change log does not know, and write nothing.")
@sealed_option
@json_option
@click.pass_context
def snapshot(ctx: click.Context, tables: Sequence[str], dry_run: bool, sealed: bool, as_json: bool) -> None:
    """Bring rows into the change log of which it knows nothing: each becomes an INSERT with origin reconcile.

    For a first start on rows whose binlog is gone, or that were written without one. Rows that it knows are not looked at; that is
    `matrix-sync reconcile`, which is also what cancels a run.

    Exit codes: 0 done; 3 a dry run found such rows; 1 the run failed, was cancelled, or no tailer runs.
    """
    settings = Settings.load()
    if dry_run:
        ctx.exit(report_differences(settings, tables, sealed=sealed, as_json=as_json, kinds=(Kind.MISSING_IN_LOG,)))
    ctx.exit(_run(settings, RunKind.SNAPSHOT, tables, as_json=as_json))


def _cancel(settings: Settings, *, as_json: bool) -> None:
    with session(settings.operator()) as connection:
        run = read_open_run(connection)
        connection.begin()
        if run is None or not end_run(connection, run, RunState.CANCELLED, actor()):
            raise StartError("no_run", "no run is open", hint="`matrix-sync reconcile` opens one")
        connection.commit()
        ended = read_run(connection, run.run)
    _tell(ended or run, as_json=as_json)


def _run(settings: Settings, kind: RunKind, tables: Sequence[str], *, as_json: bool) -> int:
    address = settings.operator()
    wanted = [name for name in TABLES if not tables or name in tables]
    with session(address) as connection:
        run = read_open_run(connection)
        if run is None:
            _require_tailer(connection, address.database)
            run = request_run(connection, kind, wanted, actor())
        elif (run.kind, list(run.tables)) != (kind, wanted):
            raise StartError(
                "run_open",
                f"a {run.kind.value} of {', '.join(run.tables)} is open since {run.requested_at} UTC, from {run.requested_by}",
                hint="wait for its end, or end it with `matrix-sync reconcile --cancel`",
            )
        try:
            run = _follow(connection, address.database, run, is_shown=not as_json)
        except KeyboardInterrupt:
            click.echo(f"the tailer goes on with run {run.name}; `matrix-sync reconcile --cancel` ends it", err=True)
            return FAILED
    _tell(run, as_json=as_json)
    if run.state is RunState.FAILED:
        raise StartError(
            "run_failed", f"the run ended at {run.table} {run.next_id}: {run.problem}", hint="mend it, and run it again"
        )
    return 0 if run.state is RunState.DONE else FAILED


def _follow(connection: Connection[Any], database: str, run: Run, *, is_shown: bool) -> Run:
    """Show the run until it is over. Raises StartError `no_tailer` where nobody works on it any more."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} tables"),
        TimeElapsedColumn(),
    )
    away_since: float | None = None
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not is_shown) as progress:
        task = progress.add_task(run.kind.value, total=len(run.tables))
        while run.state is RunState.OPEN:
            time.sleep(POLL_SECONDS)
            run = read_run(connection, run.run) or run
            done = run.tables.index(run.table)
            text = f"{run.kind.value} {run.table}: {run.counts.rows_read:,} rows read, {run.counts.changes:,} changes"
            progress.update(task, completed=done, description=text)
            if read_tailer_status(connection, database).holder is not None:
                away_since = None
                continue
            away_since = away_since or time.monotonic()
            if time.monotonic() - away_since > TAILER_AWAY_SECONDS and run.state is RunState.OPEN:
                raise StartError(
                    "no_tailer",
                    f"the tailer ended; run {run.name} is open, and the next tailer goes on with it",
                    hint="start `matrix-sync tail`; it says why it ended",
                )
    return run


def _require_tailer(connection: Connection[Any], database: str) -> None:
    if read_tailer_status(connection, database).holder is None:
        raise StartError(
            "no_tailer", "no tailer runs, and it alone gives versions", hint="start `matrix-sync tail`, then run this again"
        )


def _tell(run: Run, *, as_json: bool) -> None:
    counts = run.counts
    if as_json:
        print_json(
            {
                "type": "summary",
                "run": run.name,
                "kind": run.kind.value,
                "state": run.state.value,
                "tables": list(run.tables),
                "rows": counts.rows_read,
                "inserted": counts.inserted,
                "updated": counts.updated,
                "deleted": counts.deleted,
                "problem": run.problem,
            }
        )
        return
    changes = (
        f"{counts.inserted} inserted, {counts.updated} updated, {counts.deleted} deleted" if counts.changes else "no differences"
    )
    click.echo(f"{run.kind.value} {run.state.value}: {counts.rows_read} rows of {len(run.tables)} tables read, {changes}")
