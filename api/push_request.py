"""A push's envelope, checked as a whole: what is malformed here is 400 and nothing is applied (contract §3, Malformed)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec
import orjson

from api.pull_request import read_last_version
from api.requests import malformed, read_company_id, read_device_id
from schema.columns import ID_MAX
from schema.errors import SyncError
from schema.settings import Settings
from schema.tables import TABLES

LABEL_CHARACTERS_MAX = 255
LocalKey = tuple[str, str]
"""table, local_id."""


@dataclass(frozen=True, slots=True)
class FirstTry:
    """What is known of a change that the server kept and now tries again (`api.retry`)."""

    fingerprint: bytes
    edited_at_us: int


class PushedChange(msgspec.Struct, frozen=True, dict=True):
    """One change as it was sent, its place in the push in `seq`. `local_id` is text, whatever it was sent as."""

    seq: int
    table: str
    operation: str
    local_id: str | None
    data: dict[str, Any]
    timestamp: str | None
    record_id: int | None
    base_version: int | None
    group: str | None
    first_try: FirstTry | None = None

    @cached_property
    def fingerprint(self) -> bytes:
        """A hash that is the same when the same change is sent again, however it was batched."""
        if self.first_try is not None:
            return self.first_try.fingerprint
        content = (self.table, self.operation, self.local_id, self.data, self.record_id, self.base_version, self.timestamp)
        return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).digest()

    @cached_property
    def referenced(self) -> tuple[LocalKey, ...]:
        """The (table, local_id) that its references may name."""
        table = TABLES.get(self.table)
        if table is None:
            return ()
        data = self.data
        return tuple(
            (target, str(data[column]))
            for column, target in table.client_references.items()
            if isinstance(data.get(column), str | int) and not isinstance(data[column], bool)
        )


@dataclass(frozen=True, slots=True)
class PushRequest:
    """A push's body."""

    device_id: str
    company_id: int | None
    install_id: str
    push_id: str | None
    last_version: int | None
    sent_at: str | None
    changes: tuple[PushedChange, ...]


def parse_push(body: dict[str, Any], settings: Settings) -> PushRequest:
    """Check a body. Raises SyncError: 400 `malformed`, 413 `too_many_changes`."""
    device_id = read_device_id(body.get("device_id"))
    if device_id is None:
        raise malformed("device_id must be text of 1 to 128 bytes")
    changes = body.get("changes")
    if not isinstance(changes, list):
        raise malformed("changes must be a list")
    if len(changes) > settings.push_changes_max:
        message = f"more than {settings.push_changes_max} changes in one push"
        raise SyncError(413, "too_many_changes", f"{message}: send them in several", details={"limit": settings.push_changes_max})
    last_version = body.get("last_version")
    return PushRequest(
        device_id=device_id,
        company_id=read_company_id(body.get("company_id")),
        install_id=read_device_id(body.get("install_id") or None) or "",
        push_id=_label(body.get("push_id")),
        last_version=None if last_version is None else read_last_version(last_version),
        sent_at=body["sent_at"] if isinstance(body.get("sent_at"), str) else None,
        changes=tuple(_change(seq, change) for seq, change in enumerate(changes)),
    )


def _change(seq: int, change: Any) -> PushedChange:
    where = f"changes[{seq}]"
    if not isinstance(change, dict):
        raise malformed(f"{where} must be an object")
    for name in ("table", "operation"):
        if not isinstance(change.get(name), str):
            raise malformed(f"{where}.{name} must be text")
    operation = change["operation"]
    data = change.get("data")
    if data is None and operation == "DELETE":
        data = {}
    if not isinstance(data, dict):
        raise malformed(f"{where}.data must be an object")
    if not isinstance(change.get("timestamp"), str | None):
        raise malformed(f"{where}.timestamp must be text")
    return PushedChange(
        seq=seq,
        table=change["table"],
        operation=operation,
        local_id=_local_id(change.get("local_id"), where, is_needed=operation == "INSERT"),
        data=data,
        timestamp=change.get("timestamp"),
        record_id=read_id(change.get("record_id")),
        base_version=_version(change.get("base_version")),
        group=_label(change.get("group")),
    )


def _local_id(value: Any, where: str, *, is_needed: bool) -> str | None:
    if value is None and not is_needed:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise malformed(f"{where}.local_id must be text or a whole number")
    return str(value)


def read_id(value: Any) -> int | None:
    """Return a server id that was sent as a number or as digits; None for anything that cannot be one."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 16:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= ID_MAX:
        return None
    return value


def _version(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _label(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value)[:LABEL_CHARACTERS_MAX]
