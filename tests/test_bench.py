"""A bench runs, at the smallest share: what it measures is no business of a test."""

from __future__ import annotations

from tests.bench import lag


def test_a_bench_gives_its_figures_beside_a_peer() -> None:
    figures = list(lag.measure(0.0))
    assert [figure.unit for figure in figures] == ["ms"] * 4
    assert all(figure.peers is not None for figure in figures)
