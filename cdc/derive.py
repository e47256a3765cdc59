"""One row of a row event → what devices are told of it: which company's feed, which operation, which data.

Values come from the event alone, never from a later SELECT.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import orjson

from cdc.images import Image
from schema.changes import Operation, RecordChange
from schema.columns import Column, Kind
from schema.tables import Table
from schema.values import rfc3339_from_us

_WAS_LIVE = '{"deleted_at":null}'


def derive_changes(table: Table, before: Image | None, after: Image | None, commit_time_us: int) -> list[RecordChange]:
    """Return the changes one row image pair makes: one, or two where the row moved to another company or got another id.

    A soft delete and a hard DELETE are both DELETE with `deleted_at` set, a restore is an INSERT (contract §2.4).
    """
    form = _form(table)
    if after is None:
        assert before is not None
        return [_deletion(form, before, commit_time_us)]
    if before is None:
        return [_stored(form, after, None, Operation.INSERT)]
    if before[0] != after[0] or before[form.company] != after[form.company]:
        return [_deletion(form, before, commit_time_us), _stored(form, after, None, Operation.INSERT)]
    was_deleted = before[form.deleted] is not None
    return [_stored(form, after, form.changed(before, after), Operation.INSERT if was_deleted else Operation.UPDATE)]


@dataclass(frozen=True, slots=True)
class _Form:
    """A declared table's columns as places in its images."""

    table: str
    company: int
    deleted: int
    public: _Part
    restricted: _Part | None

    def changed(self, before: Image, after: Image) -> str:
        """The public columns that changed, with their values before. Restricted ones stay in the older change's `sealed`."""
        return self.public.json(before, after)


class _Part:
    """Some of the columns, as the JSON text of `data` or `sealed`."""

    __slots__ = ("_documents", "_names", "_pick")

    def __init__(self, table: Table, columns: tuple[Column, ...]) -> None:
        places = [table.columns.index(column) for column in columns]
        self._names = tuple(column.name for column in columns)
        self._documents = tuple(column.name for column in columns if column.kind is Kind.JSON)
        self._pick: Callable[[Image], Image] | None = None
        if columns != table.columns:
            self._pick = itemgetter(*places) if len(places) > 1 else lambda image: (image[places[0]],)

    def json(self, image: Image, unlike: Image | None = None) -> str:
        """All of them or, with `unlike`, those that have another value there. JSON columns keep the text that they have."""
        pick = self._pick
        if pick is not None:
            image, unlike = pick(image), pick(unlike) if unlike is not None else None
        values: dict[str, Any]
        if unlike is None:
            values = dict(zip(self._names, image, strict=True))
        else:
            values = {n: value for n, value, other in zip(self._names, image, unlike, strict=True) if value != other}
        for name in self._documents:
            if values.get(name) is not None:
                values[name] = orjson.Fragment(values[name].encode())
        return orjson.dumps(values).decode()


_FORMS: dict[int, tuple[Table, _Form]] = {}
"""By the table's identity: its hash would walk through all that it declares."""


def _form(table: Table) -> _Form:
    known = _FORMS.get(id(table))
    if known is None:
        known = _FORMS[id(table)] = table, _make_form(table)
    return known[1]


def _make_form(table: Table) -> _Form:
    names = [column.name for column in table.columns]
    restricted = _Part(table, table.restricted) if table.restricted else None
    company, deleted = names.index(table.company_column), names.index("deleted_at")
    assert names[0] == "id"
    return _Form(table.name, company, deleted, _Part(table, table.public), restricted)


def _stored(form: _Form, after: Image, before: str | None, operation: Operation) -> RecordChange:
    return _change(form, after, operation if after[form.deleted] is None else Operation.DELETE, before)


def _deletion(form: _Form, before: Image, commit_time_us: int) -> RecordChange:
    place = form.deleted
    if before[place] is not None:
        return _change(form, before, Operation.DELETE, None)
    deleted = (*before[:place], rfc3339_from_us(commit_time_us), *before[place + 1 :])
    return _change(form, deleted, Operation.DELETE, _WAS_LIVE)


def _change(form: _Form, image: Image, operation: Operation, before: str | None) -> RecordChange:
    company, record_id = image[form.company], image[0]
    if company.__class__ is str or record_id.__class__ is str:  # ids beyond 2^53 − 1 are text on the wire
        company, record_id = int(company), int(record_id)
    return RecordChange(
        company,
        form.table,
        record_id,
        operation,
        form.public.json(image),
        form.restricted.json(image) if form.restricted is not None else None,
        before,
        operation is Operation.DELETE,
    )
