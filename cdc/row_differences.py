"""Rows of a table against the newest images of the change log: how they differ, and the change that ends a difference.

Both sides are the JSON text that devices are given: of a row as the encoder of events makes it, of the change log as it stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from cdc.derive import derive_changes
from cdc.images import image_of
from cdc.newest import NewestImage
from cdc.wire_columns import NULL, join_columns, split_columns
from schema.changes import Operation, RecordChange
from schema.tables import Table
from schema.values import rfc3339_from_us, wire_json


class Kind(StrEnum):
    """The change log lacks the row; it holds one that the table lacks; or both have it, in other words."""

    MISSING_IN_LOG = "missing_in_log"
    MISSING_IN_TABLE = "missing_in_table"
    DIFFERS = "differs"


@dataclass(frozen=True, slots=True)
class RowDifference:
    """One record of one company. `row` is the change that an INSERT of the row as it is would make; `known` the newest image."""

    kind: Kind
    table: str
    company_id: int
    record_id: int
    row: RecordChange | None
    known: NewestImage | None

    def columns(self, *, sealed: bool = False) -> dict[str, tuple[str | None, str | None]]:
        """What differs: column → (in the change log, in the table) as JSON text, None where there is no such column or row.

        `sealed` asks for the restricted columns in place of the others.
        """
        old = split_columns(_text(self.known, sealed))
        new = split_columns(_text(self.row, sealed))
        return {name: (old.get(name), new.get(name)) for name in {**new, **old} if old.get(name) != new.get(name)}


def find_differences(table: Table, rows: Iterable[Mapping[str, Any]], newest: Iterable[NewestImage]) -> Iterator[RowDifference]:
    """Compare the rows of a set of ids with the newest images of the same ids. Raises Halt `column_missing`."""
    known = {(image.company_id, image.record_id): image for image in newest}
    for row in rows:
        (change,) = derive_changes(table, None, image_of(table, row), 0)
        image = known.pop((change.company_id, change.record_id), None)
        if image is None or image.data is None:
            yield RowDifference(Kind.MISSING_IN_LOG, table.name, change.company_id, change.record_id, change, image)
        elif not _is_same(change, image):
            yield RowDifference(Kind.DIFFERS, table.name, change.company_id, change.record_id, change, image)
    for image in known.values():
        if not image.is_deleted:
            yield RowDifference(Kind.MISSING_IN_TABLE, table.name, image.company_id, image.record_id, None, image)


def mending_changes(table: Table, differences: Iterable[RowDifference], commit_time_us: int) -> list[RecordChange]:
    """The changes after which the newest images are the rows. Of a row that moved to another company the deletion comes first."""
    ordered = sorted(differences, key=lambda d: (d.record_id, d.kind is not Kind.MISSING_IN_TABLE))
    return [_mend(table, difference, commit_time_us) for difference in ordered]


def _mend(table: Table, difference: RowDifference, commit_time_us: int) -> RecordChange:
    row, known = difference.row, difference.known
    if row is None:
        assert known is not None
        return _deletion(table, known, commit_time_us)
    if known is None or known.data is None:
        return row
    old, new = split_columns(known.data), split_columns(row.data)
    before = join_columns({name: old[name] for name in new if name in old and old[name] != new[name]})
    operation = row.operation if row.is_deleted or known.is_deleted else Operation.UPDATE
    return row._replace(operation=operation, before=before)


def _deletion(table: Table, known: NewestImage, commit_time_us: int) -> RecordChange:
    """The tombstone of a row that is gone: the last image, deleted at the time at which that was found."""
    deleted_at = orjson.dumps(rfc3339_from_us(commit_time_us)).decode()
    columns = split_columns(known.data)
    if not columns:  # the image is gone too, or damaged: what is left is which record it was
        values = {**dict.fromkeys(table.by_name), "id": known.record_id, table.company_column: known.company_id}
        columns = split_columns(wire_json(values, table.public))
    return RecordChange(
        company_id=known.company_id,
        table=table.name,
        record_id=known.record_id,
        operation=Operation.DELETE,
        data=join_columns({**columns, "deleted_at": deleted_at}),
        sealed=known.sealed,
        before=join_columns({"deleted_at": NULL}),
        is_deleted=True,
    )


def _is_same(row: RecordChange, known: NewestImage) -> bool:
    if row.is_deleted != known.is_deleted:
        return False
    if row.data == known.data and row.sealed == known.sealed:
        return True
    # An older version of the program may have written the columns in another order: that is no difference.
    return split_columns(row.data) == split_columns(known.data) and split_columns(row.sealed) == split_columns(known.sealed)


def _text(side: RecordChange | NewestImage | None, sealed: bool) -> str | None:
    if side is None:
        return None
    return side.sealed if sealed else side.data
