"""What one MySQL transaction will write: put together first and run later, perhaps in another thread.

Statements go in one packet: each round trip less is a sleep and a waking of two processes less. MySQL runs them in order and stops
at the first that fails, so a COMMIT at the end is not reached after an error. It answers each as it is done.

Source: MySQL 9.7 manual, "Multiple Statement Execution Support".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pymysql.connections import Connection
from pymysql.constants.COMMAND import COM_QUERY

from schema.connect import read_timeout

PACKET_CHARACTERS_MAX = 4 * 1024 * 1024
COMMIT_SECONDS_MAX = 120
"""A COMMIT may wait for a slow disk longer than any other statement; what became of one that was given up, the next pass reads."""


def begin(connection: Connection[Any], question: str) -> tuple[Any, ...]:
    """Begin a transaction whose first statement is a question; the first row of its answer. Raises pymysql errors."""
    connection.query(f"BEGIN;{question}")
    connection.next_result()
    rows: tuple[tuple[Any, ...], ...] = connection._result.rows  # type: ignore[attr-defined]
    return rows[0]


class Together:
    """Steps that wait, in order: statements without a placeholder, and without rows for an answer, and what asks by itself."""

    def __init__(self, connection: Connection[Any]) -> None:
        self.connection = connection
        self._packets: list[list[str] | Callable[[], object]] = []
        self._characters = 0
        """Of the last packet, while a statement may join it."""

    def put(self, statement: str) -> None:
        """Have it run after what is before it, in one packet with those that fit."""
        last = self._packets[-1] if self._packets else None
        if isinstance(last, list) and self._characters + len(statement) <= PACKET_CHARACTERS_MAX:
            last.append(statement)
            self._characters += len(statement) + 1
        else:
            self._packets.append([statement])
            self._characters = len(statement) + 1

    def put_step(self, step: Callable[[], object]) -> None:
        """Have something that uses the connection by itself run after what is before it."""
        self._packets.append(step)

    def run(self) -> None:
        """Run what waits. Raises pymysql errors, and what a step raises: then the transaction is to be rolled back."""
        packets, self._packets = self._packets, []
        for packet in packets:
            if isinstance(packet, list):
                self._send(packet)
                self._read(len(packet))
            else:
                packet()

    def commit(self) -> None:
        """Run what waits, and commit if all of it went well. Raises as `run` does: then nothing is committed, or, where the answer
        of COMMIT was lost, all of it.
        """
        self.put("COMMIT")
        last = self._packets.pop()
        assert isinstance(last, list)
        self.run()
        self._send(last)
        self._read(len(last) - 1)
        with read_timeout(self.connection, COMMIT_SECONDS_MAX):
            self._read(1)

    def _send(self, statements: list[str]) -> None:
        self.connection._execute_command(COM_QUERY, ";".join(statements))  # type: ignore[attr-defined]

    def _read(self, count: int) -> None:
        for _ in range(count):
            self.connection.next_result()
