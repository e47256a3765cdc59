"""A backlog for the tailer: books written by plain SQL in two shapes, each transaction with its origin row.

`SINGLE`: ten one-row statements a transaction, as the API and most programs write: inserts, updates of hot and of new rows, soft
and hard deletes. `BULK`: one statement of a thousand rows a transaction: inserts, updates, deletes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import pymysql
from pymysql.constants import CLIENT

from schema.settings import Settings

SINGLE, BULK = "one-row statements", "1,000-row statements"
ROWS_PER_TX: Final = 10
ROWS_PER_STATEMENT: Final = 1000
_PARTIES, _PRODUCTS, _ACCOUNTS = 300, 500, 40
_WORDS: Final = ("rice", "flour", "sugar", "tea", "coffee", "soap", "oil", "paper", "battery", "café", "naïve", "“best”", "日本茶")
_ORIGIN: Final = (
    "INSERT INTO sync_origins (kind, company_id, device_id, user_id, request_id, push_id) "
    "VALUES ('device', {company}, 'till-{till}', {user}, 'request-{n}', 'push-{n}')"
)
_POSTINGS: Final = (
    "INSERT INTO account_transactions (id, company_id, account_id, transaction_type, reference_id, transaction_id, "
    "transaction_date, debit, credit, description, reference_no, party_id) VALUES"
)
_QUICK: Final = ("SET GLOBAL sync_binlog = 0", "SET GLOBAL innodb_flush_log_at_trx_commit = 2")
_DURABLE: Final = ("SET GLOBAL sync_binlog = 1", "SET GLOBAL innodb_flush_log_at_trx_commit = 1")


@dataclass(frozen=True, slots=True)
class Books:
    """Ids of what the lines refer to; numbers count up from there."""

    company: int
    user: int


class BacklogWriter:
    """Writes as fast as one session can; what is written is durable again when it is done."""

    def __init__(self, settings: Settings, seed: int = 1) -> None:
        address = settings.admin()
        self._connection: Any = pymysql.connect(
            host=address.host,
            port=address.port,
            user=address.user,
            password=address.password,
            database=address.database,
            unix_socket=address.socket,
            autocommit=True,
            client_flag=CLIENT.MULTI_STATEMENTS,
            init_command="SET SESSION time_zone = '+00:00'",
        )
        self._chance = random.Random(seed)
        self._next = 1_000_000
        self.books = self._open_books()

    def close(self) -> None:
        self._connection.close()

    def write(self, shape: str, rows: int) -> int:
        """Write about `rows` rows of synced tables; returns how many."""
        with self._quick():
            written = 0
            statements = self._single() if shape == SINGLE else self._bulk()
            while written < rows:
                written += self._run(["BEGIN", *next(statements), "COMMIT"])
        return written

    @contextmanager
    def _quick(self) -> Iterator[None]:
        self._run(_QUICK)
        try:
            yield
        finally:
            self._run(_DURABLE)

    def _run(self, statements: Any) -> int:
        """Run statements in one round trip; returns the rows of synced tables that they wrote."""
        connection = self._connection
        connection.query(";".join(statements))
        touched = connection.affected_rows() if statements[0] != "BEGIN" else 0
        while connection._result is not None and connection._result.has_next:
            connection.next_result()
            touched += connection.affected_rows()
        return int(touched - (statements[0] == "BEGIN"))  # without the origin

    def _open_books(self) -> Books:
        cursor = self._connection.cursor()
        cursor.execute("INSERT INTO companies (name) VALUES ('Kiosk & Söhne')")
        company = int(cursor.lastrowid)
        cursor.execute(f"INSERT INTO users (company_id, full_name) VALUES ({company}, 'Ann')")
        user = int(cursor.lastrowid)
        for table, columns, count in (
            ("parties", "'Customer {}'", _PARTIES),
            ("products", "'Product {}'", _PRODUCTS),
        ):
            values = ",".join(f"({n},{company},{columns.format(n)})" for n in range(1, count + 1))
            cursor.execute(f"INSERT INTO {table} (id, company_id, name) VALUES {values}")
        values = ",".join(f"({n},{company},'Account {n}','asset')" for n in range(1, _ACCOUNTS + 1))
        cursor.execute(f"INSERT INTO accounts (id, company_id, name, account_type) VALUES {values}")
        return Books(company, user)

    def _id(self) -> int:
        self._next += 1
        return self._next

    def _money(self) -> str:
        return f"{self._chance.randrange(1, 2_000_000) / 100:.2f}"

    def _words(self) -> str:
        return " ".join(self._chance.choices(_WORDS, k=self._chance.randrange(2, 6)))

    def _origin(self, n: int) -> str:
        return _ORIGIN.format(company=self.books.company, user=self.books.user, till=n % 20, n=n)

    def _single(self) -> Iterator[list[str]]:
        company, chance = self.books.company, self._chance
        while True:
            number, day = self._id(), f"2026-{chance.randrange(1, 13):02d}-{chance.randrange(1, 29):02d}"
            party, product = chance.randrange(1, _PARTIES + 1), chance.randrange(1, _PRODUCTS + 1)
            lines = [self._line(number, product) for _ in range(2)]
            postings = [self._posting(number, day, party) for _ in range(3)]
            yield [
                self._origin(number),
                "INSERT INTO transactions (id, company_id, type, date, reference_no, party_id, description, total_amount, "
                f"created_by_user_id) VALUES ({number}, {company}, 'sale', '{day}', 'S-{number}', {party}, "
                f"'{self._words()}', {self._money()}, {self.books.user})",
                *(text for _, text in lines),
                *(text for _, text in postings),
                f"UPDATE products SET last_cost = {self._money()} WHERE id = {product}",
                f"UPDATE parties SET opening_balance = opening_balance + {self._money()} WHERE id = {party}",
                f"UPDATE account_transactions SET description = '{self._words()}', credit = credit + 1 WHERE id = {postings[0][0]}",
                f"UPDATE transaction_lines SET deleted_at = NOW(6) WHERE id = {lines[0][0]}"
                if number % 2
                else f"DELETE FROM transaction_lines WHERE id = {lines[0][0]}",
            ]

    def _line(self, number: int, product: int) -> tuple[int, str]:
        line = self._id()
        return line, (
            "INSERT INTO transaction_lines (id, company_id, transaction_id, product_id, description, quantity, unit_price, "
            f"line_amount) VALUES ({line}, {self.books.company}, {number}, {product}, '{self._words()}', "
            f"{self._chance.randrange(1, 20)}, {self._money()}, {self._money()})"
        )

    def _posting(self, number: int, day: str, party: int) -> tuple[int, str]:
        posting = self._id()
        return posting, (f"{_POSTINGS} {self._values(posting, number, day, party)}")

    def _values(self, posting: int, number: int, day: str, party: int) -> str:
        account = self._chance.randrange(1, _ACCOUNTS + 1)
        return (
            f"({posting}, {self.books.company}, {account}, 'saleInvoice', {number}, NULL, '{day}', {self._money()}, 0, "
            f"'{self._words()}', 'S-{number}', {party})"
        )

    def _bulk(self) -> Iterator[list[str]]:
        while True:
            first = self._next + 1
            values = [
                self._values(self._id(), first, f"2026-{1 + n % 12:02d}-{1 + n % 28:02d}", 1 + n % _PARTIES)
                for n in range(ROWS_PER_STATEMENT)
            ]
            last = self._next
            yield [
                self._origin(self._id()),
                f"{_POSTINGS} {','.join(values)}",
            ]
            where = f"WHERE id BETWEEN {first} AND {last}"
            update = f"UPDATE account_transactions SET description = 'checked', credit = credit + 1 {where}"
            yield [self._origin(self._id()), update]
            if self._chance.random() < 0.2:
                yield [self._origin(self._id()), f"DELETE FROM account_transactions {where}"]
