"""Every error of ours, and how each part of the program must treat it.

MatrixError                     code, message, hint (the command or setting that helps), details
├── SyncError                   told to a client over HTTP: adds `status` and `headers`
├── StartError                  a command or server cannot start: one message, exit code 1
└── TailerError                 classed once, where a driver or server error is first seen
    ├── Retry                   transient: back off, reconnect from the checkpoint
    ├── Standby                 someone else holds the lease: wait
    ├── LeaseLost               a higher fencing token is stored: nothing was written, step down
    └── Halt                    an operator must decide: GTID, file:pos, reason, remedy
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class MatrixError(Exception):
    """An error with a stable `code`, a message for people and a hint that says what to do."""

    def __init__(self, code: str, message: str, *, hint: str = "", details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.details = dict(details or {})

    def __str__(self) -> str:
        return f"{self.code}: {self.message}" + (f" ({self.hint})" if self.hint else "")


class SyncError(MatrixError):
    """An answer other than 200, as the contract's section 4 lists them. `status` is the HTTP status."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        hint: str = "",
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(code, message, hint=hint, details=details)
        self.status = status
        self.headers = dict(headers or {})


class StartError(MatrixError):
    """The program cannot start, or a command cannot run, as things are."""


class TailerError(MatrixError):
    """Something that ends the tailer's present run."""


class Retry(TailerError):
    """Transient: the connection broke or the server is away. Back off and resume from the checkpoint."""


class Standby(TailerError):
    """Another tailer holds the lease."""


class LeaseLost(TailerError):
    """The stored fencing token is higher than ours; the commit was rolled back."""


class Halt(TailerError):
    """What follows cannot become exact changes. The checkpoint stands before it; an operator must decide.

    `details` may hold gtid, file, pos, and what else helps; the tailer adds its checkpoint.
    """
