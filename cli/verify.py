"""`matrix-sync verify`: compares the change log with the tables, online, or walks its hashes; how differences of rows are shown."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

import click
import orjson
from rich.console import Console
from rich.text import Text

from cdc.chain_check import Anchor
from cdc.row_differences import Kind, RowDifference
from cdc.verify import Summary, Verification
from cli.output import (
    DIFFERENCES,
    DONE,
    MASKED,
    Command,
    console,
    print_json,
    printable,
    sealed_option,
    session,
)
from cli.verify_chain import verify_chain
from schema.settings import Settings
from schema.tables import TABLES

table_option = click.option(
    "--table", "tables", type=click.Choice(list(TABLES)), metavar="TABLE", multiple=True, help="Only this one; may be repeated."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
_STYLES = {Kind.MISSING_IN_LOG: "red", Kind.MISSING_IN_TABLE: "magenta", Kind.DIFFERS: "yellow"}
_WORDS = {Kind.MISSING_IN_LOG: "missing in log", Kind.MISSING_IN_TABLE: "missing in table", Kind.DIFFERS: "differs"}
_VALUE_CHARACTERS_MAX = 2000


@click.command(cls=Command)
@table_option
@click.option("--chain", is_flag=True, help="Walk the chain of hashes over the change log instead.")
@click.option("--anchor", "anchors", multiple=True, metavar="VERSION:HASH", help="A hash that an earlier run printed.")
@sealed_option
@json_option
@click.pass_context
def verify(ctx: click.Context, tables: Sequence[str], chain: bool, anchors: tuple[str, ...], sealed: bool, as_json: bool) -> None:
    """Compare the newest image of every record in the change log with the row in its table.

    Writes nothing and locks nothing; others may write meanwhile, and the tailer may be behind or stopped: what it has not read yet
    is no difference. `matrix-sync reconcile` ends what is found.

    --chain makes every hash again, from the first change to the head. It finds changes that were edited, deleted or swapped, and a
    tail that was cut. Somebody who wrote all hashes anew is found by the witness, which the tailer keeps in SYNC_STATE_DIR and in
    Redis; it says which it found. Each run prints the hash at the head: keep that elsewhere, and give it to a later run as an
    --anchor, which whoever can write to all three cannot change.

    Exit codes: 0 all is as it must be; 3 it is not.
    """
    if anchors and not chain:
        raise click.UsageError("--anchor goes with --chain")
    if not chain:
        ctx.exit(report_differences(Settings.load(), tables, sealed=sealed, as_json=as_json))
    if tables:
        raise click.UsageError("--chain walks the whole change log: leave --table out")
    is_sound = verify_chain(Settings.load(), [_anchor(text) for text in anchors], as_json=as_json)
    ctx.exit(DONE if is_sound else DIFFERENCES)


def _anchor(text: str) -> Anchor:
    try:
        return Anchor.parse(text)
    except ValueError:
        raise click.BadParameter("an anchor is VERSION:HASH, as this command prints it", param_hint="--anchor") from None


def report_differences(
    settings: Settings, tables: Sequence[str], *, sealed: bool, as_json: bool, kinds: Collection[Kind] = tuple(Kind)
) -> int:
    """Print the differences of these kinds, and a summary. Returns the exit code."""
    address = settings.operator()
    reporter = _Reporter(console(), sealed=sealed, as_json=as_json)
    wanted = [table for table in TABLES.values() if not tables or table.name in tables]
    with ExitStack() as stack:
        connection = stack.enter_context(session(address))
        waiting = stack.enter_context(Console(stderr=True).status("verifying"))
        run = Verification(
            connection, address, wanted, lambda table, rows: waiting.update(f"verifying {table}, {rows:,} rows so far")
        )
        shown = 0
        for difference in run.run():
            if difference.kind in kinds:
                shown += 1
                reporter.show(difference)
    run.summary.differences = shown
    reporter.end(run.summary)
    return DIFFERENCES if shown else DONE


class _Reporter:
    def __init__(self, out: Console, *, sealed: bool, as_json: bool) -> None:
        self._out = out
        self._sealed = sealed
        self._as_json = as_json

    def show(self, difference: RowDifference) -> None:
        columns = self._columns(difference) if difference.kind is Kind.DIFFERS else {}
        where = {
            "table": difference.table,
            "record_id": difference.record_id,
            "company_id": difference.company_id,
            "version": difference.known.version if difference.known else None,
        }
        if self._as_json:
            told = {name: {"log": _fragment(old), "table": _fragment(new)} for name, (old, new) in columns.items()}
            print_json({"type": "difference", "kind": difference.kind.value, **where, "columns": told})
            return
        named = f"{difference.table} {difference.record_id}  company {difference.company_id}"
        version = f"  version {difference.known.version}" if difference.known else ""
        self._out.print(Text.assemble((f"{_WORDS[difference.kind]:17}", _STYLES[difference.kind]), f"{named}{version}"))
        for name, (old, new) in columns.items():
            self._out.print(Text.assemble(f"                 {name}: ", (_value(old), "red"), " ≠ ", (_value(new), "green")))

    def end(self, summary: Summary) -> None:
        if self._as_json:
            print_json({"type": "summary", **asdict(summary)})
            return
        found = f"{summary.differences} differences" if summary.differences else "no differences"
        text = f"{summary.rows} rows of {summary.tables} tables compared: {found}"
        self._out.print(Text(text, style="red" if summary.differences else "green"))
        if summary.undecided:
            note = f"{summary.undecided} records are touched by transactions that the change log does not have yet"
            self._out.print(Text(note, style="dim"))
        if summary.unreadable:
            note = f"the binlog after the checkpoint cannot be read, so some may be of transactions to come: {summary.unreadable}"
            self._out.print(Text(note, style="dim"))

    def _columns(self, difference: RowDifference) -> dict[str, tuple[str | None, str | None]]:
        restricted = difference.columns(sealed=True)
        if not self._sealed:
            masked = orjson.dumps(MASKED).decode()
            restricted = dict.fromkeys(restricted, (masked, masked))
        return {**difference.columns(), **restricted}


def _fragment(text: str | None) -> Any:
    return None if text is None else orjson.Fragment(text.encode())


def _value(text: str | None) -> str:
    shown = "–" if text is None else printable(text)
    return shown if len(shown) <= _VALUE_CHARACTERS_MAX else f"{shown[:_VALUE_CHARACTERS_MAX]}…"
