"""Strategies for SQL programs: units of statements, what their session is like, and what the tailer does meanwhile.

In a statement {c} and {d} stand for two companies of the program's own, {f} for a file to load, {o} for another schema.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from hypothesis import strategies as st


class Meanwhile(StrEnum):
    """What the tailer does while a program runs."""

    RUNS = "runs"
    IS_DOWN = "is down"
    RESTARTS = "restarts"
    LOSES_ITS_STREAM = "loses its stream"


@dataclass(frozen=True, slots=True)
class Unit:
    """Statements of one session, between `before` and `after` outside of any transaction.

    `interlude` runs between an XA PREPARE and `outcome`, and commits first. `may_halt` says that it is right to stop here, whatever
    became of its rows: a DDL that could have changed values, a session that does not log rows.
    """

    statements: tuple[str, ...]
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    interlude: tuple[str, ...] = ()
    outcome: tuple[str, ...] = ()
    may_halt: bool = False

    @property
    def is_transaction(self) -> bool:
        """Whether all of `statements` commit together."""
        return self.statements[0].startswith(("START TRANSACTION", "XA START"))


@dataclass(frozen=True, slots=True)
class Program:
    """Units in order."""

    units: tuple[Unit, ...]
    meanwhile: Meanwhile


ODD = ["", "plain", "ü😀", "'quo\"te'", "back\\slash", "a\nb\tc", "\0", "日本", " lead and trail ", "%s {c}", "e\u0301", "x" * 200]
TEXTS = st.sampled_from(ODD) | st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
MONEY = st.decimals(-(10**13) + 1, 10**13 - 1, places=2).map(str) | st.sampled_from(["0", "-0.01", "9999999999999.99", "0.005"])
COUNTS = st.integers(1, 4)


def quoted(text: str) -> str:
    """A literal that no session's charset or mode changes."""
    return f"_utf8mb4 x'{text.encode().hex()}'" if text else "''"


TEXT = TEXTS.map(quoted)
LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=8)
JSON = TREES.map(lambda tree: f"CAST({quoted(json.dumps(tree))} AS JSON)") | st.sampled_from(
    [
        "JSON_OBJECT('a', CAST(1.50 AS DECIMAL(9,3)), 'big', REPEAT('y', 700), 'list', JSON_ARRAY(1, 2.0, '3'))",
        "JSON_ARRAY(TIME'-10:11:12.5', TIMESTAMP'2026-11-24 10:00:00.25', x'cafe', 18446744073709551615, -0.0)",
        "CAST('null' AS JSON)",
        "NULL",
    ]
)

ROW = st.builds(
    "({{c}}, {}, {}, {}, {}, {}, {})".format,
    TEXT,
    TEXT | st.just("NULL"),
    TEXT | st.integers(1, 60_000).map("REPEAT('z', {})".format),
    MONEY,
    st.integers(-(2**31), 2**31 - 1) | st.just("NULL"),
    st.sampled_from(["'customer'", "'supplier'", "'both'", "'no such'"]),
)
MOMENTS = ["2001-02-03 04:05:06.5", "0000-00-00 00:00:00", "1970-01-02 00:00:00", "2038-01-19 03:14:07.999999"]
_COLUMNS = "(company_id, name, phone, address, opening_balance, payment_terms_days, party_type)"
_SOME = "WHERE company_id = {{c}} ORDER BY id {} LIMIT {}".format
SOME = st.builds(_SOME, st.sampled_from(["", "DESC"]), COUNTS)


