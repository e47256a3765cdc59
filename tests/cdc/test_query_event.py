"""Statements of the binlog: told apart by their first words; data logged as text halts where it may be ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdc.items import Rows
from cdc.query_event import Statement, classify
from schema.errors import Halt
from tests.cdc.conftest import Binlog, done

TABLE = "CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(300))"


@pytest.mark.parametrize(
    "statements",
    [
        ["INSERT INTO t VALUES (1, 'x')"],
        ["INSERT INTO t VALUES (1, 'x'), (2, UUID())"],
        ["BEGIN", "INSERT INTO t VALUES (1, 'x')", "COMMIT"],
        ["USE {other}", "UPDATE {ours}.t SET a = 'y'"],
        ["USE {other}", "DELETE FROM `{ours}` . t"],
        ["USE {other}", "SET sql_mode = 'ANSI_QUOTES'", 'INSERT INTO "{ours}"."t" VALUES (1, 2)'],
        ["USE {other}", "INSERT INTO o VALUES (1)"],
        ["USE {other}", "SET @a = 5", "INSERT INTO {ours}.t VALUES (@a, RAND())"],
        ["USE {other}", "SELECT 'only a read'", "CALL write_ours()"],
    ],
    ids=lambda statements: statements[-1],
)
def test_statement_format_on_our_schema_halts(binlog: Binlog, statements: list[str]) -> None:
    names = {"ours": binlog.database, "other": f"{binlog.database}_other"}
    binlog.run(
        TABLE,
        "INSERT INTO t VALUES (9, 'x')",
        "CREATE DATABASE {other}".format(**names),
        "CREATE TABLE {other}.o (id INT PRIMARY KEY)".format(**names),
        "CREATE TRIGGER {other}.to_ours AFTER INSERT ON {other}.o "
        "FOR EACH ROW INSERT INTO {ours}.t VALUES (NEW.id, 'trigger')".format(**names),
        "CREATE PROCEDURE {other}.write_ours() INSERT INTO {ours}.t VALUES (77, 'procedure')".format(**names),
    )
    binlog.mark()
    try:
        binlog.run("SET SESSION binlog_format = STATEMENT", *(statement.format(**names) for statement in statements))
        with pytest.raises(Halt, match="statement_format") as halt:
            binlog.items()
        assert halt.value.details["gtid"]
        assert "binlog_format = ROW" in halt.value.hint
    finally:
        binlog.run("DROP DATABASE {other}".format(**names))


def test_statement_format_on_other_schemas_goes_by(binlog: Binlog) -> None:
    other = f"{binlog.database}_other"
    binlog.run(TABLE, f"CREATE DATABASE {other}", f"CREATE TABLE {other}.o (id INT PRIMARY KEY, a VARCHAR(99))")
    binlog.mark()
    binlog.run(
        "SET SESSION binlog_format = STATEMENT",
        f"USE {other}",
        f"INSERT INTO o VALUES (1, '{binlog.database}.t is only a text')",
        f"UPDATE o SET a = 'x' /* {binlog.database}.t */",
        "BEGIN", "SET @x = 3", "DELETE FROM o WHERE id = @x", "INSERT INTO o VALUES (4, RAND())", "COMMIT",
        "SET SESSION binlog_format = ROW",
        f"INSERT INTO {binlog.database}.t VALUES (1, 'rows')",
    )  # fmt: skip
    items = binlog.items()
    assert done(items) == binlog.executed().subtract(binlog.start)
    assert [item.changes[0].after for item in items if isinstance(item, Rows)] == [(1, "rows")]
    binlog.run(f"DROP DATABASE {other}")


def test_load_data_in_statement_format_halts(binlog: Binlog, tmp_path: Path) -> None:
    loaded = tmp_path / "rows.tsv"
    loaded.write_text("1\tx\n")
    binlog.run(TABLE)
    binlog.mark()
    with binlog.open(local_infile=True) as connection, connection.cursor() as cursor:
        cursor.execute("SET GLOBAL local_infile = ON")
        cursor.execute("SET SESSION binlog_format = STATEMENT")
        cursor.execute(f"LOAD DATA LOCAL INFILE '{loaded}' INTO TABLE t")
        connection.commit()
    with pytest.raises(Halt, match="statement_format"):
        binlog.items()


@pytest.mark.parametrize(
    ("sql", "statement"),
    [
        ("BEGIN", Statement.BEGIN),
        ("begin", Statement.BEGIN),
        ("START TRANSACTION", Statement.BEGIN),
        ("COMMIT", Statement.COMMIT),
        ("ROLLBACK", Statement.ROLLBACK),
        ("ROLLBACK TO `a`", Statement.ROLLBACK_TO),
        ("SAVEPOINT `a`", Statement.SAVEPOINT),
        ("RELEASE SAVEPOINT `a`", Statement.RELEASE),
        ("XA START X'61',X'',1", Statement.XA_START),
        ("XA END X'61',X'',1", Statement.XA_END),
        ("XA COMMIT X'61',X'',1", Statement.XA_COMMIT),
        ("XA ROLLBACK X'61',X'',1", Statement.XA_ROLLBACK),
        ("/* a comment */ -- another\n CREATE TABLE t (a INT)", Statement.DDL),
        ("/*!50001 CREATE */ VIEW v AS SELECT 1", Statement.DDL),
        ("(SELECT 1)", Statement.DATA),
        ("WITH c AS (SELECT 1) DELETE FROM t", Statement.DATA),
        ("COMMITTED", Statement.DATA),
        ("CREATED", Statement.DATA),
        ("begin_table", Statement.DATA),
        ("", Statement.DATA),
        ("SET PASSWORD FOR u = 'x'", Statement.DDL),
        ("SET @a = 1", Statement.DATA),
        ("# c\nTRUNCATE t", Statement.DDL),
    ],
)
def test_statements_are_told_apart_by_their_first_words(sql: str, statement: Statement) -> None:
    assert classify(sql).statement is statement


@pytest.mark.parametrize(
    ("sql", "mode", "names"),
    [
        ("UPDATE app.t SET a = 1", 0, True),
        ("UPDATE `app`.t SET a = 1", 0, True),
        ("UPDATE APP . t SET a = 1", 0, True),
        ("UPDATE app/* x */.t SET a = 1", 0, True),
        ('UPDATE "app".t SET a = 1', 4, True),
        ('SET a = "app.t"', 0, False),
        ("UPDATE x SET a = 'app.t'", 0, False),
        ("UPDATE x SET a = 'it''s app.t'", 0, False),
        ("UPDATE x -- app.t\n SET a = 1", 0, False),
        ("UPDATE myapp.t SET a = 1", 0, False),
        ("UPDATE app2.t SET a = 1", 0, False),
        ("UPDATE x SET app = 1", 0, False),
        (r"UPDATE x SET a = 'it\'s', b = app.c", 0, True),
        ("/*!80000 UPDATE app.t SET a = 1 */", 0, True),
    ],
)
def test_a_schema_is_found_in_text_but_not_in_strings_and_comments(sql: str, mode: int, names: bool) -> None:
    assert classify(sql, schema="other", sql_mode=mode).may_write("app") is names
