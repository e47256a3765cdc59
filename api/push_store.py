"""Keeps what a push said and what became of it, in the push's own transaction: nothing pushed is dropped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from api.db import Session
from api.push_context import PushContext
from api.verdicts import Status, Verdict
from schema.values import json_text

ROWS_PER_STATEMENT_MAX = 200
_PUSHED_COLUMNS = (
    "origin_id, seq, company_id, device_id, install_id, table_name, record_id, local_id, operation, group_name, payload, "
    "base_version, edited_at_us, fingerprint, status, code, message, is_change, is_exact, is_maker"
)
_TABLE_CHARACTERS_MAX, _OPERATION_CHARACTERS_MAX, _LOCAL_ID_CHARACTERS_MAX = 64, 16, 255
_ASK_AGAIN = "INSERT INTO sync_redeliveries (company_id, device_id, table_name, record_id) VALUES (%s, %s, %s, %s)"
_STORE_CONFLICT = """
INSERT INTO sync_conflicts (company_id, device_id, user_id, origin_id, table_name, record_id, local_id, operation, type, code,
    fields, base, client, server, server_version, fingerprint)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, NULL, %s)
ON DUPLICATE KEY UPDATE id = LAST_INSERT_ID(id)
"""


async def store_pushed(context: PushContext, verdicts: Iterable[Verdict]) -> None:
    """Append a row to sync_pushed for each change, in the order sent."""
    rows = [_pushed_row(context, verdict) for verdict in verdicts]
    for start in range(0, len(rows), ROWS_PER_STATEMENT_MAX):
        await _insert(context.session, rows[start : start + ROWS_PER_STATEMENT_MAX])


async def store_redeliveries(context: PushContext, verdicts: Iterable[Verdict]) -> None:
    """Ask for the rows that are not what was sent though the push made no change of them that is news to the device: so even a
    client that is long past the winning edit, and ignores results, falls back to the server's row (contract §2.6).
    """
    changed = {(v.change.table, v.record_id) for v in verdicts if v.is_change and not v.is_exact}
    told = {(v.change.table, v.record_id) for v in verdicts if v.is_told and v.record_id is not None}
    for table, record_id in sorted(told - changed):
        if table in context.scope.readable:
            await context.session.execute(_ASK_AGAIN, (context.scope.company_id, context.install.device_id, table, record_id))


async def store_conflicts(
    context: PushContext, verdicts: Iterable[Verdict], server_rows: Mapping[tuple[str, int], Mapping[str, Any]]
) -> dict[int, int]:
    """Keep refused and partly refused changes for a person to look at; return conflict ids by the change's place in the push.

    The same change refused again is the same conflict.
    """
    ids: dict[int, int] = {}
    for verdict in verdicts:
        if not is_conflict(verdict):
            continue
        change = verdict.change
        server = server_rows.get((change.table, verdict.record_id or 0))
        params = (
            context.scope.company_id,
            context.install.device_id,
            context.scope.user_id,
            context.origin_id,
            change.table,
            verdict.record_id,
            change.local_id,
            change.operation,
            conflict_type(verdict, server),
            verdict.code,
            json_text(list(verdict.fields)),
            json_text(verdict.base) if verdict.base is not None else None,
            json_text(verdict.values),
            json_text(server) if server is not None else None,
            change.fingerprint(),
        )
        ids[change.seq] = (await context.session.execute(_STORE_CONFLICT, params)).last_id
    return ids


def is_conflict(verdict: Verdict) -> bool:
    """Whether a person may care: the change was refused for the server's row, or took effect only in part."""
    return verdict.status is Status.CONFLICT or (verdict.status is Status.MERGED and bool(verdict.fields))


def conflict_type(verdict: Verdict, server: Mapping[str, Any] | None) -> str:
    """Return which edits met: update_update, delete_update (the device deleted what others changed) or update_delete."""
    if verdict.change.operation == "DELETE":
        return "delete_update"
    return "update_delete" if server is None or server["deleted_at"] is not None else "update_update"


def _pushed_row(context: PushContext, verdict: Verdict) -> tuple[Any, ...]:
    change = verdict.change
    return (
        context.origin_id,
        change.seq,
        context.scope.company_id,
        context.install.device_id,
        context.install.install_id,
        change.table[:_TABLE_CHARACTERS_MAX],
        verdict.record_id,
        change.local_id[:_LOCAL_ID_CHARACTERS_MAX] if change.local_id is not None else None,
        change.operation[:_OPERATION_CHARACTERS_MAX],
        change.group,
        json_text(verdict.values),
        change.base_version,
        context.edited_at_us[change.seq],
        change.fingerprint(),
        verdict.status.value,
        verdict.code,
        verdict.message,
        verdict.is_change,
        verdict.is_exact,
        verdict.is_maker,
    )


async def _insert(session: Session, rows: list[tuple[Any, ...]]) -> None:
    marks = f"({', '.join('%s' for _ in rows[0])})"
    sql = f"INSERT INTO sync_pushed ({_PUSHED_COLUMNS}) VALUES {', '.join(marks for _ in rows)}"
    await session.execute(sql, [value for row in rows for value in row])
