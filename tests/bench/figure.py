"""One measured figure, and the table of many."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

_COLUMNS = ("what", "ours", "beside it", "ratio", "CPU µs each", "beside it was", "target")
_NUMBERS = ("ours", "beside it", "ratio", "CPU µs each")


@dataclass(frozen=True, slots=True)
class Figure:
    """`ours` in `unit`; `peer` names what was measured beside it in the same run, `peers` is that in the same unit.

    `cpu_us`: CPU of all server processes (ours and MySQL's) per request or row, in µs. `target` is the aim, in words.
    """

    what: str
    ours: float
    unit: str
    target: str
    peer: str = ""
    peers: float | None = None
    cpu_us: float | None = None

    @property
    def ratio(self) -> float | None:
        """Ours over the peer's."""
        return self.ours / self.peers if self.peers else None


def print_figures(figures: Iterable[Figure]) -> None:
    """Print one table."""
    table = Table()
    for name in _COLUMNS:
        table.add_column(name, justify="right" if name in _NUMBERS else "left")
    for figure in figures:
        table.add_row(*_cells(figure))
    Console(width=180).print(table)


def as_markdown(figures: Iterable[Figure]) -> str:
    """The same as a table of a document."""
    rules = ("---:" if name in _NUMBERS else "---" for name in _COLUMNS)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (_COLUMNS, rules, *map(_cells, figures)))


def _cells(figure: Figure) -> tuple[str, ...]:
    return (
        figure.what,
        f"{_number(figure.ours)} {figure.unit}",
        f"{_number(figure.peers)} {figure.unit}" if figure.peers is not None else "",
        f"{figure.ratio:.2f}" if figure.ratio is not None else "",
        f"{figure.cpu_us:,.0f}" if figure.cpu_us is not None else "",
        figure.peer,
        figure.target,
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
