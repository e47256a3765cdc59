"""The name of the tailer's lock: taken by `cdc`, looked at by `api` and `cli`."""

from __future__ import annotations

LOCK_NAME_CHARACTERS_MAX = 64


def tailer_lock(database: str) -> str:
    """Return the name of the lock that a database's tailer holds while it lives (MySQL manual, "Locking Functions")."""
    return f"matrix-sync.tail.{database}"[:LOCK_NAME_CHARACTERS_MAX]
