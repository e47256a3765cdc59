"""What became of one pushed change (contract §3, results)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec
from msgspec.structs import replace

from api.new_ids import NewId, settle
from api.push_request import PushedChange
from schema.rules import Breach


class Status(StrEnum):
    """`conflict`: refused, the server's row stands and is told. `rejected`: refused, and there is no server row to fall back on."""

    APPLIED = "applied"
    MERGED = "merged"
    NOOP = "noop"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    REJECTED = "rejected"

    @property
    def is_refusal(self) -> bool:
        """The change did not take effect, so neither does its group."""
        return self in (Status.CONFLICT, Status.REJECTED)


class Verdict(msgspec.Struct, frozen=True):
    """The outcome of `change`.

    `values`: what it came to in wire form, references resolved; what was sent where it came to nothing. `is_told`: the server's row
    is not what was sent, so the answer shows it. `is_change`: it wrote a row. `is_exact`: the row is stored exactly as sent.
    `held_version`: up to where the device surely holds what came before it, 0 for nothing. `is_maker`: it made the record.
    `details` stand beside code and message in the answer.
    """

    change: PushedChange
    status: Status
    record_id: int | None = None
    code: str | None = None
    message: str | None = None
    is_retryable: bool = False
    ignored: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    values: Mapping[str, Any] = msgspec.field(default_factory=dict)
    base: Mapping[str, Any] | None = None
    is_told: bool = False
    is_change: bool = False
    is_exact: bool = False
    held_version: int = 0
    is_maker: bool = False
    details: Mapping[str, Any] = msgspec.field(default_factory=dict)


class Refused(Exception):
    """Raised where a change turns out not to be possible; becomes the verdict. Nothing of the change has been written."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        record_id: int | None = None,
        is_retryable: bool = False,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.record_id = record_id
        self.is_retryable = is_retryable
        self.details = dict(details or {})


def refused_by(breach: Breach) -> Refused:
    """Return the refusal of a change that an accounting rule is against."""
    return Refused(breach.code, breach.message, is_retryable=breach.is_retryable, details=breach.details)


def settled(verdict: Verdict, ids: Mapping[int, int]) -> Verdict:
    """Return the verdict of a change with the ids of new rows in the place of what stood for them."""
    settle(verdict.change.table, verdict.values, ids)
    settle(verdict.change.table, verdict.base, ids)
    return replace(verdict, record_id=ids[verdict.record_id]) if type(verdict.record_id) is NewId else verdict


MALFORMED_CODES = frozenset({"unknown_table", "bad_operation", "bad_timestamp", "bad_value"})
"""Refusals of the change itself, whatever the server's row is: always `rejected` (contract §3, Malformed)."""


def refusal(change: PushedChange, refused: Refused, *, record_id: int | None = None) -> Verdict:
    """Return the verdict of a refused change: `conflict` where the server's row stands against it, else `rejected`."""
    record_id = refused.record_id if refused.record_id is not None else record_id
    is_rejected = record_id is None or refused.code in MALFORMED_CODES
    return Verdict(
        change,
        Status.REJECTED if is_rejected else Status.CONFLICT,
        record_id=record_id,
        code=refused.code,
        message=refused.message,
        is_retryable=refused.is_retryable,
        values=change.data,
        is_told=record_id is not None,
        details=refused.details,
    )
