"""Keeps the witness (`schema.witness`): in memory and in Redis with each append, in the tailer's file at most once a second.

The file is written by a thread, so that no append waits for the disk, and only while the head moves. What it lags behind, the
tailer's own memory, Redis and the API's workers know. Whether MySQL's past is still the witnessed one is decided in `past.py`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from cdc.announce import Announcer
from cdc.state import State
from cdc.witnesses import read_shared
from schema.logs import get_logger
from schema.settings import Settings
from schema.versions import n_of
from schema.witness import Point, Witness, encode, latest, read_file, thinned, witness_file

log = get_logger(__name__)

WRITE_SECONDS = 1.0


class WitnessKeeper:
    """One for a tailer's life: what it has seen outlives its connections."""

    def __init__(self, settings: Settings, database: str, announcer: Announcer) -> None:
        self._settings = settings
        self._database = database
        self._path = witness_file(settings, database)
        self._announcer = announcer
        self._seen: Witness | None = None
        self._written: Witness | None = None
        self._is_failing = False
        self._changed = threading.Condition()
        self._is_closed = threading.Event()
        self._writer: threading.Thread | None = None

    def read(self, log_id: str) -> list[Witness]:
        """Return what is witnessed of the log: in this process, in the file, and in Redis, where others may keep theirs too."""
        shared = read_shared(self._announcer, log_id)
        return [w for w in (self._seen, read_file(self._settings, self._database), shared) if w is not None]

    def begin(self, log_id: str, state: State, time_us: int, witnesses: Iterable[Witness]) -> bool:
        """Take over the log as it stands, with the points of these witnesses of it, and write it down now.

        False where neither the file nor Redis could be written.
        """
        known = latest(w for w in witnesses if w.log_id == log_id)
        points = tuple(point for point in known.points if point.version < state.head) if known is not None else ()
        seen = _with_point(Witness(log_id, state.server_uuid, state.epoch, points), state, time_us)
        with self._changed:
            self._seen = seen
        is_stored = self._announcer.store_witness(encode(seen))
        is_written = self._write(seen)
        if self._writer is None:
            self._writer = threading.Thread(target=self._write_again, name="witness", daemon=True)
            self._writer.start()
        return is_stored or is_written

    def note(self, state: State, time_us: int) -> bytes:
        """Take over an append; return the witness's text for Redis."""
        with self._changed:
            assert self._seen is not None, "the witness was not begun"
            self._seen = _with_point(self._seen, state, time_us)
            self._changed.notify()
            return encode(self._seen)

    def close(self) -> None:
        """Write what is not written yet."""
        self._is_closed.set()
        with self._changed:
            self._changed.notify()
        if self._writer is not None:
            self._writer.join()
        if self._seen is not None and self._seen != self._written:
            self._write(self._seen)

    def _write_again(self) -> None:
        while not self._is_closed.is_set():
            with self._changed:
                while self._seen == self._written and not self._is_closed.is_set():
                    self._changed.wait()
                seen = self._seen
            if seen is not None:
                self._write(seen)
            self._is_closed.wait(WRITE_SECONDS)

    def _write(self, witness: Witness) -> bool:
        self._written = witness
        try:
            _replace(self._path, encode(witness))
        except OSError as problem:
            if not self._is_failing:
                log.warning("witness_not_written", path=str(self._path), error=type(problem).__name__, reason=str(problem))
            self._is_failing = True
            return False
        self._is_failing = False
        return True


def _with_point(witness: Witness, state: State, time_us: int) -> Witness:
    """The witness with the log's head as its newest point. An epoch in which nothing happened yet has no change to point at."""
    points = witness.points
    if n_of(state.head) > 0 and state.tx > 0 and state.head > witness.head:
        points = thinned((*points, Point(state.head, state.chain, time_us)))
    return replace(witness, server_uuid=state.server_uuid, epoch=state.epoch, points=points)


def _replace(path: Path, text: bytes) -> None:
    """Replace a file's content, whole or not at all, on disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = path.with_name(f"{path.name}.{os.getpid()}")
    with new.open("wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
