"""`python -m tests.bench [NAME …] [--share 0.1]`: measure, and print one table.

Without a name: everything. `--share` takes that part of each figure's rows, requests or seconds, for a first look.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Iterable

from tests.bench.figure import Figure, as_markdown, print_figures

BENCHES = ("decode", "tailer", "lag", "pull", "push", "growth", "sustained")
"""Modules of this package; each has `measure(share)`, which yields its figures as they are measured."""


def main() -> int:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *BENCHES], metavar="NAME", help=", ".join(BENCHES))
    parser.add_argument("--share", type=float, default=1.0, help="part of the full size (1.0)")
    parser.add_argument("--markdown", action="store_true", help="print the table for a document")
    words = parser.parse_args()
    figures: list[Figure] = []
    for name in words.names or BENCHES:
        measure: Callable[[float], Iterable[Figure]] = importlib.import_module(f"tests.bench.{name}").measure
        for figure in measure(words.share):
            print(f"{name}: {figure.what}: {figure.ours:,.3g} {figure.unit}", file=sys.stderr, flush=True)
            figures.append(figure)
    if words.markdown:
        print(as_markdown(figures))
    else:
        print_figures(figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
