"""A change log made inside MySQL, as long as is wanted: what the tailer would have appended, without its work.

The tailer is stopped meanwhile and goes on from the new head afterwards. Nothing of it is in the binlog.
"""

from __future__ import annotations

from tests.bench.lab import Lab
from tests.sql_client import SqlClient

STEP = 1_000_000
"""Changes a statement."""
CHANGES_PER_TX = 10
_NUMBERS = """
INSERT INTO bench_numbers WITH digits AS ({digits}) SELECT a.d * 100 + b.d * 10 + c.d FROM digits a, digits b, digits c
"""
_DIGITS = "SELECT 0 AS d UNION ALL " + " UNION ALL ".join(f"SELECT {d}" for d in range(1, 10))
# Record n MOD records in its turn, or a skewed choice: few records change often, most have their newest version far back.
_IN_TURN = "(n % {records})"
_SKEWED = "IF(n < {records}, n, FLOOR({records} * POW(CRC32(n) / 4294967296, 3)))"
_CHANGES = """
INSERT INTO sync_changes (company_id, version, table_name, record_id, operation, data, `before`, timestamp, tx, origin, chain)
SELECT {company}, {head} + 1 + n, 'products', {first} + r, IF(n < {records}, 'INSERT', 'UPDATE'),
    CONCAT('{{"id":', {first} + r, ',"company_id":{company},"sku":"S-', {first} + r, '","name":"Product no. ', r, ' of the range",',
        '"description":null,"category_id":null,"uom_id":null,"is_tracked":true,"last_cost":"', n % 90, '.00","sale_price":"',
        n % 120, '.50","opening_qty":"0.000","is_active":true,"created_at":"2026-01-01T08:00:00.584003Z",',
        '"updated_at":"2026-02-01T08:00:00.584003Z","deleted_at":null}}'),
    IF(n < {records}, NULL, CONCAT('{{"sale_price":"', n % 110, '.50"}}')), '2026-02-01T08:00:00.587632Z',
    {tx} + n DIV {per_tx}, 'external', UNHEX(SHA2(n, 256))
FROM (SELECT n, {record} AS r FROM (
    SELECT STRAIGHT_JOIN a.i * 1000 + b.i + {begin} AS n FROM bench_numbers a JOIN bench_numbers b
    WHERE a.i * 1000 + b.i + {begin} < {end} ORDER BY a.i, b.i) numbered) chosen
"""
_LIVE = """
INSERT INTO sync_live (company_id, table_name, record_id, version, is_deleted)
SELECT company_id, table_name, record_id, MAX(version), 0 FROM sync_changes
WHERE company_id = {company} AND version > {head} GROUP BY company_id, table_name, record_id
"""


def generate(lab: Lab, company_id: int, changes: int, records: int, *, is_skewed: bool = False) -> tuple[int, int]:
    """Append so many changes of so many products to a company that has none; returns the heads before and after."""
    head = lab.caught_up()
    lab.tail.stop()
    sql = lab.sql
    sql.run("SET SESSION sql_log_bin = 0, SESSION unique_checks = 0")
    _make_numbers(sql)
    first = int(sql.value("SELECT COALESCE(MAX(record_id), 0) + 1 FROM sync_live WHERE table_name = 'products'"))
    names = {"company": company_id, "head": head, "records": records, "first": first, "per_tx": CHANGES_PER_TX}
    names["tx"] = int(sql.value("SELECT tx + 1 FROM sync_state"))
    record = (_SKEWED if is_skewed else _IN_TURN).format(records=records)
    for begin in range(0, changes, STEP):
        sql.run(_CHANGES.format(**names, record=record, begin=begin, end=min(begin + STEP, changes)))
    sql.run(
        _LIVE.format(**names),
        # With the hash that stands at the head: another one would tell the tailer that MySQL's past was replaced.
        f"UPDATE sync_state SET head = head + {changes}, tx = tx + {-(-changes // CHANGES_PER_TX)}, "
        f"chain = (SELECT chain FROM sync_changes WHERE company_id = {company_id} AND version = {head + changes})",
        "SET SESSION sql_log_bin = 1, SESSION unique_checks = 1",
    )
    sql.rows("ANALYZE TABLE sync_changes, sync_live")
    lab.tail.start()
    return head, lab.caught_up()


def _make_numbers(sql: SqlClient) -> None:
    if not sql.rows("SHOW TABLES LIKE 'bench_numbers'"):
        sql.run(
            "CREATE TABLE bench_numbers (i INT PRIMARY KEY)",
            _NUMBERS.format(digits=_DIGITS),
        )
