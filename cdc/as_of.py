"""The rows of a company's table as they were at a version or a time, for operators."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from pymysql.connections import Connection

from schema.errors import StartError
from schema.past import READ_IDS, READ_IMAGES, READ_PLACE, READ_VERSION_AT, images_params, parse_as_of
from schema.versions import EMPTY_HEAD, epoch_of

RECORDS_PER_QUERY = 1000
_BEGIN_SNAPSHOT = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"


class Image(NamedTuple):
    """A row as it was: `data` and `sealed` are JSON text, `version` that of the change that made it so."""

    record_id: int
    version: int
    operation: str
    data: str
    sealed: str | None


def begin_past(connection: Connection[Any], as_of: str) -> int:
    """Begin a snapshot in which retention prunes nothing, and return the version that `as_of` means.

    Raises StartError: `bad_as_of`, `history_pruned`, `past_gone`, `no_change_log`.
    """
    with connection.cursor() as cursor:
        cursor.execute(_BEGIN_SNAPSHOT)
        try:
            version, time_us = parse_as_of(as_of)
        except ValueError:
            raise StartError("bad_as_of", f"neither a version nor a time: {as_of[:100]!r}", hint=_FORMS) from None
        if time_us is not None:
            cursor.execute(READ_VERSION_AT, (max(time_us, 0),))
            found = cursor.fetchone()
            version = int(found[0]) if found else EMPTY_HEAD
        cursor.execute(READ_PLACE, (version,))
        row = cursor.fetchone()
    if row is None or version is None:
        raise StartError("no_change_log", "there is no change log yet", hint="run `matrix-sync migrate`")
    head, epoch, images_from, fork = row
    if not EMPTY_HEAD <= version <= head:
        raise StartError("bad_as_of", f"version {version} is not between {EMPTY_HEAD} and the head {head}", hint=_FORMS)
    if version < images_from:
        raise StartError("history_pruned", f"history is kept from version {images_from} on", hint="choose a later one")
    if epoch_of(version) < epoch and fork is not None and version > fork:
        raise StartError("past_gone", f"version {version} belongs to a past that is gone", hint=f"that ends at version {fork}")
    return version


def read_past(connection: Connection[Any], company_id: int, table: str, version: int) -> Iterator[Image]:
    """Every record's newest image at or before a version, deleted ones too, in order of their ids."""
    after = 0
    while True:
        with connection.cursor() as cursor:
            cursor.execute(READ_IDS, (company_id, table, after, RECORDS_PER_QUERY))
            ids = [row[0] for row in cursor.fetchall()]
            if not ids:
                return
            cursor.execute(READ_IMAGES, images_params(company_id, table, ids[0], ids[-1], version))
            yield from (Image(*row) for row in cursor.fetchall())
        after = ids[-1]


_FORMS = "write a version (1234) or a time in UTC (2026-01-31T09:30:00Z)"
