"""What comes of a change when others changed the record too: base, the row as it is, what was sent → one Resolution. Pure.

Values are wire values; comparison is by column (`schema.values.is_same`). Only the columns given are looked at: reserved, private
and generated ones never count (contract §3, Base and Policies).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from schema.columns import Column
from schema.tables import Policy
from schema.values import is_same

Row = Mapping[str, Any]


class Outcome(StrEnum):
    """`applied`: as sent. `merged`: in part. `refused`: the row stands. `nothing`: there is nothing left to do."""

    APPLIED = "applied"
    MERGED = "merged"
    REFUSED = "refused"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Resolution:
    """`values` are to be written; `fields` are columns both sides changed, to different values."""

    outcome: Outcome
    values: dict[str, Any]
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Edits:
    """Which columns the device changed, which of them others changed to another value, and whether others changed anything.

    `whole`: all that was sent and is not so in the row, edited by the device or not.
    """

    device: dict[str, Any]
    clashes: tuple[str, ...]
    is_changed_by_others: bool
    whole: dict[str, Any]


def compare(columns: Mapping[str, Column], base: Row | None, server: Row, sent: Row) -> Edits:
    """Return both sides' edits since `base`. A column the base lacks counts as unchanged by others.

    `base` None: no image that old is kept, so every column that differs counts as changed by both.
    """
    whole = {n: v for n, v in sent.items() if n in columns and not is_same(columns[n], v, server.get(n))}
    if base is None:
        return Edits(whole, tuple(whole), bool(whole), whole)
    known = {name: base.get(name, server.get(name)) for name in columns}
    device = {n: v for n, v in sent.items() if n in columns and not is_same(columns[n], v, known[n])}
    others = {name for name, column in columns.items() if not is_same(column, server.get(name), known[name])}
    agreed = {name for name in others if name in device and is_same(columns[name], device[name], server.get(name))}
    device = {name: value for name, value in device.items() if name not in agreed}
    others -= agreed
    return Edits(device, tuple(name for name in device if name in others), bool(others), whole)


def resolve(policy: Policy, edits: Edits, *, is_later: bool = False) -> Resolution:
    """Return what becomes of the device's edits. `is_later`: under `latest`, whether they were made last; then the record is the
    device's as a whole.
    """
    if not edits.device:
        return Resolution(Outcome.NOTHING, {})
    if not edits.is_changed_by_others:
        return Resolution(Outcome.APPLIED, edits.device)
    match policy:
        case Policy.MERGE:
            values = {name: value for name, value in edits.device.items() if name not in edits.clashes}
            outcome = Outcome.MERGED if values else Outcome.REFUSED
            return Resolution(outcome, values, edits.clashes)
        case Policy.LATEST if is_later:
            return Resolution(Outcome.APPLIED, edits.whole, edits.clashes)
        case _:
            return Resolution(Outcome.REFUSED, {}, edits.clashes)
