"""A run: its load, its companies, what has been counted, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from cli.simulation.company import Company
from cli.simulation.figures import Figures
from cli.simulation.phone import Phone
from cli.simulation.plan import Load
from cli.simulation.processes import Usage
from cli.simulation.verdict import Verdict


@dataclass(slots=True)
class Run:
    """`usage` is the server's, by process, sampled while trading."""

    load: Load
    run_id: str
    companies: list[Company] = field(default_factory=list)
    figures: Figures = field(default_factory=Figures)
    usage: list[dict[str, Usage]] = field(default_factory=list)
    trading_seconds: float = 0.0
    settle_seconds: float = 0.0
    is_cut_short: bool = False
    verdict: Verdict = field(default_factory=Verdict)

    @property
    def phones(self) -> list[Phone]:
        return [phone for company in self.companies for phone in company.phones]

    @property
    def sql_rows(self) -> int:
        """Rows that the desks have written."""
        return sum(company.desk.rows for company in self.companies if company.desk)
