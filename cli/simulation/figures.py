"""What a run has counted so far: kept by one event loop."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from cli.demo.device import Answer

PUSH, PULL, SYNC = "push", "pull", "sync"


@dataclass(slots=True)
class Figures:
    """Changes are counted after set-up, those of the last syncs included. Times, in seconds, are of the trading time alone: of one
    request, or of a whole sync with all its pushes and pulls. `lags` are seconds from a COMMIT's answer to a waiting pull's, of
    every beat.

    `conflicts` are what answers list as such; `failures` are requests and syncs that came to nothing, by code.
    """

    is_counting: bool = False
    is_trading: bool = False
    statuses: Counter[str] = field(default_factory=Counter)
    conflicts: int = 0
    pulled: int = 0
    sales: int = 0
    edits: int = 0
    edits_skipped: int = 0
    offline_spells: int = 0
    answers_lost: int = 0
    pushes_pending: int = 0
    asked_to_wait: int = 0
    started_again: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    times: dict[str, array[float]] = field(default_factory=lambda: {name: array("d") for name in (PUSH, PULL, SYNC)})
    lags: array[float] = field(default_factory=lambda: array("d"))
    behind_s_max: float = 0.0

    @property
    def pushed(self) -> int:
        """Changes that were answered."""
        return sum(self.statuses.values())

    @property
    def conflict_rate(self) -> float:
        """Conflicts for each change that was pushed."""
        return self.conflicts / self.pushed if self.pushed else 0.0

    def took(self, what: str, seconds: float) -> None:
        """A request or a sync is done."""
        if self.is_trading:
            self.times[what].append(seconds)

    def lagged(self, seconds: float) -> None:
        """A commit was seen by a device that waits."""
        self.lags.append(seconds)

    def take_push(self, answer: Answer) -> None:
        """An answer that was taken; one that was lost does not count."""
        if not self.is_counting:
            return
        self.statuses.update(result["status"] for result in answer["results"])
        self.conflicts += len(answer["conflicts"])
        self.pushes_pending += answer["pending"]

    def take_page(self, page: Answer) -> None:
        """A page that was taken."""
        if self.is_counting:
            self.pulled += len(page["changes"])


def percentile(values: Sequence[float] | array[Any], percent: float) -> float:
    """The smallest value that so many per cent do not exceed; 0 of nothing."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return float(ordered[ceil(len(ordered) * percent / 100) - 1])
