"""A change as the change log holds it, and who caused it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Operation(StrEnum):
    """What a change does to a record, as a device sees it: a soft delete is a DELETE, a restore an INSERT."""

    INSERT = "INSERT"
    UPDATE = "UPDATE"
    DELETE = "DELETE"


class OriginKind(StrEnum):
    """Who caused a tx."""

    DEVICE = "device"
    API = "api"
    EXTERNAL = "external"
    RECONCILE = "reconcile"
    SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class Origin:
    """The sync_origins row of a tx; without one the tx is external and `id` is None."""

    kind: OriginKind
    id: int | None = None
    device_id: str | None = None


EXTERNAL = Origin(OriginKind.EXTERNAL)


class RecordChange(NamedTuple):
    """One change before it has a version: `data`, `sealed` and `before` are JSON text, ready to send."""

    company_id: int
    table: str
    record_id: int
    operation: Operation
    data: str
    sealed: str | None
    before: str | None
    is_deleted: bool
