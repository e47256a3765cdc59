"""The witness: how far the change log came, kept outside MySQL (design: "Witness"). Its form, and where it is.

Inside MySQL alone a restored backup cannot be seen: log, checkpoint and binlog go back together. The tailer writes the witness to a
file of its own and to Redis; whoever finds the log behind it, or another one than it tells of, knows that the past was replaced.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import orjson

from schema.settings import Settings

NEWEST_KEPT = 16
"""Points that are kept as they come; of older ones one for each power of two back, so that a fork is found near where it is."""


class Point(NamedTuple):
    """The change log had this chain hash at this version; `time_us`: when that change was committed, in µs of Unix time."""

    version: int
    chain: bytes
    time_us: int


@dataclass(frozen=True, slots=True)
class Witness:
    """What was seen of a change log: its epoch and points of its past, oldest first; the last one is the head.

    `log_id` tells logs apart that share a Redis: when this one began.
    """

    log_id: str
    server_uuid: str
    epoch: int
    points: tuple[Point, ...]

    @property
    def head(self) -> int:
        """The newest version that was seen; 0 of a log without changes."""
        return self.points[-1].version if self.points else 0


def encode(witness: Witness) -> bytes:
    """Return the text of a witness: JSON."""
    points = [(point.version, point.chain.hex(), point.time_us) for point in witness.points]
    return orjson.dumps({"log": witness.log_id, "server_uuid": witness.server_uuid, "epoch": witness.epoch, "points": points})


def decode(text: bytes) -> Witness | None:
    """Read a witness; None for what is not one, such as a file that a full disk cut."""
    try:
        found = orjson.loads(text)
        points = tuple(Point(int(version), bytes.fromhex(chain), int(time_us)) for version, chain, time_us in found["points"])
        return Witness(str(found["log"]), str(found["server_uuid"]), int(found["epoch"]), points)
    except (ValueError, TypeError, KeyError):
        return None


def thinned(points: Sequence[Point]) -> tuple[Point, ...]:
    """Keep the newest points, and of those before one for each doubling of the distance: a few dozen for any history."""
    if len(points) <= NEWEST_KEPT:
        return tuple(points)
    older, newest = points[:-NEWEST_KEPT], points[-NEWEST_KEPT:]
    kept: dict[int, Point] = {}
    for point in older:
        kept.setdefault((newest[-1].version - point.version).bit_length(), point)
    return (*kept.values(), *newest)


def witness_file(settings: Settings, database: str) -> Path:
    """Where the tailer keeps the witness of a database."""
    return Path(settings.state_dir, f"{database}.witness")


def witness_key(database: str) -> str:
    """The key in Redis."""
    return f"matrix-sync:{database}:witness"


def read_file(settings: Settings, database: str) -> Witness | None:
    """Return the witness of the file; None where there is none that can be read."""
    try:
        return decode(witness_file(settings, database).read_bytes())
    except OSError:
        return None


def latest(witnesses: Iterable[Witness | None]) -> Witness | None:
    """The one that has seen most."""
    return max((w for w in witnesses if w is not None), key=lambda w: (w.epoch, w.head), default=None)
