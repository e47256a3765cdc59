"""Whether anything was lost: every device against SELECT, every sale that was made against the invoices that there are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from pymysql.connections import Connection

from cli.demo.check import Difference, Rows, find_differences, find_unbalanced, read_company
from cli.simulation.company import Company
from cli.simulation.phone import Phone
from cli.simulation.threads import Threads


@dataclass(slots=True)
class Verdict:
    """`rows` counts the rows compared, over all devices. `complaints` are sentences about sales and books."""

    devices: int = 0
    devices_equal: int = 0
    rows: int = 0
    differences: list[Difference] = field(default_factory=list)
    sales: int = 0
    sales_refused: int = 0
    sales_lost: int = 0
    complaints: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return not self.differences and not self.complaints


async def judge(companies: Iterable[Company], connection: Connection[Any], threads: Threads) -> Verdict:
    """Compare everything; a device after the other, so that it can be cancelled."""
    verdict = Verdict()
    for company in companies:
        rows = await threads.run(read_company, connection, company.company_id)
        unbalanced = await threads.run(find_unbalanced, connection, company.company_id)
        if unbalanced:
            verdict.complaints.append(f"company {company.company_id}: debits and credits differ in transactions {unbalanced[:5]}")
        totals = {row["invoice_number"]: Decimal(row["grand_total"]) for row in rows["invoices"].values()}
        equal: set[int] = set()
        for phone in company.phones:
            found = await threads.run(_differences, phone, rows, equal)
            _count(verdict, rows, found)
            _count_sales(verdict, phone, totals)
    return verdict


def _differences(phone: Phone, rows: Rows, equal: set[int]) -> list[Difference]:
    return list(find_differences(phone.device_id, phone.store, rows, equal))


def _count(verdict: Verdict, rows: Rows, found: list[Difference]) -> None:
    verdict.devices += 1
    verdict.devices_equal += not found
    verdict.rows += sum(len(records) for records in rows.values())
    verdict.differences += found


def _count_sales(verdict: Verdict, phone: Phone, totals: dict[str, Decimal]) -> None:
    """A sale that the server refused is not lost: the phone was told, and keeps it."""
    refused = {change.data.get("invoice_number") for change, _ in phone.refused if change.table == "invoices"}
    for number, total in phone.sold.items():
        verdict.sales += 1
        if number in refused:
            verdict.sales_refused += 1
        elif totals.get(number) != total:
            verdict.sales_lost += 1
            verdict.complaints.append(f"{phone.device_id}: sale {number} of {total} is {totals.get(number)} in MySQL")
