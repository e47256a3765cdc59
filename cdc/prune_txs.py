"""Takes out what surrounds changes that are gone: pushes as they were sent, transactions, and who caused them.

A push is kept as long as something may ask for it: what was refused or merged for ever, since nothing pushed is dropped, and with
it the later try that was taken; what made
a record as long as the change log knows that record, since its INSERT may come again; the rest until the tombstones of its time
go, since a device may send it again until then and must meet the same verdict. A transaction is kept as long as a change or a
push of it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pymysql.connections import Connection

from cdc.change_row import RecordKey
from cdc.sql import literal
from cdc.stored import read_live

WATERMARKS_KEPT = 10_000

_READ_TXS = "SELECT tx, origin_id, first_version, last_version, commit_time_us FROM sync_tx WHERE {which} ORDER BY tx LIMIT %s"
_HAS_CHANGES = "SELECT 1 FROM sync_changes WHERE version BETWEEN %s AND %s LIMIT 1"
_HAS_PUSHES = "SELECT 1 FROM sync_pushed WHERE origin_id = %s LIMIT 1"
_IS_DONE = """p.status IN ('applied', 'noop', 'duplicate') AND NOT EXISTS (SELECT 1 FROM sync_pushed r
    WHERE r.company_id = p.company_id AND r.status = 'rejected' AND r.device_id = p.device_id AND r.fingerprint = p.fingerprint)"""
"""Nobody has to ask for it: it took effect, and says of no earlier try that it was mended."""
_READ_PUSHES = f"""
SELECT p.id, p.company_id, p.table_name, p.record_id, p.is_maker FROM sync_pushed p
WHERE p.origin_id IN ({{origins}}) AND {_IS_DONE}
"""
_READ_PUSHES_OF_RECORDS = f"""
SELECT p.id, t.tx FROM sync_pushed p JOIN sync_tx t ON t.origin_id = p.origin_id
WHERE (p.company_id, p.table_name, p.record_id) IN ({{keys}}) AND {_IS_DONE} AND t.last_version <= %s
"""
_DELETE_PUSHES = "DELETE FROM sync_pushed WHERE id IN ({ids})"
_DELETE_TXS = "DELETE FROM sync_tx WHERE tx IN ({ids})"
_DELETE_ORIGINS = "DELETE FROM sync_origins WHERE id IN ({ids})"
_READ_LAST_WATERMARK = "SELECT MAX(id) FROM sync_watermarks"
_DELETE_WATERMARKS = "DELETE FROM sync_watermarks WHERE id <= %s ORDER BY id LIMIT 1000"


@dataclass(frozen=True, slots=True)
class OldTx:
    """What of a row of sync_tx says whether it may go."""

    number: int
    origin_id: int | None
    first_version: int | None
    last_version: int
    commit_time_us: int


def read_next_txs(connection: Connection[Any], after: int, last_version: int, newest: int, count_max: int) -> list[OldTx]:
    """The transactions after a number, up to a version; the newest one of all is never among them."""
    with connection.cursor() as cursor:
        cursor.execute(_READ_TXS.format(which="tx > %s AND tx < %s"), (after, newest, count_max))
        found = [OldTx(*row) for row in cursor.fetchall()]
    return [tx for tx in found if tx.last_version <= last_version]


def read_txs_of(connection: Connection[Any], numbers: Iterable[int], up_to: int) -> list[OldTx]:
    """These transactions, as far as retention has walked past them."""
    wanted = sorted({number for number in numbers if number <= up_to})
    if not wanted:
        return []
    with connection.cursor() as cursor:
        cursor.execute(_READ_TXS.format(which=f"tx IN ({_list(wanted)})"), (len(wanted),))
        return [OldTx(*row) for row in cursor.fetchall()]


def prune_pushes(connection: Connection[Any], txs: Iterable[OldTx]) -> int:
    """Delete what these transactions pushed, as far as nothing can ask for it. Returns how many."""
    origins = [tx.origin_id for tx in txs if tx.origin_id is not None]
    if not origins:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(_READ_PUSHES.format(origins=_list(origins)))
        pushes = list(cursor.fetchall())
    known = read_live(connection, [(company, table, record) for _, company, table, record, is_maker in pushes if is_maker])
    ids = [pushed for pushed, *key, is_maker in pushes if not (is_maker and tuple(key) in known)]
    return _delete(connection, _DELETE_PUSHES, ids)


def prune_pushes_of(connection: Connection[Any], records: Sequence[RecordKey], last_version: int) -> tuple[int, set[int]]:
    """Delete what was pushed up to a version of records that the change log no longer knows. Returns how many, and their txs."""
    if not records:
        return 0, set()
    keys = ",".join(f"({company},{literal(table)},{record})" for company, table, record in records)
    with connection.cursor() as cursor:
        cursor.execute(_READ_PUSHES_OF_RECORDS.format(keys=keys), (last_version,))
        pushes = list(cursor.fetchall())
    return _delete(connection, _DELETE_PUSHES, [pushed for pushed, _ in pushes]), {tx for _, tx in pushes}


def prune_txs(connection: Connection[Any], txs: Iterable[OldTx]) -> list[OldTx]:
    """Delete those of these transactions that have no change and no push left, with their origins. Returns them."""
    empty = [tx for tx in txs if not _is_needed(connection, tx)]
    _delete(connection, _DELETE_TXS, [tx.number for tx in empty])
    _delete(connection, _DELETE_ORIGINS, [tx.origin_id for tx in empty if tx.origin_id is not None])
    return empty


def prune_watermarks(connection: Connection[Any]) -> int:
    """Delete old watermarks: they are read in the binlog, the table only makes them events. Returns how many."""
    with connection.cursor() as cursor:
        cursor.execute(_READ_LAST_WATERMARK)
        row = cursor.fetchone()
        last = row[0] if row else None
        return int(cursor.execute(_DELETE_WATERMARKS, (last - WATERMARKS_KEPT,))) if last and last > WATERMARKS_KEPT else 0


def _is_needed(connection: Connection[Any], tx: OldTx) -> bool:
    with connection.cursor() as cursor:
        if tx.first_version is not None and cursor.execute(_HAS_CHANGES, (tx.first_version, tx.last_version)):
            return True
        return tx.origin_id is not None and bool(cursor.execute(_HAS_PUSHES, (tx.origin_id,)))


def _delete(connection: Connection[Any], sql: str, ids: Sequence[int]) -> int:
    if not ids:
        return 0
    with connection.cursor() as cursor:
        return int(cursor.execute(sql.format(ids=_list(ids))))


def _list(ids: Iterable[int]) -> str:
    return ",".join(map(str, ids))
