"""(device, install, table, local_id) ⇄ record_id, for ever: how a retried INSERT finds the row it already made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from api.db import Session
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


async def find_identities(session: Session, install: Install, keys: Iterable[LocalKey]) -> dict[LocalKey, RecordIdentity]:
    """Return the identities that exist of these (table, local_id)."""
    wanted = sorted(key for key in set(keys) if len(key[1]) <= LOCAL_ID_CHARACTERS_MAX)
    found: dict[LocalKey, RecordIdentity] = {}
    for start in range(0, len(wanted), _KEYS_PER_QUERY_MAX):
        part = wanted[start : start + _KEYS_PER_QUERY_MAX]
        sql = _FIND.format(keys=", ".join("(%s, %s)" for _ in part))
        params = (install.company_id, install.device_id, install.install_id, *(value for key in part for value in key))
        for table, local_id, record_id, origin_id in await session.fetch_all(sql, params):
            found[table, local_id] = RecordIdentity(record_id, origin_id)
    return found


async def store_identities(session: Session, install: Install, records: Mapping[LocalKey, int], origin_id: int) -> None:
    """Store new identities in the transaction of their rows. Raises DuplicateKey where one exists."""
    rows = [(install.company_id, install.device_id, install.install_id, *key, record, origin_id) for key, record in records.items()]
    for start in range(0, len(rows), _KEYS_PER_QUERY_MAX):
        part = rows[start : start + _KEYS_PER_QUERY_MAX]
        sql = _STORE.format(rows=", ".join("(%s, %s, %s, %s, %s, %s, %s)" for _ in part))
        await session.execute(sql, [value for row in part for value in row])
