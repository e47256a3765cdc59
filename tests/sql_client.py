"""A plain SQL client: what an external tool, or a person at a prompt, does to the books."""

from __future__ import annotations

import time
from typing import Any, Self

import pymysql
from pymysql.constants import CLIENT

from schema.settings import Settings

WAIT_SECONDS = 20


class SqlClient:
    """Autocommit, the administrator's account, text values as Python's types."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        address = settings.admin()
        self.connection = pymysql.connect(
            host=address.host,
            port=address.port,
            user=address.user,
            password=address.password,
            unix_socket=address.socket,
            ssl_disabled=address.socket is not None,  # PyMySQL's TLS costs 80 ms of CPU a connection
            database=address.database,
            autocommit=True,
            local_infile=True,
            client_flag=CLIENT.FOUND_ROWS,
            init_command="SET SESSION time_zone = '+00:00'",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def run(self, *statements: str) -> int:
        """Run statements one by one; returns the last one's AUTO_INCREMENT value."""
        with self.connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return int(cursor.lastrowid)

    def rows(self, query: str, *params: Any) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with self.connection.cursor() as cursor:
            cursor.execute(query, params or None)
            return list(cursor.fetchall())

    def value(self, query: str, *params: Any) -> Any:
        """The one value of a query."""
        return self.rows(query, *params)[0][0]

    def company(self, name: str = "Books & Co") -> int:
        """A new company's id."""
        return self.run(f"INSERT INTO companies (name) VALUES ('{name}')")

    def wait_for_tailer(self, seconds: float = WAIT_SECONDS) -> int:
        """Wait until the tailer has passed everything committed so far; returns the head. Uses no version."""
        marker = self.run("INSERT INTO sync_origins (kind, request_id) VALUES ('system', 'marker')")
        deadline = time.monotonic() + seconds
        while not self.rows("SELECT 1 FROM sync_tx WHERE origin_id = %s", marker):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the tailer did not pass origin {marker} in {seconds} s")
            time.sleep(0.005)
        return int(self.value("SELECT head FROM sync_state"))

    def changes(self, company_id: int) -> list[dict[str, Any]]:
        """The change log of a company, oldest first."""
        with self.connection.cursor(pymysql.cursors.DictCursor) as cursor:
            cursor.execute("SELECT * FROM sync_changes WHERE company_id = %s ORDER BY version", (company_id,))
            return list(cursor.fetchall())
