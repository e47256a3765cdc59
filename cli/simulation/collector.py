"""Python's search for cycles, kept from the rows of a hundred phones: a look through all of them takes a quarter of a second and
more, in which no answer is taken; and that would be told as the time of requests.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_ALLOCATIONS, _YOUNG, _OLD = 50_000, 20, 1_000_000
"""Young objects are looked through after so many allocations; old ones, for as long as a run lasts, never."""


@contextmanager
def spared_rows() -> Iterator[None]:
    """Look through young objects alone."""
    before = gc.get_threshold()
    gc.collect()
    gc.set_threshold(_ALLOCATIONS, _YOUNG, _OLD)
    try:
        yield
    finally:
        gc.set_threshold(*before)
