"""What a MySQL error means to the API, decided once. Everything above `api.db` sees only these, never a driver's error.

DatabaseError            a statement was refused; the connection and, but for DeadlockFound, the transaction are still good
├── DuplicateKey         a unique key has this value already: `key` is the index, `value` what MySQL says of it
├── ForeignKeyFailed     a reference has no row, or a row is still referred to: `constraint` says which
├── DataRefused          a column cannot hold a value as it is (strict mode never bends one)
├── DeadlockFound        InnoDB rolled the whole transaction back (1213)
├── LockWaitTimeout      a lock was not free in time (1205): only the statement was rolled back
└── MovedOn              what the transaction was built on is not as it was read (`Session.put_guard`)
SyncError 503            MySQL is away, full or read-only; CommitUnknown where nobody can say whether the COMMIT counted
"""

from __future__ import annotations

import re

from asyncmy import errors as driver

from schema.errors import MatrixError, SyncError

RETRY_AFTER = {"Retry-After": "1"}
_DUPLICATE = re.compile(r"Duplicate entry '(.*)' for key '(?:[^'.]*\.)?([^']*)'", re.DOTALL)
_CONSTRAINT = re.compile(r"CONSTRAINT `([^`]+)`")

_PACKET_TOO_LARGE = 1153  # the server closes the connection after it
_DUPLICATE_CODES = frozenset({1062, 1586})
_FOREIGN_KEY_CODES = frozenset({1216, 1217, 1451, 1452})
# Null and default, range and length, dates, character sets, JSON, generated and checked values, a row or packet too large.
_DATA_CODES = frozenset(
    {1048, 1118, _PACKET_TOO_LARGE, 1264, 1265, 1292, 1364, 1366, 1406, 1411, 1690, 3140, 3141, 3157, 3819, 3854, 3988}
)
# Out of memory, disk or connections, shutdown, offline, killed, read-only, a commit hook that refused, wrong credentials.
_UNAVAILABLE_CODES = frozenset(
    {1021, 1037, 1040, 1041, 1045, 1049, 1053, 1114, 1203, 1226, 1290, 1317, 1836, 1927, 3024, 3032, 3100, 4031}
)
_LOST_CODES = frozenset({0, 2002, 2003, 2006, 2013, 2014, 2055})
_FIRST_CLIENT_CODE = 2000
_LAST_CLIENT_CODE = 2999


class DatabaseError(MatrixError):
    """A statement that MySQL refused."""


class DuplicateKey(DatabaseError):
    """A unique key has this value already."""

    def __init__(self, key: str, value: str) -> None:
        super().__init__("duplicate_key", f"{key} has this value already")
        self.key = key
        self.value = value


class ForeignKeyFailed(DatabaseError):
    """A reference has no row (`is_parent_missing`), or the row is still referred to. `constraint` is the foreign key's name."""

    def __init__(self, constraint: str, *, is_parent_missing: bool) -> None:
        super().__init__("foreign_key", f"{constraint} does not allow it")
        self.constraint = constraint
        self.is_parent_missing = is_parent_missing


class DataRefused(DatabaseError):
    """A column cannot hold a value. The message is MySQL's and may show the value: not for logs."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__("bad_value", message)
        self.number = number


class DeadlockFound(DatabaseError):
    """InnoDB chose this transaction as the victim and rolled it back; run all of it again."""


class LockWaitTimeout(DatabaseError):
    """A row lock was not free in time; roll back and run all of it again."""


class MovedOn(DatabaseError):
    """Somebody else has written what the transaction was built on; roll back and run all of it again."""

    def __init__(self) -> None:
        super().__init__("moved_on", "what this was built on was written meanwhile")


class CommitUnknown(SyncError):
    """The connection broke during COMMIT: it counted, or it did not. The client's retry finds out."""

    def __init__(self) -> None:
        super().__init__(503, "database_unavailable", "the database went away while it stored this; try again", headers=RETRY_AFTER)


def unavailable() -> SyncError:
    """Return the answer for a MySQL that cannot serve now."""
    return SyncError(503, "database_unavailable", "the database cannot be reached now; try again", headers=RETRY_AFTER)


def busy() -> SyncError:
    """Return the answer for a server with more work than connections, or with locks that stay taken."""
    return SyncError(503, "busy", "the server is busy; try again", headers=RETRY_AFTER)


def is_lost(error: BaseException) -> bool:
    """Tell whether the connection is of no use after this error: one that is not MySQL's may have cut an answer in two."""
    if not isinstance(error, driver.MySQLError):
        return True
    number = number_of(error)
    return number in _LOST_CODES or number == _PACKET_TOO_LARGE or _FIRST_CLIENT_CODE <= number <= _LAST_CLIENT_CODE


def number_of(error: BaseException) -> int:
    """Return MySQL's number of the error; 0 where the driver gave none."""
    first = error.args[0] if error.args else 0
    return first if isinstance(first, int) else 0


def translate(error: BaseException) -> Exception | None:
    """Return our error for a driver's, or None for one that only a bug of ours explains (syntax, privileges, unknown names)."""
    if not isinstance(error, driver.MySQLError):
        return unavailable() if isinstance(error, OSError) else None
    number = number_of(error)
    message = str(error.args[1]) if len(error.args) > 1 else ""
    if number in _DUPLICATE_CODES:
        found = _DUPLICATE.search(message)
        return DuplicateKey(found[2], found[1]) if found else DuplicateKey("", "")
    if number in _FOREIGN_KEY_CODES:
        found = _CONSTRAINT.search(message)
        return ForeignKeyFailed(found[1] if found else "", is_parent_missing=number in (1216, 1452))
    if number in _DATA_CODES:
        return DataRefused(number, message)
    if number == 1213:
        return DeadlockFound("deadlock", "the transaction was rolled back to end a deadlock")
    if number == 1205:
        return LockWaitTimeout("lock_wait_timeout", "a row was locked by another transaction for too long")
    if number in _UNAVAILABLE_CODES or is_lost(error):
        return unavailable()
    return None
