"""`matrix-sync devices`: which devices there are, and what an owner asks for when one is lost, lent or handed on."""

from __future__ import annotations

from typing import Any

import click
import orjson
import pymysql
from pymysql.connections import Connection
from rich.table import Table as Sheet
from rich.text import Text

from cli.output import Command, actor, console, print_json, printable, session
from schema.errors import StartError
from schema.settings import Settings
from schema.tables import TABLES

_LIST = """
SELECT d.device_id, l.email, d.name, d.capabilities, d.revoked_at,
    (SELECT MAX(s.last_pull_at) FROM sync_deliveries s WHERE s.device_id = d.device_id) AS last_pull_at,
    (SELECT GROUP_CONCAT(c.code ORDER BY c.company_id SEPARATOR ' ') FROM document_codes c WHERE c.device_id = d.device_id)
        AS document_codes
FROM devices d JOIN logins l ON l.id = d.login_id
WHERE %s IS NULL OR EXISTS (SELECT 1 FROM users u WHERE u.login_id = d.login_id AND u.company_id = %s)
ORDER BY d.id LIMIT %s
"""
_LOCK = "SELECT capabilities, revoked_at FROM devices WHERE device_id = %s FOR UPDATE"
_NARROW = "UPDATE devices SET capabilities = %s WHERE device_id = %s"
_REVOKE = "UPDATE devices SET revoked_at = CURRENT_TIMESTAMP(6) WHERE device_id = %s"
_ADMIT = "UPDATE devices SET revoked_at = NULL WHERE device_id = %s"
_END_SESSIONS = "UPDATE sessions SET revoked_at = CURRENT_TIMESTAMP(6) WHERE device_id = %s AND revoked_at IS NULL"
_AUDIT = "INSERT INTO sync_audit (actor, action, details) VALUES (%s, %s, %s)"

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")


@click.group()
def devices() -> None:
    """List devices, narrow what one may do, revoke a lost one."""


@devices.command("list", cls=Command)
@click.option("--company", type=int, help="Of people who work for this company only.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=1000, show_default=True)
@json_option
def list_(company: int | None, limit: int, as_json: bool) -> None:
    """Print devices: whose, what they may do, when they pulled last."""
    with session(Settings.load().operator()) as connection, connection.cursor(pymysql.cursors.DictCursor) as cursor:
        cursor.execute(_LIST, (company, company, limit))
        rows = [{**row, "capabilities": _capabilities(row["capabilities"])} for row in cursor.fetchall()]
    if as_json:
        for row in rows:
            print_json(row)
        return
    sheet = Sheet(box=None, pad_edge=False)
    for name in ("device", "login", "name", "codes", "may", "last pull"):
        sheet.add_column(name, overflow="fold")
    for row in rows:
        may = "revoked" if row["revoked_at"] else _in_words(row["capabilities"])
        values = (row["device_id"], row["email"], row["name"], row["document_codes"], may, row["last_pull_at"])
        sheet.add_row(*(Text(printable(str(value if value is not None else "–"))) for value in values))
    console().print(sheet if rows else Text("no devices"))


@devices.command(cls=Command)
@click.argument("device_id")
@click.option("--tables", metavar="NAME,NAME", help="It may use these tables only.")
@click.option("--read-only", is_flag=True, help="It may pull and not push.")
@click.option("--all", "is_all", is_flag=True, help="It may do again what its user may.")
@json_option
def narrow(device_id: str, tables: str | None, read_only: bool, is_all: bool, as_json: bool) -> None:
    """Narrow a device to tables or to reading. What it loses stands in `revoked` of its next pulls; what it gains arrives whole."""
    if is_all == bool(tables or read_only):
        raise click.UsageError("say --tables, --read-only or both, or --all")
    names = [name.strip() for name in (tables or "").split(",") if name.strip()]
    unknown = sorted(set(names) - set(TABLES))
    if unknown:
        raise click.BadParameter(f"no such table: {', '.join(unknown)}", param_hint="--tables")
    capabilities = {**({"tables": names} if names else {}), **({"read_only": True} if read_only else {})}
    stored = orjson.dumps(capabilities).decode() if capabilities else None
    _decide(device_id, "device_narrowed", {"capabilities": capabilities}, as_json, (_NARROW, (stored, device_id)))


@devices.command(cls=Command)
@click.argument("device_id")
@json_option
def revoke(device_id: str, as_json: bool) -> None:
    """Refuse a lost device from now on, within seconds, and tell it to drop its data. Its sign-ins end."""
    _decide(device_id, "device_revoked", {}, as_json, (_REVOKE, (device_id,)), (_END_SESSIONS, (device_id,)))


@devices.command(cls=Command)
@click.argument("device_id")
@json_option
def admit(device_id: str, as_json: bool) -> None:
    """Let a revoked device in again; it has to sign in."""
    _decide(device_id, "device_admitted", {}, as_json, (_ADMIT, (device_id,)))


def _decide(device_id: str, action: str, details: dict[str, Any], as_json: bool, *steps: tuple[str, tuple[Any, ...]]) -> None:
    """Carry out one decision and record it, in one transaction."""
    details = {"device_id": device_id, **details}
    with session(Settings.load().operator()) as connection:
        _lock(connection, device_id)
        with connection.cursor() as cursor:
            for sql, params in steps:
                cursor.execute(sql, params)
            cursor.execute(_AUDIT, (actor(), action, orjson.dumps(details).decode()))
        connection.commit()
    if as_json:
        print_json({"action": action, **details})
    else:
        click.echo(f"{action.replace('_', ' ')}: {printable(device_id)}; it takes effect within seconds")


def _lock(connection: Connection[Any], device_id: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_LOCK, (device_id,))
        if cursor.fetchone() is None:
            raise StartError(
                "not_found", f"there is no device {device_id}", hint="`matrix-sync devices list` names those there are"
            )


def _capabilities(stored: str | None) -> dict[str, Any]:
    capabilities: dict[str, Any] = orjson.loads(stored) if stored else {}
    return capabilities


def _in_words(capabilities: dict[str, Any]) -> str:
    parts = [*(["read only"] if capabilities.get("read_only") else []), *(capabilities.get("tables") or [])]
    return ", ".join(parts) or "all"
