"""What the embedded servers share: a claimed home, a kept port and password, a start that waits, an orderly end."""

from __future__ import annotations

import hashlib
import os
import socket as sockets
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from cli.embedded.claim import Claim, is_port_free, kept_port, kept_secret, make_private_dir
from cli.embedded.process import Child
from schema.errors import StartError

_SOCKET_PATH_BYTES_MAX = 107  # unix(7): sun_path is 108 bytes with its end
_PORT_ATTEMPTS = 3


class EmbeddedServer(ABC):
    """A server in `home`, to be started, stopped, killed and started again; or a `with` block around it.

    Data, password and, where it is free, port stay the same between runs. The home is claimed from the first `start`
    to `stop`, and a server that outlives its killed parent for a moment keeps it claimed.
    """

    name: str
    start_timeout_s: float = 120  # a big database recovers from a crash in this time
    stop_timeout_s: float = 60

    def __init__(self, home: Path) -> None:
        self.home = home.resolve()
        self._claim = Claim(self.home)
        self._child: Child | None = None
        self._port: int | None = None

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    @property
    def is_running(self) -> bool:
        return self._child is not None and self._child.is_running

    @property
    def exit_code(self) -> int | None:
        return self._child.exit_code if self._child else None

    @property
    def port(self) -> int:
        """On 127.0.0.1. Raises StartError before the first start."""
        if self._port is None:
            raise StartError("not_started", f"{self.name} in {self.home} was never started")
        return self._port

    @property
    def password(self) -> str:
        return kept_secret(self.home / "password")

    @property
    def socket(self) -> Path:
        """The unix socket: below home, or where that path would be too long, in the directory for temporary files."""
        below_home = self.home / f"{self.name}.sock"
        if len(bytes(below_home)) <= _SOCKET_PATH_BYTES_MAX:
            return below_home
        short = hashlib.sha256(bytes(self.home)).hexdigest()[:12]
        return Path(tempfile.gettempdir(), f"matrix-sync-{os.getuid()}-{short}", f"{self.name}.sock")

    def start(self) -> None:
        """Start the server and wait until it answers; a second start keeps the port.

        Raises StartError: home in use, programs unavailable, or the end of the server's own log.
        """
        if self.is_running:
            raise StartError("already_running", f"{self.name} in {self.home} runs already, as process {self.pid}")
        self._claim.take()
        try:
            self._start()
        except BaseException:
            self.kill()
            self._claim.release()
            raise

    def stop(self) -> None:
        """Orderly shutdown, then give up the home. Does nothing if it does not run."""
        if self._child is not None:
            self._child.stop()
        self._claim.release()

    def kill(self) -> None:
        """SIGKILL, as a crash would. The home stays claimed until `stop`."""
        if self._child is not None:
            self._child.kill()

    def pause(self) -> None:
        """SIGSTOP: it holds its connections and answers nothing until `resume`."""
        if self._child is not None:
            self._child.pause()

    def resume(self) -> None:
        if self._child is not None:
            self._child.resume()

    def last_lines(self) -> str:
        return self._child.last_lines() if self._child else ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    @abstractmethod
    def _prepare(self, port: int) -> Sequence[str]:
        """Write the settings and, the first time, make the database. Returns the command."""

    @abstractmethod
    def _answers(self, connection: sockets.socket) -> bool:
        """Whether a server that is ready is at the other end. A mere connection may be queued by one that is not."""

    def _start(self) -> None:
        port_is_ours = self._port is not None
        _make_socket_dir(self.socket.parent)
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            port = self._port if port_is_ours and self._port else kept_port(self.home / "port")
            command = self._prepare(port)
            self._port = port
            self._child = Child(
                self.name,
                command,
                log=self.home / "log",
                env=_environment(),
                keep_open=[self._claim.fileno()],
                stop_timeout_s=self.stop_timeout_s,
            )
            self._child.start()
            if self._wait_until_ready():
                return
            was_taken = not self.is_running and not is_port_free(port)
            if port_is_ours or not was_taken or attempt == _PORT_ATTEMPTS:
                raise StartError(
                    f"{self.name}_not_started",
                    f"{self.name} in {self.home} did not start; its log ends with\n{self.last_lines()}",
                    hint=f"see {self.home / 'log'}",
                )

    def _wait_until_ready(self) -> bool:
        deadline = time.monotonic() + self.start_timeout_s
        while self.is_running and time.monotonic() < deadline:
            with suppress(OSError), sockets.socket(sockets.AF_UNIX) as connection:
                connection.settimeout(1)
                connection.connect(str(self.socket))
                if self._answers(connection):
                    return True
            time.sleep(0.02)
        return False


def _make_socket_dir(path: Path) -> None:
    """Raises StartError if it belongs to somebody else, who could listen in our server's place."""
    make_private_dir(path)
    owner = path.lstat().st_uid
    if path.is_symlink() or owner != os.getuid():
        raise StartError("home_unusable", f"{path} belongs to user {owner}", hint="set TMPDIR to a directory of your own")


def _environment() -> dict[str, str]:
    """Little of ours: a locale that an unpacked library does not have stops Redis, LD_ variables could stop both."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