def _parties() -> list[st.SearchStrategy[str]]:
    values = st.lists(ROW, min_size=1, max_size=4).map(", ".join)
    settings = st.sampled_from(["phone = {0}", "name = {0}", "address = {0}, phone = NULL", "phone = phone"])
    return [
        values.map(f"INSERT INTO parties {_COLUMNS} VALUES {{}}".format),
        values.map(f"INSERT IGNORE INTO parties {_COLUMNS} VALUES {{}}".format),
        SOME.map("INSERT INTO parties (company_id, name, phone) SELECT company_id, LEFT(name, 99), 'copy' FROM parties {}".format),
        SOME.map("REPLACE INTO parties (id, company_id, name) SELECT id, company_id, LEFT(name, 99) FROM parties {}".format),
        st.builds(
            "INSERT INTO parties (id, company_id, name) SELECT * FROM (SELECT id, company_id, name FROM parties {}) s "
            "ON DUPLICATE KEY UPDATE parties.phone = {}, parties.credit_limit = parties.credit_limit + 0.25".format,
            SOME,
            TEXT,
        ),
        st.builds(lambda how, text, some: f"UPDATE parties SET {how.format(text)} {some}", settings, TEXT, SOME),
        st.builds("UPDATE parties SET opening_balance = {}, is_active = NOT is_active {}".format, MONEY, SOME),
        SOME.map("UPDATE parties SET deleted_at = CURRENT_TIMESTAMP(6) {}".format),
        SOME.map("UPDATE parties SET deleted_at = NULL {}".format),
        st.builds("UPDATE parties SET created_at = '{}' {}".format, st.sampled_from(MOMENTS), SOME),
        SOME.map("UPDATE parties SET id = id + 1000000 {}".format),
        SOME.map("UPDATE parties SET company_id = {{d}}, name = 'moved' {}".format),
        SOME.map("DELETE FROM parties {}".format),
        st.just("DELETE FROM parties WHERE company_id = {c} AND id % 2"),
    ]


def _others() -> list[st.SearchStrategy[str]]:
    edits = st.sampled_from(
        [
            "JSON_SET(value, '$.a', {0})",
            "JSON_SET(value, '$.list[9]', {0})",
            "JSON_REMOVE(value, '$.a', '$.list[0]')",
            "JSON_REPLACE(value, '$.big', {0})",
            "JSON_ARRAY_APPEND(value, '$.list', {0})",
            "{0}",
        ]
    )
    joined = "products p JOIN units_of_measure u ON u.company_id = p.company_id AND u.id = p.uom_id"
    return [
        st.builds("INSERT INTO units_of_measure (company_id, name, abbrev) VALUES ({{c}}, {}, {})".format, TEXT, TEXT),
        st.just("INSERT INTO units_of_measure (company_id, name) VALUES ({c}, 'trigger 1'), ({c}, 'trigger 2')"),
        st.just("LOAD DATA LOCAL INFILE '{f}' INTO TABLE units_of_measure CHARACTER SET utf8mb4 (name) SET company_id = {c}"),
        SOME.map("INSERT INTO products (company_id, name, uom_id) SELECT company_id, name, id FROM units_of_measure {}".format),
        TEXT.map("INSERT INTO products (company_id, name, sku) VALUES ({{c}}, 'p', {})".format),
        MONEY.map(f"UPDATE {joined} SET p.last_cost = {{}}, u.abbrev = CONCAT('x', p.id) WHERE p.company_id = {{{{c}}}}".format),
        st.just(f"DELETE p, u FROM {joined} WHERE p.company_id = {{c}}"),
        st.just("DELETE FROM units_of_measure WHERE company_id = {c} LIMIT 2"),
        st.builds("INSERT INTO settings (company_id, name, value) VALUES ({{c}}, {}, {})".format, TEXT, JSON),
        st.builds(lambda edit, value, some: f"UPDATE settings SET value = {edit.format(value)} {some}", edits, JSON, SOME),
        st.builds(
            "INSERT INTO payment_accounts (company_id, account_type, account_name, account_number) "
            "VALUES ({{c}}, 'bank', {}, {})".format,
            TEXT,
            TEXT,
        ),
        SOME.map("UPDATE payment_accounts SET account_number = NULL, ifsc_code = 'I', is_default = 1 {}".format),
        st.builds("UPDATE companies SET phone = {}, books_locked_until = '{}' WHERE id = {{c}}".format, TEXT, st.sampled_from(
            ["2026-11-24", "0000-00-00", "2024-02-30", "2026-00-00", "1000-01-01", "9999-12-31"])),
        st.just("CALL mixed({c})"),
    ]  # fmt: skip


