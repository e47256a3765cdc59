"""`matrix-sync conflicts list|rejected|show|resolve`: what devices pushed and did not take effect, for operators."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click
import orjson
import pymysql
from rich.table import Table as Sheet
from rich.text import Text

from api.db import Database, Session
from api.origins import open_origin
from api.rejected import list_rejected
from api.resolution import resolve_conflict
from api.scope import operator_scope
from cli.output import Command, changed_values, console, one_line, print_json, printable, session
from schema.changes import OriginKind
from schema.errors import StartError
from schema.settings import Settings
from schema.tables import TABLES

_LIST = """
SELECT id, company_id, device_id, user_id, table_name, record_id, local_id, operation, type, code, status, resolution, created_at
FROM sync_conflicts WHERE status = %s AND (%s IS NULL OR company_id = %s) ORDER BY id LIMIT %s
"""
_SHOW = "SELECT * FROM sync_conflicts WHERE id = %s"
_HIDDEN = frozenset({"fingerprint"})
_SIDES = ("base", "client", "server")
T = TypeVar("T")

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")


@click.group()
def conflicts() -> None:
    """List, show and resolve conflicts, and list what was rejected."""


@conflicts.command("list", cls=Command)
@click.option("--company", type=int, help="Of this company only.")
@click.option("--resolved", is_flag=True, help="Those that were resolved, instead of the open ones.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True)
@json_option
def list_(company: int | None, resolved: bool, limit: int, as_json: bool) -> None:
    """Print conflicts, oldest first."""
    params = ("resolved" if resolved else "open", company, company, limit)
    rows = _read(_LIST, params)
    if as_json:
        for row in rows:
            print_json(row)
        return
    sheet = Sheet(box=None, pad_edge=False)
    for name in ("id", "company", "device", "table", "record", "operation", "type", "code", "since"):
        sheet.add_column(name, no_wrap=True)
    names = ("id", "company_id", "device_id", "table_name", "record_id", "operation", "type", "code", "created_at")
    for row in rows:
        sheet.add_row(*(Text(printable(str(row[name] if row[name] is not None else "–"))) for name in names))
    console().print(sheet if rows else Text("no conflicts"))


@conflicts.command(cls=Command)
@click.option("--company", type=int, required=True, help="Of this company.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True)
@json_option
def rejected(company: int, limit: int, as_json: bool) -> None:
    """Print what devices pushed and was rejected, and not mended since, oldest first."""
    rows = asyncio.run(_with_database(lambda session: list_rejected(session, company, None, 0, limit)))
    if as_json:
        for row in rows:
            print_json(row)
        return
    sheet = Sheet(box=None, pad_edge=False)
    names = ("id", "device_id", "table", "local_id", "operation", "code", "attempts")
    for name in ("id", "device", "table", "local id", "operation", "code", "tries"):
        sheet.add_column(name, overflow="fold", no_wrap=name in ("id", "code", "tries"))
    for row in rows:
        sheet.add_row(*(Text(printable(str(row[name] if row[name] is not None else "–"))) for name in names))
    console().print(sheet if rows else Text("nothing was rejected"))


@conflicts.command(cls=Command)
@click.argument("conflict_id", type=int)
@click.option("--sealed", is_flag=True, help="Show restricted columns too.")
@json_option
def show(conflict_id: int, sealed: bool, as_json: bool) -> None:
    """Print one conflict: what the device believed, what it sent, and the row that stood against it."""
    told = _told(_one(conflict_id), sealed=sealed)
    if as_json:
        print_json(told)
        return
    out = console()
    for name, value in told.items():
        if name not in _SIDES:
            out.print(Text.assemble((f"{name:15}", "bold"), "–" if value is None else one_line(str(value))))
    for name, other in (("base → device", "client"), ("base → server", "server")):
        out.print(Text(name, style="bold"))
        base, side = told["base"] or {}, told[other] or {}
        for line in changed_values({column: base.get(column) for column in side if base.get(column) != side[column]}, side):
            out.print(Text("  ") + line)


@conflicts.command(cls=Command)
@click.argument("conflict_id", type=int)
@click.option(
    "--choice", type=click.Choice(["server", "client"]), required=True, help="Keep the row, or write what the device sent."
)
@click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")
@json_option
def resolve(conflict_id: int, choice: str, dry_run: bool, as_json: bool) -> None:
    """Resolve one conflict as an operator; the accounting rules hold here too. The first resolution wins."""
    row = _one(conflict_id)
    if dry_run:
        told = {
            "conflict_id": conflict_id,
            "choice": choice,
            "would_write": _told(row, sealed=False)["client"] if choice == "client" else None,
        }
    else:
        told = asyncio.run(_resolve(row["company_id"], conflict_id, choice))
    if as_json:
        print_json(told)
        return
    for name, value in told.items():
        console().print(Text.assemble((f"{name:17}", "bold"), one_line(orjson.dumps(value, default=str).decode())))


async def _resolve(company_id: int, conflict_id: int, choice: str) -> dict[str, Any]:
    scope = operator_scope(company_id)

    async def origin(session: Session) -> int:
        return await open_origin(session, kind=OriginKind.SYSTEM, scope=scope, request_id=f"cli-{secrets.token_hex(6)}")

    async def work(session: Session) -> dict[str, Any]:
        return (await resolve_conflict(session, scope, conflict_id, choice, None, origin))[1]

    return await _with_database(work)


async def _with_database(work: Callable[[Session], Awaitable[T]]) -> T:
    """Run work as the API's account, in one transaction."""
    settings = Settings.load()
    database = Database(settings.api(), pool_size=1, wait_ms_max=settings.mysql_pool_wait_ms_max)
    try:
        return await database.run(work, attempts=settings.push_attempts_max)
    finally:
        await database.close()


def _read(sql: str, params: tuple[Any, ...]) -> list[dict[str, Any]]:
    with session(Settings.load().operator()) as connection, connection.cursor(pymysql.cursors.DictCursor) as cursor:
        cursor.execute(sql, params)
        return list(cursor.fetchall())


def _one(conflict_id: int) -> dict[str, Any]:
    rows = _read(_SHOW, (conflict_id,))
    if not rows:
        raise StartError(
            "not_found", f"there is no conflict {conflict_id}", hint="`matrix-sync conflicts list` names those there are"
        )
    return rows[0]


def _told(row: dict[str, Any], *, sealed: bool) -> dict[str, Any]:
    told = {name: value for name, value in row.items() if name not in _HIDDEN}
    hidden = {column.name for column in TABLES[row["table_name"]].restricted} if not sealed else set()
    for name in _SIDES:
        values = orjson.loads(row[name]) if row[name] else None
        told[name] = {column: value for column, value in values.items() if column not in hidden} if values is not None else None
    told["fields"] = orjson.loads(row["fields"]) if row["fields"] else []
    return told
