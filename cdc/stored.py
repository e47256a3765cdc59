"""What the change log holds of a stretch of the past: rows of sync_tx, sync_changes and sync_live, as the tailer stored them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pymysql.connections import Connection

from cdc.change_row import ChangeRow, RecordKey
from cdc.log_rows import CHANGE_COLUMNS, TX_COLUMNS
from cdc.sql import literal
from schema.versions import EMPTY_HEAD, n_of

FIRST_CHAIN = bytes(32)
"""The chain hash before the first change."""
KEYS_PER_QUERY_MAX = 1000

Maker = tuple[str, str]
"""device_id, local_id."""

_READ_TXS = (
    f"SELECT {TX_COLUMNS} FROM sync_tx WHERE epoch IN (SELECT epoch FROM sync_epochs) AND gtid IN ({{gtids}}) ORDER BY epoch"
)
_READ_TXS_BETWEEN = f"SELECT {TX_COLUMNS} FROM sync_tx WHERE tx BETWEEN %s AND %s ORDER BY tx"
_READ_CHANGES = f"SELECT {CHANGE_COLUMNS} FROM sync_changes WHERE version BETWEEN %s AND %s ORDER BY version"
_READ_NEXT_CHANGES = (
    f"SELECT {CHANGE_COLUMNS} FROM sync_changes FORCE INDEX (sync_changes_version) "
    "WHERE version > %s AND version <= %s ORDER BY version LIMIT %s"
)
_READ_THESE_CHANGES = f"SELECT {CHANGE_COLUMNS} FROM sync_changes WHERE version IN ({{versions}})"
_READ_CHAIN = """
SELECT chain FROM sync_changes WHERE version = %s UNION ALL SELECT chain_after FROM sync_pruned WHERE last_version = %s
"""
_READ_LAST_CHAIN = """
(SELECT version, chain FROM sync_changes WHERE version < %s ORDER BY version DESC LIMIT 1)
UNION ALL (SELECT last_version, chain_after FROM sync_pruned WHERE last_version < %s ORDER BY last_version DESC LIMIT 1)
"""
_READ_NEWEST_BEFORE = """
SELECT table_name, record_id, MAX(version) FROM sync_changes
WHERE company_id = %s AND version < %s AND for_device IS NULL AND (table_name, record_id) IN ({keys}) GROUP BY table_name, record_id
"""
_READ_LIVE = """
SELECT company_id, table_name, record_id, version, is_deleted, device_id, local_id FROM sync_live
WHERE (company_id, table_name, record_id) IN ({keys})
"""


@dataclass(frozen=True, slots=True)
class TxRow:
    """A row of sync_tx: `first_version` is None where it changed nothing synced, `last_version` the head after it."""

    tx: int
    epoch: int
    gtid: str
    server_id: int
    commit_time_us: int
    file: str
    pos: int
    origin: str
    origin_id: int | None
    first_version: int | None
    last_version: int
    statement: str | None

    def values(self) -> tuple[Any, ...]:
        """The columns in the order of TX_COLUMNS."""
        return tuple(getattr(self, name) for name in self.__slots__)

    @property
    def head_before(self) -> int:
        """The head before it: its own versions are those after, up to `last_version`."""
        return self.last_version if self.first_version is None else self.first_version - 1


@dataclass(frozen=True, slots=True)
class StoredChange:
    """A row of sync_changes with its chain hash."""

    row: ChangeRow
    chain: bytes

    def follows(self, chain: bytes) -> bool:
        """Whether the hash is that of this row after the row whose hash is `chain`: then nobody has changed it."""
        return self.row.chained(chain) == self.chain


@dataclass(frozen=True, slots=True)
class LiveRow:
    """A row of sync_live."""

    version: int
    is_deleted: bool
    maker: Maker | None


def read_txs(connection: Connection[Any], gtids: Sequence[str]) -> list[TxRow]:
    """The recorded txs of these GTIDs, older epochs first: a server whose binlog was reset counts from 1 again."""
    if not gtids:
        return []
    return [TxRow(*row) for row in _fetch(connection, _READ_TXS.format(gtids=",".join(map(literal, gtids))))]


def read_txs_between(connection: Connection[Any], first: int, last: int) -> list[TxRow]:
    """The recorded txs of these numbers."""
    return [TxRow(*row) for row in _fetch(connection, _READ_TXS_BETWEEN, (first, last))]


def read_changes(connection: Connection[Any], first: int, last: int) -> dict[int, StoredChange]:
    """The changes from version `first` to `last` that are there, by version."""
    return _by_version(_fetch(connection, _READ_CHANGES, (first, last)))


def read_next_changes(connection: Connection[Any], after: int, last: int, count_max: int) -> list[StoredChange]:
    """The next changes that are there, in order."""
    return list(_by_version(_fetch(connection, _READ_NEXT_CHANGES, (after, last, count_max))).values())


def read_these_changes(connection: Connection[Any], versions: Sequence[int]) -> dict[int, StoredChange]:
    """Those of these changes that are there, by version."""
    if not versions:
        return {}
    return _by_version(_fetch(connection, _READ_THESE_CHANGES.format(versions=",".join(map(str, versions)))))


def read_chain(connection: Connection[Any], version: int) -> bytes | None:
    """The chain hash at a version, be its change kept or pruned; None where it can't be told.

    Place 0 of an epoch is no change: there the chain stands where the epoch before it ended.
    """
    if version <= EMPTY_HEAD:
        return FIRST_CHAIN
    if n_of(version) > 0:
        rows = _fetch(connection, _READ_CHAIN, (version, version))
        return rows[0][0] if rows else None
    before = _fetch(connection, _READ_LAST_CHAIN, (version, version))
    return max(before)[1] if before else FIRST_CHAIN


def read_newest_before(connection: Connection[Any], keys: Iterable[RecordKey], version: int) -> dict[RecordKey, StoredChange]:
    """The newest change of each record below a version. Walks the history of the records' companies: there is no index."""
    by_company: dict[int, list[RecordKey]] = {}
    for key in sorted(set(keys)):
        by_company.setdefault(key[0], []).append(key)
    found: dict[RecordKey, StoredChange] = {}
    for company, wanted in by_company.items():
        for start in range(0, len(wanted), KEYS_PER_QUERY_MAX):
            text = ",".join(f"({literal(table)},{record})" for _, table, record in wanted[start : start + KEYS_PER_QUERY_MAX])
            for table, record, newest in _fetch(connection, _READ_NEWEST_BEFORE.format(keys=text), (company, version)):
                change = read_changes(connection, newest, newest).get(newest)
                if change is not None:  # retention may have pruned it since
                    found[company, table, record] = change
    return found


def read_live(connection: Connection[Any], keys: Iterable[RecordKey]) -> dict[RecordKey, LiveRow]:
    """What sync_live has of these records."""
    wanted = sorted(set(keys))
    found: dict[RecordKey, LiveRow] = {}
    for start in range(0, len(wanted), KEYS_PER_QUERY_MAX):
        part = wanted[start : start + KEYS_PER_QUERY_MAX]
        text = ",".join(f"({company},{literal(table)},{record})" for company, table, record in part)
        for company, table, record, version, is_deleted, device, local in _fetch(connection, _READ_LIVE.format(keys=text)):
            maker = (device, local) if device is not None else None
            found[company, table, record] = LiveRow(version, bool(is_deleted), maker)
    return found


def _by_version(rows: Iterable[tuple[Any, ...]]) -> dict[int, StoredChange]:
    found = {}
    for *values, chain in rows:
        row = ChangeRow(*values)
        row = row._replace(is_exact=bool(row.is_exact))  # the chain is made over the tailer's values, and MySQL has no booleans
        found[row.version] = StoredChange(row, chain)
    return found


def _fetch(connection: Connection[Any], query: str, params: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query, params)
        return list(cursor.fetchall())
