"""Keeps what a push said and what became of it, in the push's own transaction: nothing pushed is dropped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from api.db import ROWS_PER_STATEMENT_MAX, Statement, inserting
from api.push_context import PushContext
from api.verdicts import Status, Verdict
from schema.values import json_text

_STORE_PUSHED = """
INSERT INTO sync_pushed (origin_id, seq, company_id, device_id, install_id, table_name, record_id, local_id, operation, group_name,
    payload, base_version, edited_at_us, fingerprint, status, code, message, is_change, is_exact, held_version, is_maker)
VALUES {rows}
"""
_TABLE_CHARACTERS_MAX, _OPERATION_CHARACTERS_MAX, _LOCAL_ID_CHARACTERS_MAX = 64, 16, 255
_ASK_AGAIN = "INSERT INTO sync_redeliveries (company_id, device_id, table_name, record_id) VALUES {rows}"
_STORE_CONFLICT = """
INSERT INTO sync_conflicts (company_id, device_id, user_id, origin_id, table_name, record_id, local_id, operation, type, code,
    fields, base, client, server, fingerprint)
VALUES {rows} ON DUPLICATE KEY UPDATE id = sync_conflicts.id
"""
_FIND_CONFLICTS = """
SELECT fingerprint, id FROM sync_conflicts WHERE company_id = %s AND device_id = %s AND fingerprint IN ({marks})
"""


def store_pushed(context: PushContext, verdicts: Iterable[Verdict]) -> list[Statement]:
    """Return what appends a row to sync_pushed for each change, in the order sent."""
    return inserting(_STORE_PUSHED, [_pushed_row(context, verdict) for verdict in verdicts])


def store_redeliveries(context: PushContext, verdicts: Iterable[Verdict]) -> list[Statement]:
    """Return what asks for the rows that are not what was sent though the push made no change of them that is news to the device:
    so even a client that is long past the winning edit, and ignores results, falls back to the server's row (contract §2.6).
    """
    changed = {(v.change.table, v.record_id) for v in verdicts if v.is_change and not v.is_exact}
    told = {(v.change.table, v.record_id) for v in verdicts if v.is_told and v.record_id is not None}
    rows: list[tuple[Any, ...]] = []
    for table, record_id in sorted(told - changed):
        if table in context.scope.readable:
            rows.append((context.scope.company_id, context.install.device_id, table, record_id))
    return inserting(_ASK_AGAIN, rows)


async def store_conflicts(
    context: PushContext, verdicts: Iterable[Verdict], server_rows: Mapping[tuple[str, int], Mapping[str, Any]]
) -> dict[int, int]:
    """Keep refused and partly refused changes for a person to look at; return conflict ids by the change's place in the push.

    The same change refused again is the same conflict.
    """
    fingerprints: dict[int, bytes] = {}
    rows: list[tuple[Any, ...]] = []
    for verdict in verdicts:
        if is_conflict(verdict):
            fingerprints[verdict.change.seq] = verdict.change.fingerprint
            rows.append(_conflict_row(context, verdict, server_rows))
    for statement in inserting(_STORE_CONFLICT, rows):
        await context.session.execute(*statement)
    found: dict[bytes, int] = {}
    wanted = list(fingerprints.values())
    for start in range(0, len(wanted), ROWS_PER_STATEMENT_MAX):
        part = wanted[start : start + ROWS_PER_STATEMENT_MAX]
        sql = _FIND_CONFLICTS.format(marks=", ".join("%s" for _ in part))
        for fingerprint, conflict_id in await context.session.fetch_all(
            sql, (context.scope.company_id, context.install.device_id, *part)
        ):
            found[bytes(fingerprint)] = conflict_id
    return {seq: found[fingerprint] for seq, fingerprint in fingerprints.items()}


def is_conflict(verdict: Verdict) -> bool:
    """Whether a person may care: the change was refused for the server's row, or took effect only in part."""
    return verdict.status is Status.CONFLICT or (verdict.status is Status.MERGED and bool(verdict.fields))


def conflict_type(verdict: Verdict, server: Mapping[str, Any] | None) -> str:
    """Return which edits met: update_update, delete_update (the device deleted what others changed) or update_delete."""
    if verdict.change.operation == "DELETE":
        return "delete_update"
    return "update_delete" if server is None or server["deleted_at"] is not None else "update_update"


def _conflict_row(
    context: PushContext, verdict: Verdict, server_rows: Mapping[tuple[str, int], Mapping[str, Any]]
) -> tuple[Any, ...]:
    change = verdict.change
    server = server_rows.get((change.table, verdict.record_id or 0))
    return (
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
        change.fingerprint,
    )


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
        change.fingerprint,
        verdict.status.value,
        verdict.code,
        verdict.message,
        verdict.is_change,
        verdict.is_exact,
        verdict.held_version,
        verdict.is_maker,
    )
