"""`matrix-sync doctor --books`: what plain SQL broke is found and named; a sound book is ok."""

from __future__ import annotations

import json

from tests.cli.commands import run
from tests.servers import Database, Stack
from tests.sql_client import SqlClient


def findings(database: Database) -> tuple[int, dict[str, str]]:
    result = run(database, "doctor", "--books", "--json")
    return result.exit_code, {f["code"]: f["message"] for f in json.loads(result.stdout)["findings"]}


def test_what_plain_sql_broke_is_named_and_nothing_else(stack: Stack, database: Database, sql: SqlClient) -> None:
    tailer = stack.spawn("tail", environ=database.environ)
    company = sql.company()
    account = sql.run(f"INSERT INTO accounts (company_id, name, account_type) VALUES ({company}, 'Cash', 'asset')")
    sale = sql.run(f"INSERT INTO transactions (company_id, type, date, total_amount) VALUES ({company}, 'sale', '2026-05-01', 5)")
    line = f"INSERT INTO transaction_lines (company_id, transaction_id, line_amount) VALUES ({company}, {sale}, "
    entry = "INSERT INTO account_transactions (company_id, account_id, transaction_id, transaction_type, transaction_date, "
    entry_values = f") VALUES ({company}, {account}, {sale}, 'journalEntry', '2026-05-01', "
    sql.run(line + "5)", entry + "debit" + entry_values + "5)", entry + "credit" + entry_values + "5)")
    sql.wait_for_tailer()
    assert findings(database) == (0, {"books": "the books keep every accounting rule"})
    sql.run(f"UPDATE companies SET books_locked_until = '2026-05-31' WHERE id = {company}")
    odd = sql.run(entry + "debit" + entry_values + "-1)")
    sql.run(
        line + "1)",
        "SET SESSION foreign_key_checks = 0",
        f"UPDATE transactions SET party_id = 99 WHERE id = {sale}",
        "SET SESSION foreign_key_checks = 1",
        f"INSERT INTO payment_ins (company_id, receipt_no, receipt_date) VALUES ({company}, 'R1', '2026-06-01')",
    )
    sql.wait_for_tailer()
    code, found = findings(database)
    assert code == 3
    named = f"{sale} (company {company})"
    assert set(found) == {"books_unbalanced", "books_not_adding_up", "books_negative", "books_dangling", "books_locked_period"}
    assert named in found["books_unbalanced"] and named in found["books_not_adding_up"]
    assert f"{odd} (company {company})" in found["books_negative"]
    assert found["books_dangling"] == f"transactions whose party_id names no row: {named}"
    assert "payment_ins" not in found["books_locked_period"]
    tailer.stop()
