"""`POST /api/sync/retry`: what a device pushed and was rejected is tried again as it was sent, as a push of that device.

For what was refused because of something that is mended since: a reference, a role, a locked period. A change that is wrong in
itself gets the same verdict, and stays listed.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from typing import Any

import orjson
from aiohttp import web

from api.answers import json_answer
from api.auth import authenticate
from api.db import Session
from api.devices import lock_device
from api.identity import LOCAL_ID_CHARACTERS_MAX
from api.keys import DATABASE, SETTINGS
from api.push import Pushed, apply_push
from api.push_answer import answer_push
from api.push_request import FirstTry, PushedChange, PushRequest
from api.rejected import Kept, read_rejected
from api.requests import malformed, read_company_id, read_device_id, read_json_object, request_id
from api.scope import scope_of


async def handle_retry(request: web.Request) -> web.Response:
    """Answer as a push does. `ids` are those of `GET /api/sync/rejected`; absent: all that waits, oldest first, as far as one push
    goes. One that was mended meanwhile has no result. Raises SyncError: 400, 401, 403, 503.
    """
    identity = await authenticate(request)
    arrived_us = time.time_ns() // 1000
    body = await read_json_object(request)
    device_id, ids = read_device_id(body.get("device_id")), _ids(body.get("ids"))
    if device_id is None:
        raise malformed("device_id must be text of 1 to 128 bytes")
    scope = await scope_of(request, identity, read_company_id(body.get("company_id")), device_id)
    install_id = read_device_id(body.get("install_id") or None) or ""
    envelope = PushRequest(device_id, scope.company_id, install_id, None, None, None, ())
    limit = request.app[SETTINGS].push_changes_max

    async def work(session: Session) -> tuple[PushRequest, Pushed]:
        await lock_device(session, device_id)  # before what waits is read: two retries at once are one after the other
        kept = await read_rejected(session, scope.company_id, device_id, install_id, ids, limit)
        push = replace(envelope, changes=tuple(_change(seq, change) for seq, change in enumerate(kept)))
        return push, await apply_push(session, scope, push, request_id(request), arrived_us)

    push, pushed = await request.app[DATABASE].run(work, attempts=request.app[SETTINGS].push_attempts_max)
    return json_answer(await answer_push(request.app, scope, push, pushed))


def _ids(value: Any) -> list[int] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(item, int) and not isinstance(item, bool) for item in value):
        raise malformed("ids must be a list of numbers")
    return value


def _change(seq: int, kept: Kept) -> PushedChange:
    return PushedChange(
        seq=seq,
        table=kept.table,
        operation=kept.operation,
        local_id=_local_id(kept),
        data=orjson.loads(kept.payload),
        timestamp=None,
        record_id=kept.record_id,
        base_version=kept.base_version,
        group=_group(kept),
        first_try=FirstTry(bytes(kept.fingerprint), kept.edited_at_us or 0),
    )


def _local_id(kept: Kept) -> str | None:
    """One that was refused for its length is kept only in part, and must not be taken for a shorter one."""
    is_cut = kept.local_id is not None and kept.code == "bad_value" and len(kept.local_id) >= LOCAL_ID_CHARACTERS_MAX
    return f"{kept.local_id}…" if is_cut else kept.local_id


def _group(kept: Kept) -> str | None:
    """Groups of different pushes stay apart, though their clients gave them one name."""
    if kept.group_name is None:
        return None
    return hashlib.sha256(f"{kept.origin_id}/{kept.group_name}".encode()).hexdigest()[:32]
