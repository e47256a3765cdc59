"""A home directory is used by one process at a time: the lock that says so, and the port and secrets kept there."""

from __future__ import annotations

import fcntl
import os
import random
import secrets
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from schema.errors import StartError

_LEFTOVERS_END_S = 60  # servers of a killed process shut down in this time
# Below the range that Linux gives to outgoing connections (ip(7), ip_local_port_range): there, any client could sit
# on a server's port while the server restarts.
_PORTS = range(20_000, 30_000)


class Claim:
    """An flock on `home`/lock. A child that inherits `fileno()` holds it as long as it lives, even if we are killed."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._file: IO[str] | None = None

    def fileno(self) -> int:
        if self._file is None:
            raise StartError("not_claimed", f"{self.home} has not been claimed")
        return self._file.fileno()

    @property
    def is_held(self) -> bool:
        return self._file is not None

    def take(self) -> None:
        """Make the directory and lock it. Raises StartError naming the process that has it.

        If that process is gone, what it started is still shutting down: wait for it.
        """
        if self.is_held:
            return
        make_private_dir(self.home)
        file = (self.home / "lock").open("a+")
        deadline = time.monotonic() + _LEFTOVERS_END_S
        while not _try_lock(file):
            file.seek(0)
            holder = file.read().strip()
            if _is_alive(holder) or time.monotonic() > deadline:
                file.close()
                raise StartError(
                    "home_in_use",
                    f"{self.home} is in use by process {holder or 'unknown'}",
                    hint="stop that process first, or choose another home directory",
                )
            time.sleep(0.05)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        self._file = file

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def make_private_dir(path: Path) -> None:
    """Raises StartError if it can't be made or written to."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as problem:
        raise StartError("home_unusable", f"{path}: {problem.strerror}", hint="choose another directory") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise StartError("home_unusable", f"{path} is not writable for this user", hint="choose another directory")


def write_private(path: Path, text: str) -> None:
    """Replace `path` as a whole; nobody else may read it, and nobody sees half of it."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write(text)
    unfinished.rename(path)


def kept_secret(path: Path) -> str:
    """The secret in `path`, made at the first call: 32 characters of the URL-safe alphabet."""
    if not path.exists():
        write_private(path, secrets.token_urlsafe(24))
    return path.read_text().strip()


def kept_port(path: Path) -> int:
    """The port of last time if it is free, else a free one, which is kept in `path`."""
    with suppress(OSError, ValueError):
        port = int(path.read_text())
        if is_port_free(port):
            return port
    port = free_port()
    path.write_text(str(port))
    return port


def free_port() -> int:
    """A port of loopback that nobody listens on now. Raises StartError if there is none."""
    for port in random.sample(_PORTS, k=100):
        if is_port_free(port):
            return port
    raise StartError("no_free_port", f"no free port found on 127.0.0.1 in {_PORTS.start}–{_PORTS.stop}")


def is_port_free(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: TIME_WAIT is no obstacle
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_alive(pid: str) -> bool:
    if not pid.isdecimal():
        return False  # the holder has locked but not yet written; look again
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
