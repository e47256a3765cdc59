"""`matrix-sync retention`: prunes old history now, as the tailer does by itself when it is idle."""

from __future__ import annotations

import re
import time
from dataclasses import asdict
from typing import Any

import click
import orjson
import pymysql
from pymysql.connections import Connection

from cdc.retention import LOCKED, Cutoffs, Retention, read_cutoffs
from cli.output import Command, actor, print_json, session
from schema.errors import StartError
from schema.settings import Settings

DAY_SECONDS = 24 * 3600
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": DAY_SECONDS}
_ATTEMPTS_MAX = 100
_PAUSE_SECONDS = 0.1
_LOCK_ERRORS = (1205, 1213, LOCKED)
_READ_COMMITTED = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"
_AUDIT = "INSERT INTO sync_audit (actor, action, details) VALUES (%s, 'pruned', %s)"


class _Age(click.ParamType[int, str]):
    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Seconds of `90d`, `36h`, `10m` or `30s`."""
        found = re.fullmatch(r"(\d{1,9})([smhd])", str(value))
        if found is None:
            self.fail("an age is a number and a unit: 90d, 36h, 10m, 30s", param, ctx)
        return int(found[1]) * _UNITS[found[2]]


@click.command(cls=Command)
@click.option("--older-than", type=_Age(), metavar="AGE", help="Prune history that was superseded longer ago, such as 30d.")
@click.option("--tombstones-older-than", type=_Age(), metavar="AGE", help="Prune deletions that are older.")
@click.option("--dry-run", is_flag=True, help="Count only; write nothing.")
@click.option("--force", is_flag=True, help="Prune also changes whose hash does not fit: what shows who altered them is gone then.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line.")
def retention(older_than: int | None, tombstones_older_than: int | None, dry_run: bool, force: bool, as_json: bool) -> None:
    """Prune old history of the change log, and tombstones that are older still.

    Without ages those of the settings count. The newest state of a record is never pruned. Where tombstones go, `min_version`
    rises: a device whose cursor is below it is told to start again. Safe beside a running tailer, and to run again.
    """
    settings = Settings.load()
    with session(settings.operator()) as connection:
        with connection.cursor() as cursor:
            cursor.execute(_READ_COMMITTED)
        cutoffs = _cutoffs(connection, settings, older_than, tombstones_older_than)
        run = Retention(connection, cutoffs, is_forced=force, is_dry=dry_run)
        while _step(run):
            pass
        if not dry_run and not run.counts.is_empty:
            with connection.cursor() as cursor:
                details = {**asdict(run.counts), "images_up_to": cutoffs.images, "tombstones_up_to": cutoffs.tombstones}
                cursor.execute(_AUDIT, (actor(), orjson.dumps({**details, "forced": force}).decode()))
            connection.commit()
    counts = run.counts
    if as_json:
        print_json({"dry_run": dry_run, **asdict(counts), "min_version": counts.min_version or None})
        return
    verb = "would be pruned" if dry_run else "pruned"
    click.echo(f"{verb}: {counts.images} images, {counts.tombstones} tombstones, {counts.redeliveries} redeliveries")
    if not dry_run:
        click.echo(f"and beside them {counts.pushes} pushes, {counts.txs} transactions")
    if counts.min_version:
        click.echo(f"min_version {counts.min_version}: devices with an older cursor start again")


def _cutoffs(connection: Connection[Any], settings: Settings, history: int | None, tombstones: int | None) -> Cutoffs:
    history = settings.retention_history_days * DAY_SECONDS or None if history is None else history
    tombstones = settings.retention_tombstone_days * DAY_SECONDS or None if tombstones is None else tombstones
    now_us = time.time_ns() // 1000
    before = [None if age is None else now_us - age * 1_000_000 for age in (history, tombstones)]
    return read_cutoffs(connection, history_before_us=before[0], tombstones_before_us=before[1])


def _step(run: Retention) -> bool:
    """One commit; again where somebody else had the lock, since the tailer goes first."""
    for _ in range(_ATTEMPTS_MAX):
        try:
            return run.step()
        except pymysql.err.MySQLError as problem:
            if problem.args[0] not in _LOCK_ERRORS:
                raise
        time.sleep(_PAUSE_SECONDS)
    raise StartError("retention_running", "somebody else prunes this database", hint="wait for it and try again")
