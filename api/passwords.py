"""Argon2id in a bounded executor: its memory and its CPU are what an attacker would ask for.

Parameters: OWASP Password Storage Cheat Sheet (Argon2id, 19 MiB, t = 2, p = 1).
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from api.db_errors import busy

T = TypeVar("T")
WAITING_MAX = 64
CHARACTERS_MIN = 8


class Passwords:
    """Hashes and verifies in at most `workers` threads; when too many wait, the answer is 503 instead of a queue without end."""

    def __init__(self, workers: int) -> None:
        self._hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="argon2")
        self._places = WAITING_MAX + workers
        # Verified against when an e-mail is unknown, so that it takes as long as a wrong password.
        self._nobody = self._hasher.hash("no password has this hash")

    async def hash(self, password: str) -> str:
        """Return the encoded hash. Raises SyncError `busy`."""
        return await self._run(partial(self._hasher.hash, password))

    async def verify(self, encoded: str | None, password: str) -> bool:
        """Tell whether the password is the one; `encoded` None is nobody's. Raises SyncError `busy`."""
        is_right = await self._run(partial(self._verify, encoded or self._nobody, password))
        return is_right and encoded is not None

    def close(self) -> None:
        """Stop the threads; what waits is dropped."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _verify(self, encoded: str, password: str) -> bool:
        try:
            return self._hasher.verify(encoded, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: partial[T]) -> T:
        if self._places <= 0:
            raise busy()
        self._places -= 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        finally:
            self._places += 1
