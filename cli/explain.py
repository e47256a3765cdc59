"""`matrix-sync explain TABLE ID`: what happened to a record, when, by whom, and what each change changed."""

from __future__ import annotations

from typing import Any

import click
import orjson
from rich.console import Console
from rich.text import Text

from cdc.history import Line, read_history
from cli.output import (
    DONE,
    FAILED,
    MASKED,
    OPERATION_STYLES,
    Command,
    changed_values,
    console,
    one_line,
    print_json,
    printable,
    sealed_option,
    session,
    shown,
)
from schema.settings import Settings
from schema.tables import TABLES

_ORIGIN = ("user_id", "user_name", "login_id", "request_id", "push_id")


@click.command(cls=Command)
@click.argument("table", type=click.Choice(list(TABLES)), metavar="TABLE")
@click.argument("record_id", type=click.IntRange(min=1), metavar="ID")
@click.option("--company", type=click.IntRange(min=1), metavar="N", help="Only what this company's devices were told.")
@click.option("--limit", type=click.IntRange(min=1), default=1000, show_default=True, help="The newest changes, at most.")
@sealed_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line, one for each change.")
@click.pass_context
def explain(ctx: click.Context, table: str, record_id: int, company: int | None, limit: int, sealed: bool, as_json: bool) -> None:
    """Print a record's history, oldest change first.

    A record that moved to another company has a history in both. Exit code 1 where the change log has none.
    """
    settings = Settings.load()
    with session(settings.operator()) as connection:
        lines = read_history(connection, table, record_id, company_id=company, changes_max=limit)
    if not lines:
        where = f" for company {company}" if company else ""
        click.echo(f"matrix-sync: the change log has nothing of {table} {record_id}{where}", err=True)
    for line in lines:
        if as_json:
            for change in _told(line, sealed=sealed):
                print_json({"table": table, "record_id": record_id, **change})
        else:
            _print(console(), table, record_id, line, sealed=sealed)
    ctx.exit(DONE if lines else FAILED)


def _told(line: Line, *, sealed: bool) -> list[dict[str, Any]]:
    """The changes as JSON objects: `changed` maps each column to its values before and after."""
    told = []
    previous: dict[str, Any] = {}
    for change in line.changes:
        restricted = orjson.loads(change["sealed"] or "{}")
        changed = {
            name: {"before": before, "after": after}
            for name, before, after in _changed(change, previous, restricted, sealed=sealed)
        }
        previous = restricted
        out = {name: value for name, value in change.items() if name not in ("data", "sealed", "before", "statement", *_ORIGIN)}
        told.append(
            {
                **out,
                **{name: change[name] for name in _ORIGIN if change[name] is not None},
                "is_exact": bool(change["is_exact"]),
                "statement": _statement(change, sealed=sealed),
                "changed": changed,
                "data": orjson.Fragment(change["data"]),
                **({"sealed": restricted} if sealed and restricted else {}),
            }
        )
    return told


def _print(out: Console, table: str, record_id: int, line: Line, *, sealed: bool) -> None:
    state = "deleted" if line.is_deleted else "live"
    out.print(Text(f"{table} {record_id} in company {line.company_id}, {state}", style="bold"))
    if line.is_broken_at is not None:
        missing = f"  version {line.is_broken_at} is missing: `matrix-sync replay` can put it back; what was before it is not shown"
        out.print(Text(missing, style="red"))
    if line.is_pruned_at is not None:
        out.print(Text(f"  version {line.is_pruned_at} and what was before it was pruned by retention", style="dim"))
    previous: dict[str, Any] = {}
    for change in line.changes:
        restricted = orjson.loads(change["sealed"] or "{}")
        operation = change["operation"]
        out.print(
            Text.assemble(
                (f"  {change['version']}", "cyan"),
                f"  {change['timestamp']}  ",
                (f"{operation:6}", OPERATION_STYLES[operation]),
                "  ",
                (_who(change), "magenta"),
            )
        )
        statement = _statement(change, sealed=sealed)
        if statement:
            out.print(Text(f"      {one_line(statement)}", style="dim"))
        for text in _values(change, previous, restricted, sealed=sealed):
            out.print(Text("      ").append_text(text))
        previous = restricted


def _values(change: dict[str, Any], previous: dict[str, Any], restricted: dict[str, Any], *, sealed: bool) -> list[Text]:
    """Each column that changed, or the whole row where there was none before."""
    changed = _changed(change, previous, restricted, sealed=sealed)
    if change["prev_version"] is not None and changed:
        before = {name: value for name, value, _ in changed}
        return list(changed_values(before, {name: value for name, _, value in changed}))
    lines = [Text(printable(change["data"]))]
    if restricted:
        lines.append(Text(f"restricted: {shown(restricted) if sealed else MASKED}", style="dim"))
    return lines


def _changed(
    change: dict[str, Any], previous: dict[str, Any], restricted: dict[str, Any], *, sealed: bool
) -> list[tuple[str, Any, Any]]:
    """(column, before, after): public columns as the change keeps them, restricted ones against the change before."""
    data = orjson.loads(change["data"])
    changed = [(name, value, data.get(name)) for name, value in orjson.loads(change["before"] or "{}").items()]
    for name, value in restricted.items():
        if name in previous and previous[name] != value:
            changed.append((name, previous[name], value) if sealed else (name, MASKED, MASKED))
    return changed


def _statement(change: dict[str, Any], *, sealed: bool) -> str | None:
    """The SQL text, which may hold what the restricted columns hold."""
    text: str | None = change["statement"]
    return MASKED if text and change["sealed"] and not sealed else text


def _who(change: dict[str, Any]) -> str:
    if change["origin"] == "external" or change["request_id"] is None:
        place = f"{change['binlog_file']}:{change['binlog_pos']}" if change["gtid"] else "its transaction is not recorded"
        return f"{change['origin']}, {change['gtid'] or ''} server {change['server_id']} {place}"
    user = change["user_id"]
    told = [
        ("device", change["origin_device_id"]),
        ("user", f"{user} ({change['user_name']})" if change["user_name"] else user),
        ("login", change["login_id"] if user is None else None),
        ("request", change["request_id"]),
        ("push", change["push_id"]),
    ]
    return ", ".join([change["origin"], *(f"{word} {printable(str(value))}" for word, value in told if value is not None)])