WRITES = st.one_of(*_parties(), *_others())
_INSERTS = st.lists(ROW, min_size=1, max_size=3).map(", ".join).map(f"INSERT INTO parties {_COLUMNS} VALUES {{}}".format)


def _session(name: str, *values: str) -> list[tuple[str, str]]:
    return [(f"SET SESSION {name} = {value}", f"SET SESSION {name} = DEFAULT") for value in values]


HARMLESS = [
    *_session("binlog_transaction_compression", "ON"),
    *_session("binlog_row_value_options", "PARTIAL_JSON"),
    *_session("time_zone", "'+05:30'", "'-11:00'"),
    *_session("sql_mode", "''", "'ALLOW_INVALID_DATES'", "'ANSI_QUOTES'", "'NO_BACKSLASH_ESCAPES'"),
    *_session("timestamp", "1000000000.5", "2147483000"),
    *_session("foreign_key_checks", "0"),
    *_session("auto_increment_increment", "3"),
    *_session("binlog_rows_query_log_events", "OFF"),
    *_session("transaction_isolation", "'READ-COMMITTED'"),
    *((f"SET NAMES {charset}", "SET NAMES utf8mb4") for charset in ("latin1", "gbk", "utf8mb3")),
    ("SET gtid_next = 'AUTOMATIC:tag_of_a_program'", "SET gtid_next = 'AUTOMATIC'"),
]
HARMFUL = [
    *_session("binlog_row_image", "MINIMAL", "NOBLOB"),
    ("SET SESSION binlog_format = STATEMENT", "SET SESSION binlog_format = ROW"),
    ("SET SESSION binlog_format = MIXED", "SET SESSION binlog_format = ROW"),
    ("SET SESSION sql_log_bin = 0", "SET SESSION sql_log_bin = 1"),
]
PLAIN = st.lists(st.sampled_from(HARMLESS), max_size=2, unique=True)
SESSIONS = st.one_of(PLAIN, PLAIN, PLAIN, PLAIN, st.sampled_from(HARMFUL).map(lambda one: [one]))


SEED = Unit(
    (
        "START TRANSACTION",
        "INSERT INTO parties (company_id, name, address) VALUES ({c}, '1', 'a'), ({c}, '2', NULL), ({c}, '3', ''), ({d}, 'd', 'e')",
        "INSERT INTO units_of_measure (company_id, name) VALUES ({c}, 'kg'), ({c}, 'g')",
        "INSERT INTO products (company_id, name, uom_id) SELECT company_id, name, id FROM units_of_measure WHERE company_id = {c}",
        "INSERT INTO settings (company_id, name, value) "
        "VALUES ({c}, 's', JSON_OBJECT('a', 1, 'list', JSON_ARRAY(1, 2), 'big', REPEAT('y', 700)))",
        "INSERT INTO payment_accounts (company_id, account_type, account_name, account_number) VALUES ({c}, 'bank', 'b', '12')",
        "COMMIT",
    )
)
"""Rows for the rest of a program to find."""


@st.composite
def single(draw: Any) -> Unit:
    """Statements that each commit."""
    return _in(draw(SESSIONS), tuple(draw(st.lists(WRITES, min_size=1, max_size=3))))


@st.composite
def transaction(draw: Any) -> Unit:
    """BEGIN … COMMIT or ROLLBACK, with savepoints."""
    statements = ["START TRANSACTION"]
    for number, write in enumerate(draw(st.lists(WRITES, min_size=1, max_size=5))):
        undone = draw(st.sampled_from(["", "", "ROLLBACK TO s{}", "RELEASE SAVEPOINT s{}"]))
        statements += [f"SAVEPOINT s{number}", write, undone.format(number)] if undone else [write]
    return _in(draw(SESSIONS), (*statements, draw(st.sampled_from(["COMMIT", "COMMIT", "COMMIT", "ROLLBACK"]))))


