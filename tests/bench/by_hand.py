"""The bare cost of a push's rows: each push as hand-built SQL, a statement a table, in a transaction of its own."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import asyncmy
from pymysql.converters import escape_item

from schema.settings import Settings
from schema.tables import TABLES
from tests.device import Change


def write_by_hand(settings: Settings, company_id: int, lines: Sequence[Sequence[Sequence[Change]]], seconds: float) -> float:
    """Write the pushes of each line one after the other, all lines at once; return pushes a second."""
    ready = [[statements_of(company_id, push) for push in line] for line in lines]
    return asyncio.run(_write(settings, ready, seconds))


def statements_of(company_id: int, changes: Sequence[Change]) -> list[str]:
    """A push as SQL. New rows that others refer to get their ids from a variable that holds the first of their statement's."""
    inserts: dict[str, list[Change]] = defaultdict(list)
    updates: dict[str, list[Change]] = defaultdict(list)
    for change in changes:
        (inserts if change["operation"] == "INSERT" else updates)[change["table"]].append(change)
    places = {c["local_id"]: f"@{name} + {i}" for name, rows in inserts.items() for i, c in enumerate(rows)}
    statements = ["START TRANSACTION"]
    for name in TABLES:
        if inserts[name]:
            columns = sorted({column for change in inserts[name] for column in change["data"]})
            rows = ", ".join(_row(company_id, columns, change["data"], places) for change in inserts[name])
            names = ", ".join(f"`{column}`" for column in columns)
            statements.append(f"INSERT INTO `{name}` (company_id, {names}) VALUES {rows}")
            if any(place.startswith(f"@{name} ") for place in places.values()) and name == "transactions":
                statements.append(f"SET @{name} = LAST_INSERT_ID()")
        if updates[name]:
            statements.append(_update(name, company_id, [change["data"] for change in updates[name]]))
    return [*statements, "COMMIT"]


def _row(company_id: int, columns: Sequence[str], data: dict[str, Any], places: dict[str, str]) -> str:
    values = (places.get(data[c]) or _text(data[c]) if c in data else "DEFAULT" for c in columns)
    return f"({company_id}, {', '.join(values)})"


def _update(name: str, company_id: int, rows: Sequence[dict[str, Any]]) -> str:
    columns = sorted({column for row in rows for column in row if column != "id"})
    cases = {c: " ".join(f"WHEN {row['id']} THEN {_text(row[c])}" for row in rows if c in row) for c in columns}
    sets = (f"`{c}` = CASE id {whens} ELSE `{c}` END" for c, whens in cases.items())
    ids = ", ".join(str(row["id"]) for row in rows)
    return f"UPDATE `{name}` SET {', '.join(sets)} WHERE company_id = {company_id} AND id IN ({ids})"


def _text(value: Any) -> str:
    return str(escape_item(value, "utf8mb4"))


async def _write(settings: Settings, lines: Sequence[Sequence[Sequence[str]]], seconds: float) -> float:
    address = settings.admin()
    connections = [
        await asyncmy.connect(
            user=address.user, password=address.password, unix_socket=address.socket, database=address.database, charset="utf8mb4"
        )
        for _ in lines
    ]
    count = itertools.count()
    started = time.perf_counter()

    async def work(connection: Any, line: Sequence[Sequence[str]]) -> None:
        async with connection.cursor() as cursor:
            for push in line:
                for statement in push:
                    await cursor.execute(statement)
                next(count)
                if time.perf_counter() - started > seconds:
                    return

    await asyncio.gather(*(work(c, line) for c, line in zip(connections, lines, strict=True)))
    took = time.perf_counter() - started
    for connection in connections:
        await connection.ensure_closed()
    return next(count) / took
