"""What all commands share on their way out: rich text for people, JSON for programs, one message for an error, exit codes."""

from __future__ import annotations

import getpass
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
import orjson
import pymysql
from pymysql.connections import Connection
from rich.console import Console
from rich.text import Text

from schema.connect import ACCESS_DENIED, UNKNOWN_DATABASE, open_connection
from schema.errors import Halt, MatrixError, StartError
from schema.settings import MySQLAddress

DONE, FAILED, USAGE, DIFFERENCES = 0, 1, 2, 3
"""Exit codes: done, failed, wrong usage, and halted or differences found."""

OPERATION_STYLES = {"INSERT": "green", "UPDATE": "yellow", "DELETE": "red"}
MASKED = "•••"

from_option = click.option(
    "--from", "start", metavar="PLACE", required=True, help="start, FILE:POS, a GTID (included), or a GTID set (what it lacks)."
)
to_option = click.option(
    "--to", "end", metavar="PLACE", help="FILE:POS (not included) or a GTID (included).  [default: the binlog's end]"
)
sealed_option = click.option("--sealed", is_flag=True, help="Show restricted columns too.")


class Command(click.Command):
    """A command whose errors come out as one message, or with --json as one JSON line on stderr, and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except MatrixError as problem:
            error = problem
        except pymysql.err.MySQLError as problem:
            error = StartError(
                "mysql_error", f"MySQL: {problem.args[-1] if problem.args else problem}", hint="run `matrix-sync doctor`"
            )
        print_error(error, as_json=bool(ctx.params.get("as_json")))
        return ctx.exit(DIFFERENCES if isinstance(error, Halt) else FAILED)


def print_error(problem: MatrixError, *, as_json: bool) -> None:
    """Say on stderr what is wrong, where, and what to do."""
    if as_json:
        line = {"code": problem.code, "message": problem.message, "hint": problem.hint, "details": problem.details}
        click.echo(orjson.dumps(line, default=str), err=True)
        return
    lines = ["matrix-sync: " + printable(problem.message, keep="\n")]
    details = problem.details
    if details.get("gtid"):
        lines.append(f"  transaction  {details['gtid']}")
    if details.get("file"):
        lines.append(f"  position     {details['file']}:{details.get('pos')}")
    if details.get("checkpoint"):
        lines.append(f"  checkpoint   {details['checkpoint']}")
    if problem.hint:
        lines.append(f"  what to do   {problem.hint}")
    click.echo("\n".join(lines), err=True)


def print_json(value: Any) -> None:
    """One JSON line on stdout; texts that are JSON already go in as `orjson.Fragment`."""
    click.echo(orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS))


def console() -> Console:
    """Colours where stdout is a terminal, and lines as long as they are."""
    return Console(file=sys.stdout, soft_wrap=True, highlight=False, emoji=False, markup=False)


def printable(text: str, *, keep: str = "") -> str:
    """Text that cannot steer a terminal: control characters and marks that reorder a line come out as escapes."""
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def shown(value: Any) -> str:
    """A wire value as JSON, safe to print."""
    return printable(orjson.dumps(value).decode())


def one_line(statement: str, length_max: int = 200) -> str:
    """An SQL text on one line, cut where it is long."""
    text = printable(re.sub(r"\s+", " ", statement).strip())
    return text if len(text) <= length_max else f"{text[:length_max]}…"


def changed_values(before: dict[str, Any], after: dict[str, Any]) -> Iterator[Text]:
    """`column: before → after` for each column of `before`."""
    for name, value in before.items():
        yield Text.assemble((f"{name}: ", "bold"), (shown(value), "red"), " → ", (shown(after.get(name)), "green"))


@contextmanager
def session(address: MySQLAddress, **more: Any) -> Iterator[Connection[Any]]:
    """A connection for one command. Raises StartError where MySQL does not let us in."""
    try:
        connection = open_connection(address, **more)
    except pymysql.err.MySQLError as problem:
        raise connect_error(problem, address) from problem
    with connection:
        yield connection


def connect_error(problem: pymysql.err.MySQLError, address: MySQLAddress) -> StartError:
    """What it means that a connection could not be opened."""
    number = problem.args[0] if problem.args else 0
    if number == ACCESS_DENIED:
        return StartError(
            "access_denied",
            f"MySQL refuses {address.user}: wrong password",
            hint="mend its URL in the settings, or run `matrix-sync migrate`",
        )
    if number == UNKNOWN_DATABASE:
        return StartError("no_database", f"there is no database {address.database}", hint="run `matrix-sync migrate`")
    where = address.socket or f"{address.host}:{address.port}"
    return StartError(
        "mysql_unreachable",
        f"MySQL at {where} does not answer: {problem.args[-1] if problem.args else problem}",
        hint="start it, or mend its URL in the settings",
    )


def actor() -> str:
    """Who runs this command, for sync_audit: user and machine."""
    return f"{getpass.getuser()}@{socket.gethostname()}"
