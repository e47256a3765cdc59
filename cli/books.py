"""`matrix-sync doctor --books`: what plain SQL did to the books that push and the data endpoints would have refused.

Plain SQL is only observed, so nothing here is repaired: each finding names the rows, and people decide.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pymysql.connections import Connection

from cdc.findings import Finding, Level
from schema.rules import DATE_COLUMNS
from schema.tables import TABLES

ROWS_NAMED_MAX = 20

_UNBALANCED = """
SELECT t.company_id, t.id FROM transactions t
JOIN account_transactions a ON a.company_id = t.company_id AND a.transaction_id = t.id AND a.deleted_at IS NULL
WHERE t.deleted_at IS NULL GROUP BY t.company_id, t.id HAVING SUM(a.debit) <> SUM(a.credit) LIMIT %s
"""
_NOT_ADDING_UP = """
SELECT t.company_id, t.id FROM transactions t
JOIN transaction_lines l ON l.company_id = t.company_id AND l.transaction_id = t.id AND l.deleted_at IS NULL
WHERE t.deleted_at IS NULL AND t.is_posted
GROUP BY t.company_id, t.id, t.total_amount HAVING ABS(SUM(l.line_amount) - t.total_amount) > 0.01 * COUNT(*) LIMIT %s
"""
_NEGATIVE = """
SELECT company_id, id FROM account_transactions
WHERE deleted_at IS NULL AND (debit < 0 OR credit < 0 OR (debit <> 0 AND credit <> 0)) LIMIT %s
"""
_DANGLING = """
SELECT c.company_id, c.id FROM `{table}` c
LEFT JOIN `{target}` p ON p.company_id = c.company_id AND p.id = c.`{column}`
WHERE c.deleted_at IS NULL AND c.`{column}` IS NOT NULL AND p.id IS NULL LIMIT %s
"""
_HEADLESS = """
SELECT c.company_id, c.id FROM `{table}` c JOIN `{target}` p ON p.company_id = c.company_id AND p.id = c.`{column}`
WHERE c.deleted_at IS NULL AND p.deleted_at IS NOT NULL LIMIT %s
"""
_LOCKED = """
SELECT c.company_id, c.record_id FROM sync_changes c
JOIN companies k ON k.id = c.company_id AND k.books_locked_until IS NOT NULL
WHERE c.origin = 'external' AND c.table_name = %s AND JSON_VALUE(c.data, %s) <= k.books_locked_until
    AND c.version > (
        SELECT COALESCE(MAX(l.version), 0) FROM sync_changes l
        WHERE l.company_id = c.company_id AND l.table_name = 'companies'
            AND (l.operation = 'INSERT' OR JSON_CONTAINS_PATH(l.`before`, 'one', '$.books_locked_until')))
LIMIT %s
"""


def examine_books(connection: Connection[Any]) -> Iterator[Finding]:
    """Yield a finding for each kind of breach there is, and one ok where there is none."""
    found = [*_amounts(connection), *_references(connection), *_locked_periods(connection)]
    yield from found or [Finding(Level.OK, "books", "the books keep every accounting rule", "")]


def _amounts(connection: Connection[Any]) -> Iterator[Finding]:
    yield from _finding(connection, "books_unbalanced", "transactions whose debits and credits differ", _UNBALANCED)
    yield from _finding(
        connection, "books_not_adding_up", "posted transactions whose lines do not add up to the total", _NOT_ADDING_UP
    )
    yield from _finding(connection, "books_negative", "journal entries that are negative, or debit and credit at once", _NEGATIVE)


def _references(connection: Connection[Any]) -> Iterator[Finding]:
    for table in TABLES.values():
        for column, target in table.references.items():
            names = {"table": table.name, "target": target, "column": column}
            what = f"{table.name} whose {column} names no row"
            yield from _finding(connection, "books_dangling", what, _DANGLING.format(**names))
        if table.head is not None:
            names = {"table": table.name, "target": table.references[table.head], "column": table.head}
            what = f"live {table.name} of a deleted document"
            yield from _finding(connection, "books_headless", what, _HEADLESS.format(**names))


def _locked_periods(connection: Connection[Any]) -> Iterator[Finding]:
    for table, column in DATE_COLUMNS.items():
        what = f"{table} that plain SQL wrote in a locked period"
        yield from _finding(connection, "books_locked_period", what, _LOCKED, table, f"$.{column}")


def _finding(connection: Connection[Any], code: str, what: str, sql: str, *params: str) -> Iterator[Finding]:
    with connection.cursor() as cursor:
        cursor.execute(sql, (*params, ROWS_NAMED_MAX + 1))
        rows = cursor.fetchall()
    connection.commit()
    if rows:
        named = ", ".join(f"{record_id} (company {company_id})" for company_id, record_id in rows[:ROWS_NAMED_MAX])
        more = " and more" if len(rows) > ROWS_NAMED_MAX else ""
        yield Finding(
            Level.WARNING, code, f"{what}: {named}{more}", "`matrix-sync explain` says who wrote them; correct them by new entries"
        )
