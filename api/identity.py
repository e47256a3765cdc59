"""(device, install, table, local_id) ⇄ record_id, for ever: how a retried INSERT finds the row it already made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from api.db import Outcome, Statement, inserting
from api.push_request import LocalKey

LOCAL_ID_CHARACTERS_MAX = 255
_KEYS_PER_QUERY_MAX = 500

_FIND = """
SELECT table_name, local_id, record_id, origin_id FROM record_identities
WHERE company_id = %s AND device_id = %s AND install_id = %s AND (table_name, local_id) IN ({keys})
"""
_STORE = """
INSERT INTO record_identities (company_id, device_id, install_id, table_name, local_id, record_id, origin_id)
VALUES {rows}
"""


@dataclass(frozen=True, slots=True)
class Install:
    """Whose local ids they are."""

    company_id: int
    device_id: str
    install_id: str


@dataclass(frozen=True, slots=True)
class RecordIdentity:
    """The record a local id stands for, and the origin of the push that first said so."""

    record_id: int
    origin_id: int


def find_identities(install: Install, keys: Iterable[LocalKey]) -> list[Statement]:
    """Return what asks for the identities that exist of these (table, local_id)."""
    wanted = sorted(key for key in set(keys) if len(key[1]) <= LOCAL_ID_CHARACTERS_MAX)
    statements: list[Statement] = []
    for start in range(0, len(wanted), _KEYS_PER_QUERY_MAX):
        part = wanted[start : start + _KEYS_PER_QUERY_MAX]
        sql = _FIND.format(keys=", ".join("(%s, %s)" for _ in part))
        params = (install.company_id, install.device_id, install.install_id, *(value for key in part for value in key))
        statements.append((sql, params))
    return statements


def identities_found(outcomes: Iterable[Outcome]) -> dict[LocalKey, RecordIdentity]:
    """Return the identities that `find_identities` found."""
    rows = (row for outcome in outcomes for row in outcome.rows)
    return {(table, local_id): RecordIdentity(record_id, origin_id) for table, local_id, record_id, origin_id in rows}


def store_identities(install: Install, records: Mapping[LocalKey, int], origin_id: int) -> list[Statement]:
    """Return what stores new identities in the transaction of their rows. It raises DuplicateKey where one exists."""
    rows = [(install.company_id, install.device_id, install.install_id, *key, record, origin_id) for key, record in records.items()]
    return inserting(_STORE, rows)
