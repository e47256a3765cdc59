"""A child process: tethered to us, in a process group of its own, its output in a log file.

Used for the embedded servers, for the children of `matrix-sync up`, and by the tests. It knows nothing of what it runs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from schema.errors import StartError

_TETHER = Path(__file__).with_name("tether.py")


def tethered(command: Sequence[str]) -> list[str]:
    """The words that run `command` so that it ends with us, even if we are killed the moment it starts."""
    return [sys.executable, "-I", "-S", str(_TETHER), str(os.getpid()), *command]


class Child:
    """One program and its log. `start` it again after it ended: the log goes on, the pid is new.

    Start it from a thread that lives as long as the program should: Linux ends it with that thread (prctl(2)).
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str],
        keep_open: Sequence[int] = (),
        stop_timeout_s: float = 30,
    ) -> None:
        self.name = name
        self.command = tuple(command)
        self.log = log
        self._env = dict(env)
        self._stop_timeout_s = stop_timeout_s
        self._keep_open = tuple(keep_open)
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        self._has_group = False

    @property
    def pid(self) -> int | None:
        """The process id while it runs or has not been started again, None before the first start."""
        return self._process.pid if self._process else None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """As `subprocess` has it: negative for a signal, None while it runs or was never started."""
        return self._process.poll() if self._process else None

    def start(self) -> None:
        """Start the program. Raises StartError if it runs already or there is no such program."""
        if self.is_running:
            raise StartError("already_running", f"{self.name} runs already, as process {self.pid}")
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                tethered(self.command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env,
                pass_fds=self._keep_open,
                start_new_session=True,  # Ctrl-C in a terminal is for us; we stop the children in order
            )
            self._has_group = True

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for the whole group if it has not ended in time. Does nothing if it does not run."""
        if self.is_running:
            self.send(signal.SIGCONT)  # a paused process would not see the SIGTERM
            self.send(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.wait(self._stop_timeout_s)
        self.kill()

    def kill(self) -> None:
        """SIGKILL for the program and everything it started, also for what it left behind when it died."""
        if self._process is None or not self._has_group:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._has_group = False  # from now on the number may belong to somebody else

    def pause(self) -> None:
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        self.send(signal.SIGCONT)

    def send(self, signum: signal.Signals) -> None:
        """Signal the program itself, not its group."""
        if self._process is not None:
            self._process.send_signal(signum)

    def wait(self, timeout_s: float | None = None) -> int:
        """Its exit code. Raises subprocess.TimeoutExpired."""
        if self._process is None:
            raise StartError("not_started", f"{self.name} was never started")
        return self._process.wait(timeout_s)

    def output(self) -> str:
        """What it has printed since its last start."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def last_lines(self, count: int = 12) -> str:
        """The end of `output`, for messages."""
        return "\n".join(self.output().splitlines()[-count:])
