"""`matrix-sync replay`: compares a stretch of binlog with the change log, and puts back what is missing."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from cdc.differences import Difference, Kind
from cdc.repair import Repair, one_at_a_time
from cdc.replay import Replay, Summary
from cdc.span import resolve
from cli.output import (
    DIFFERENCES,
    DONE,
    MASKED,
    Command,
    actor,
    console,
    from_option,
    print_json,
    printable,
    sealed_option,
    session,
    to_option,
)
from schema.settings import Settings

_SEALED = ("sealed", "statement")
_STYLES = {Kind.MISSING: "red", Kind.DIFFERENT: "yellow", Kind.EXTRA: "magenta"}
_VALUE_CHARACTERS_MAX = 2000


@click.command(cls=Command)
@from_option
@to_option
@click.option("--dry-run", is_flag=True, help="Report only; write nothing.")
@sealed_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line: each difference, then a summary.")
@click.pass_context
def replay(ctx: click.Context, start: str, end: str | None, dry_run: bool, sealed: bool, as_json: bool) -> None:
    """Derive changes again from the binlog, and compare them with the change log.

    Without --dry-run, changes that are missing are put back with their old versions, byte for byte: only where the chain hash
    proves that they are as they were. Rows that differ, or are too many, are reported and not touched. Safe beside a running
    tailer, and to run again.

    Exit codes: 0 all is as it should be, also after repairs; 3 there are differences that remain.
    """
    settings = Settings.load()
    address = settings.operator()
    with ExitStack() as stack:
        connection = stack.enter_context(session(address))
        span = resolve(connection, address, start, end)
        repair = None
        if not dry_run:
            stack.enter_context(one_at_a_time(connection, address.database))
            repair = Repair(connection, actor(), {"from": start, "to": end})
        run = Replay(connection, address, settings, span, repair)
        reporter = _Reporter(console(), sealed=sealed, as_json=as_json)
        for difference in run.run():
            reporter.show(difference)
        if repair is not None:
            repair.finish()
        reporter.end(run.summary, is_dry=dry_run)
    ctx.exit(DONE if run.summary.differences == run.summary.restored else DIFFERENCES)


class _Reporter:
    def __init__(self, out: Console, *, sealed: bool, as_json: bool) -> None:
        self._out = out
        self._sealed = sealed
        self._as_json = as_json

    def show(self, difference: Difference) -> None:
        columns = {name: self._masked(name, pair) for name, pair in difference.columns.items()}
        if self._as_json:
            print_json(
                {
                    "type": "difference",
                    "kind": difference.kind.value,
                    "in": difference.log_table,
                    **difference.where,
                    "columns": {name: {"stored": stored, "derived": derived} for name, (stored, derived) in columns.items()},
                    "restored": difference.is_restored,
                    "note": difference.note,
                }
            )
            return
        where = "  ".join(f"{name} {printable(str(value))}" for name, value in difference.where.items() if value is not None)
        line = Text.assemble((f"{difference.kind.value:9}", _STYLES[difference.kind]), f" {difference.log_table}  {where}")
        if difference.is_restored:
            line.append("  restored", style="green")
        self._out.print(line)
        for name, (stored, derived) in columns.items():
            self._out.print(Text.assemble(f"          {name}: ", (_value(stored), "red"), " ≠ ", (_value(derived), "green")))
        if difference.note:
            self._out.print(Text(f"          {difference.note}", style="dim"))

    def end(self, summary: Summary, *, is_dry: bool) -> None:
        if self._as_json:
            print_json({"type": "summary", "dry_run": is_dry, **asdict(summary)})
            return
        left = summary.differences - summary.restored
        text = f"{summary.txs} transactions, {summary.changes} changes compared: "
        text += "no differences" if not summary.differences else f"{summary.differences} differences"
        if summary.restored:
            text += f", {summary.restored} restored, {left} left"
        self._out.print(Text(text, style="green" if not left else "red"))
        if summary.txs_outside:
            self._out.print(Text(f"{summary.txs_outside} transactions before the change log, skipped, or pruned", style="dim"))
        if summary.ahead:
            self._out.print(Text(f"the tailer has not reached {summary.ahead} yet; the comparison ended there", style="dim"))

    def _masked(self, name: str, pair: tuple[Any, Any]) -> tuple[Any, Any]:
        return pair if self._sealed or name not in _SEALED else (MASKED, MASKED)


def _value(value: Any) -> str:
    text = "NULL" if value is None else printable(str(value))
    return text if len(text) <= _VALUE_CHARACTERS_MAX else f"{text[:_VALUE_CHARACTERS_MAX]}…"
