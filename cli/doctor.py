"""`matrix-sync doctor`: everything that is wrong, at once, each with its remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import click
from rich.table import Table
from rich.text import Text

from cdc.findings import Finding, Level
from cli.books import examine_books
from cli.checkup import examine
from cli.output import DIFFERENCES, DONE, FAILED, Command, console, print_json, printable, session
from schema.settings import Settings

_STYLES = {Level.FATAL: "bold red", Level.WARNING: "yellow", Level.OK: "green"}
_ORDER = list(_STYLES)


@click.command(cls=Command)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: the findings, and whether none is fatal.")
@click.option("--books", is_flag=True, help="Check the books instead: what plain SQL wrote against the accounting rules.")
@click.pass_context
def doctor(ctx: click.Context, as_json: bool, books: bool) -> None:
    """Check settings, MySQL, accounts, schema, Redis and the tailer. Changes nothing.

    Exit code 1 where a finding is fatal, 3 where the books break a rule.
    """
    settings = Settings.load()
    if books:
        with session(settings.operator()) as connection:
            findings = list(examine_books(connection))
    else:
        findings = sorted(examine(settings), key=lambda finding: _ORDER.index(finding.level))
    is_ok = all(finding.level is not Level.FATAL for finding in findings)
    if as_json:
        print_json({"ok": is_ok, "findings": [asdict(finding) for finding in findings]})
    else:
        _print(findings)
    has_breaches = books and any(finding.level is not Level.OK for finding in findings)
    ctx.exit(DIFFERENCES if has_breaches else DONE if is_ok else FAILED)


def _print(findings: Sequence[Finding]) -> None:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        text = Text(printable(finding.message))
        if finding.remedy:
            text.append(f"\n→ {printable(finding.remedy)}", style="cyan")
        table.add_row(Text(finding.level.value, style=_STYLES[finding.level]), text)
    out = console()
    out.print(table)
    counts = [f"{sum(f.level is level for f in findings)} {level.value}" for level in _ORDER]
    out.print(Text(", ".join(counts), style="bold"))
