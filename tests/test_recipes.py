"""What the operators' page tells people to do by hand, done: its SQL is taken from the page."""

from __future__ import annotations

from pathlib import Path

from cdc.gtid import GtidSet
from tests.markdown import Document
from tests.servers import Database, Stack
from tests.sql_client import SqlClient

PAGE = Document(Path(__file__).resolve().parent.parent / "docs" / "operators.md")


def executed(sql: SqlClient) -> GtidSet:
    return GtidSet.parse(sql.value("SELECT @@GLOBAL.gtid_executed"))


def run_unseen(stack: Stack, database: Database, sql: SqlClient, statement: str) -> None:
    """Run a statement that the tailer passes over, as if its binlog had been purged."""
    before = executed(sql)
    sql.run(statement)
    gtid = str(executed(sql).subtract(before))
    skip = stack.spawn("checkpoint", "skip", "--gtid", gtid, "--reason", "a test", "--yes", environ=database.environ)
    assert skip.wait(30) == 0, skip.output()


def test_rows_that_the_tailer_never_saw_reach_devices_when_they_are_written_again(
    stack: Stack, database: Database, sql: SqlClient
) -> None:
    tail = stack.spawn("tail", environ=database.environ)
    company = sql.company()
    tea = sql.run(f"INSERT INTO products (company_id, name) VALUES ({company}, 'Tea')")
    mug = sql.run(f"INSERT INTO products (company_id, name) VALUES ({company}, 'Mug')")
    head = sql.wait_for_tailer()
    tail.stop()

    run_unseen(stack, database, sql, f"UPDATE products SET name = 'Green tea' WHERE id = {tea}")
    run_unseen(stack, database, sql, f"DELETE FROM products WHERE id = {mug}")

    tail = stack.spawn("tail", environ=database.environ)
    write_again, list_removed = PAGE.statements("Writing rows again")
    sql.run(write_again)
    assert sql.rows(list_removed) == [(company, mug)]
    sql.run(
        f"INSERT INTO products (id, company_id, name) VALUES ({mug}, {company}, 'Mug')",
        f"DELETE FROM products WHERE id = {mug}",
    )
    sql.wait_for_tailer()
    tail.stop()
    told = [(c["operation"], c["record_id"]) for c in sql.changes(company) if c["version"] > head]
    assert told == [("UPDATE", tea), ("INSERT", mug), ("DELETE", mug)]
    assert sql.rows(list_removed) == []