@st.composite
def distributed(draw: Any) -> Unit:
    """An XA transaction, perhaps with another one between its PREPARE and its outcome."""
    writes = tuple(draw(st.lists(_INSERTS, max_size=3)))
    ending = draw(st.sampled_from(["XA COMMIT {x}", "XA COMMIT {x}", "XA ROLLBACK {x}", "XA COMMIT {x} ONE PHASE"]))
    phases = () if ending.endswith("PHASE") else ("XA PREPARE {x}",)
    between = ("INSERT INTO units_of_measure (company_id, name) VALUES ({c}, 'between')",) if phases and draw(st.booleans()) else ()
    unit = _in(draw(PLAIN), ("XA START {x}", *writes, "XA END {x}", *phases))
    return Unit(unit.statements, unit.before, unit.after, between, (ending,))


_DEFINITIONS = [
    ("ALTER TABLE parties ADD INDEX ix_tmp (phone)", "ALTER TABLE parties DROP INDEX ix_tmp", False),
    ("ALTER TABLE settings COMMENT = 'TRUNCATE, please'", "ANALYZE TABLE settings", False),
    ("ALTER TABLE parties ADD COLUMN secret INT DEFAULT 5 AFTER id", "ALTER TABLE parties DROP COLUMN secret", True),
    ("ALTER TABLE parties ADD COLUMN gen INT AS (LENGTH(name)) STORED FIRST", "ALTER TABLE parties DROP gen", True),
    ("ALTER TABLE settings MODIFY name VARCHAR(300) NOT NULL", "ALTER TABLE settings MODIFY name VARCHAR(255) NOT NULL", True),
    (
        "ALTER TABLE parties RENAME COLUMN phone TO tel, RENAME COLUMN email TO phone",
        "ALTER TABLE parties RENAME COLUMN phone TO email, RENAME COLUMN tel TO phone",
        True,
    ),
]
"""There, back, and whether it is right to halt on it."""


@st.composite
def definition(draw: Any) -> Unit:
    """DDL on a synced table, a write, and the way back."""
    there, back, may_halt = draw(st.sampled_from(_DEFINITIONS))
    return Unit((there, draw(_INSERTS), *draw(st.lists(WRITES, max_size=1)), back), may_halt=may_halt)


FOREIGN = st.sampled_from(
    [
        ("CREATE TABLE {o}.made AS SELECT * FROM parties", "ALTER TABLE {o}.made DROP COLUMN name", "DROP TABLE {o}.made"),
        ("INSERT INTO {o}.parties VALUES (1, 'not ours')", "TRUNCATE {o}.parties"),
        ("CREATE TEMPORARY TABLE tmp LIKE parties", "INSERT INTO tmp SELECT * FROM parties LIMIT 1", "DROP TEMPORARY TABLE tmp"),
        ("INSERT INTO beside VALUES (1, 'x') ON DUPLICATE KEY UPDATE a = CONCAT(a, 'y')", "DELETE FROM beside"),
        ("INSERT INTO {o}.unsafe VALUES (1)", "SET SESSION binlog_format = STATEMENT", "INSERT INTO {o}.unsafe VALUES (2)",
         "SET SESSION binlog_format = ROW", "DELETE FROM {o}.unsafe"),
    ]
).map(Unit)  # fmt: skip

UNITS = st.one_of(single(), single(), single(), transaction(), transaction(), transaction(), distributed(), FOREIGN, definition())
PROGRAMS = st.builds(Program, st.lists(UNITS, min_size=2, max_size=8).map(tuple), st.sampled_from(list(Meanwhile)))


def _in(session: list[tuple[str, str]], statements: tuple[str, ...]) -> Unit:
    is_harmful = any(one in HARMFUL for one in session)  # then a statement that found no row may be logged, too
    before, after = tuple(one for one, _ in session), tuple(one for _, one in reversed(session))
    return Unit(statements, before, after, may_halt=is_harmful)
