"""How the change log can differ from what the binlog makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """MISSING: the binlog has it and the change log does not. EXTRA: the other way round. DIFFERENT: some columns differ."""

    MISSING = "missing"
    DIFFERENT = "different"
    EXTRA = "extra"


@dataclass(frozen=True, slots=True)
class Difference:
    """One row of sync_changes, sync_tx or sync_live that is not what the binlog makes it.

    `where` names the row (version, tx, gtid, company_id, table, record_id, as far as they are known). `columns` maps each column
    that differs to (stored, derived). `is_restored`: it is as it was. `note` says why it can't be, or what else is known.
    """

    kind: Kind
    log_table: str
    where: Mapping[str, Any]
    columns: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    is_restored: bool = False
    note: str = ""


def columns_that_differ(stored: Mapping[str, Any], derived: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The columns of `derived` that `stored` has with another value."""
    return {name: (stored[name], value) for name, value in derived.items() if stored[name] != value}
