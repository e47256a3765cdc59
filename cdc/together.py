"""Statements of one MySQL transaction that go in one packet: each round trip less is a sleep and a waking of two processes less.

MySQL runs them in order and stops at the first that fails, so a COMMIT at the end is not reached after an error. It answers each
as it is done. Source: MySQL 9.7 manual, "Multiple Statement Execution Support".
"""

from __future__ import annotations

from typing import Any

from pymysql.connections import Connection
from pymysql.constants.COMMAND import COM_QUERY

from schema.connect import read_timeout

PACKET_CHARACTERS_MAX = 4 * 1024 * 1024
COMMIT_SECONDS_MAX = 120
"""A COMMIT may wait for a slow disk longer than any other statement; what became of one that was given up, the next pass reads."""


def begin(connection: Connection[Any], question: str) -> tuple[Any, ...] | None:
    """Begin a transaction whose first statement is a question; the first row of its answer. Raises pymysql errors."""
    connection.query(f"BEGIN;{question}")
    connection.next_result()
    rows: tuple[tuple[Any, ...], ...] = connection._result.rows  # type: ignore[attr-defined]
    return rows[0] if rows else None


class Together:
    """Statements without a placeholder, and without rows for an answer, that wait for the next packet."""

    def __init__(self, connection: Connection[Any]) -> None:
        self.connection = connection
        self._waiting: list[str] = []
        self._characters = 0

    def put(self, statement: str) -> None:
        """Have it run after those before it, with the next packet at the latest; what does not fit one with them goes now."""
        if self._waiting and self._characters + len(statement) > PACKET_CHARACTERS_MAX:
            self.run()
        self._waiting.append(statement)
        self._characters += len(statement) + 1

    def run(self) -> None:
        """Run what waits. Raises pymysql errors, and then the transaction is to be rolled back."""
        if self._waiting:
            self._read(self._send())

    def commit(self) -> None:
        """Run what waits, and commit if all of it went well. Raises pymysql errors: then nothing is committed, or, where the
        COMMIT's answer was lost, all of it.
        """
        self.put("COMMIT")
        self._read(self._send() - 1)
        with read_timeout(self.connection, COMMIT_SECONDS_MAX):
            self._read(1)

    def _send(self) -> int:
        """Send what waits; how many answers are to be read."""
        statements, self._waiting, self._characters = self._waiting, [], 0
        self.connection._execute_command(COM_QUERY, ";".join(statements))  # type: ignore[attr-defined]
        return len(statements)

    def _read(self, count: int) -> None:
        for _ in range(count):
            self.connection.next_result()
