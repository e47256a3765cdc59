"""The tailer in a thread of the test: started and stopped in milliseconds, and a halt is at hand."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Self

from cdc.gtid import Gtid
from cdc.skip import skip
from cdc.tailer import Tailer
from schema.connect import open_connection
from schema.errors import Halt, MatrixError
from schema.settings import Settings
from tests.servers import Database

PASS_SECONDS = 60


@dataclass
class Background:
    """The tailer in a thread, as often as wanted."""

    settings: Settings
    reason: MatrixError | None = None
    """Why it ended by itself."""
    _tailer: Tailer | None = None
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Go on where the checkpoint is."""
        if self._thread is None:
            self.reason, self._tailer = None, Tailer(self.settings)
            self._thread = threading.Thread(target=self._run, args=(self._tailer,))
            self._thread.start()

    def _run(self, tailer: Tailer) -> None:
        try:
            tailer.run(standby=True)
        except MatrixError as reason:
            self.reason = reason

    def stop(self) -> None:
        """End it after the commit that is under way."""
        if self._tailer is not None and self._thread is not None:
            self._tailer.stop()
            self._thread.join(PASS_SECONDS)
        self._tailer = self._thread = None

    @property
    def has_ended(self) -> bool:
        """Whether it ended by itself."""
        return self._thread is not None and not self._thread.is_alive()

    def wait_for_halt(self, seconds: float = PASS_SECONDS) -> Halt:
        """Wait until it halts."""
        deadline = time.monotonic() + seconds
        while not self.has_ended:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no halt after {seconds} s")
            time.sleep(0.01)
        assert isinstance(self.reason, Halt), self.reason
        return self.reason

    def pass_over(self, database: Database) -> Halt:
        """Skip what it halted at, as an operator would, and go on. Every halt must say where it is and what helps."""
        reason = self.reason
        assert isinstance(reason, Halt), reason
        assert reason.hint and all(reason.details.get(name) for name in ("gtid", "file", "pos", "checkpoint")), reason.details
        self.stop()
        with open_connection(database.settings.operator()) as connection:
            for gtid in (reason.details["gtid"], reason.details.get("xa_prepare")):
                if gtid:
                    skip(connection, database.name, Gtid.parse(gtid), reason=reason.code, actor="test")
        self.start()
        return reason

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
