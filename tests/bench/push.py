"""Push, measured: one change, and a hundred with everything that is checked on the way, by one device and by many.

beside it   the same rows written by hand: one statement a table, one transaction a push, as many connections, no rule and no record
            of who, what and when; so the ratio is what identity, merging, rules and the wait for the change log cost
a hundred   8 posted sales of 7 rows (a transaction, its lines, entries and invoice), 10 new parties, 24 edited products and 10
            edited parties, of which products say no base version: their base is looked for
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import orjson

from tests.bench.by_hand import write_by_hand
from tests.bench.figure import Figure
from tests.bench.lab import PULL, PUSH, Crew, Lab, open_lab
from tests.bench.load import Ready, post
from tests.device import Change, insert, update

DAY = "2026-02-03"
SECONDS = 8.0
SALES, NEW_PARTIES, EDITED_PRODUCTS, EDITED_PARTIES = 8, 10, 24, 10
LINES = 3
PRODUCTS, PARTIES = 480, 480


@dataclass(slots=True)
class Shop:
    """A company's books as a device knows them, and what it pushes next."""

    name: str
    products: range
    parties: range
    accounts: tuple[int, int]
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def one(self) -> list[Change]:
        """A new party."""
        number = next(self._numbers)
        return [insert("parties", f"{self.name}-p{number}", name=f"Party {number}", phone="555 0100", credit_limit="100.00")]

    def one_edit(self) -> list[Change]:
        """A product's new price."""
        number = next(self._numbers)
        return [update("products", self.products[number % len(self.products)], sale_price=f"{number % 9999}.25")]

    def hundred(self) -> list[Change]:
        """What a day leaves in an outbox."""
        number = next(self._numbers)
        changes = [change for i in range(SALES) for change in self._sale(f"{self.name}-{number}-{i}", number + i)]
        changes += [
            insert("parties", f"{self.name}-{number}-p{i}", name=f"Party {number}", phone="555 0100") for i in range(NEW_PARTIES)
        ]
        for i in range(EDITED_PRODUCTS):
            product = self.products[(number * EDITED_PRODUCTS + i) % len(self.products)]
            changes.append(update("products", product, sale_price=f"{number % 9999}.25", last_cost=f"{i}.50"))
        for i in range(EDITED_PARTIES):
            changes.append(
                update("parties", self.parties[(number * EDITED_PARTIES + i) % len(self.parties)], phone=f"555 {number}")
            )
        return changes

    def _sale(self, name: str, number: int) -> list[Change]:
        head = f"{name}-t"
        total = f"{LINES * 10}.00"
        party_id = self.parties[number % len(self.parties)]
        entry = {"transaction_id": head, "transaction_type": "saleInvoice", "transaction_date": DAY}
        return [
            insert("transactions", head, type="sale", date=DAY, total_amount=total, party_id=party_id),
            *(
                insert(
                    "transaction_lines", f"{name}-l{i}", transaction_id=head,
                    product_id=self.products[(number + i) % len(self.products)], quantity="1.000", unit_price="10.00",
                    line_amount="10.00",
                )
                for i in range(LINES)
            ),
            insert(
                "invoices", f"{name}-i", transaction_id=head, invoice_type="sale", invoice_number=name, invoice_date=DAY,
                grand_total=total, status="sent",
            ),
            insert("account_transactions", f"{name}-d", account_id=self.accounts[0], debit=total, **entry),
            insert("account_transactions", f"{name}-c", account_id=self.accounts[1], credit=total, **entry),
        ]  # fmt: skip


Make = Callable[[Shop], list[Change]]
_STATEMENTS = """
SELECT COALESCE(SUM(COUNT_STAR), 0) FROM performance_schema.events_statements_summary_by_account_by_event_name
WHERE USER = %s AND EVENT_NAME LIKE 'statement/sql/%%'
"""


@dataclass(frozen=True, slots=True)
class Case:
    """A push that is measured; `rate`: more pushes a second than can be, so that the requests last."""

    what: str
    make: Make
    devices: int
    changes: int
    rate: int
    target: str = ""


CASES = (
    Case("push of 1 INSERT, one device", Shop.one, 1, 1, 1500, "≥ 450 req/s"),
    Case("push of 1 UPDATE, one device", Shop.one_edit, 1, 1, 1500),
    Case("push of 1 INSERT, 100 devices", Shop.one, 100, 1, 4000, "≥ 1,000 req/s, no refusal"),
    Case("push of 1 UPDATE, 100 devices", Shop.one_edit, 100, 1, 4000),
    Case("push of 100, one device", Shop.hundred, 1, 100, 200, "≥ 5,000 records/s"),
    Case("push of 100, 16 devices", Shop.hundred, 16, 100, 300, "≥ 10,000 records/s"),
)


def measure(share: float) -> Iterator[Figure]:
    """Push by one device and by many; SQL statements a push, latencies and CPU by program are printed beside."""
    with open_lab() as lab:
        for case in CASES:
            yield _measured(lab, case, max(0.5, SECONDS * share))


def _measured(lab: Lab, case: Case, seconds: float) -> Figure:
    crew = lab.hire(case.devices)
    shops = open_shops(lab, crew)
    pull = orjson.dumps({"device_id": "", "last_version": 0, "limit": 5000}).decode()
    pulls = [
        [Ready([post(PULL, token, pull.replace('""', f'"{name}"').encode())], is_repeated=False)]
        for token, name in zip(crew.tokens, crew.devices, strict=True)
    ]
    lab.load(pulls, 60)[0].demand()
    pushes = [[case.make(shop) for _ in range(max(4, int(case.rate * seconds / case.devices)))] for shop in shops]
    lines = [
        [Ready([_request(token, name, changes) for changes in line], is_repeated=False)]
        for line, token, name in zip(pushes, crew.tokens, crew.devices, strict=True)
    ]
    before = _statements(lab)
    result, cpu = lab.load(lines, seconds)
    result.demand()
    statements = (_statements(lab) - before) / result.count
    records = result.count * case.changes
    print(f"  {case.what}: {result}; {statements:.1f} statements a push; {cpu.each(records)}", file=sys.stderr)
    by_hand = write_by_hand(
        lab.settings,
        crew.company_id,
        [[case.make(shop) for _ in line] for shop, line in zip(shops, pushes, strict=True)],
        seconds / 4,
    )
    unit = "req/s" if case.changes == 1 else "records/s"
    return Figure(
        case.what,
        result.per_second * case.changes,
        unit,
        case.target,
        "the same rows by hand",
        by_hand * case.changes,
        cpu.total / records * 1e6,
    )


def _statements(lab: Lab) -> int:
    """SQL statements of the API's account so far."""
    return int(lab.sql.rows(_STATEMENTS, lab.settings.api().user)[0][0])


def open_shops(lab: Lab, crew: Crew) -> list[Shop]:
    """Give the crew's company products, parties and accounts by plain SQL, and each device its part in the books."""
    company = crew.company_id
    products = _rows(
        lab, "products (company_id, name, sku, sale_price)", [f"{company}, 'P{i}', 'S{i}', 1" for i in range(PRODUCTS)]
    )
    parties = _rows(lab, "parties (company_id, name)", [f"{company}, 'C{i}'" for i in range(PARTIES)])
    accounts = _rows(lab, "accounts (company_id, name, account_type)", [f"{company}, 'A{i}', 'asset'" for i in range(2)])
    lab.caught_up()
    count = len(crew.devices)
    return [
        Shop(name, _part(products, i, count), _part(parties, i, count), (accounts[0], accounts[1]))
        for i, name in enumerate(crew.devices)
    ]


def _part(rows: range, i: int, count: int) -> range:
    """A device's own rows: in step with one another, all would wait for the same row."""
    return rows[i * len(rows) // count : (i + 1) * len(rows) // count]


def _rows(lab: Lab, into: str, rows: list[str]) -> range:
    first = lab.sql.run(f"INSERT INTO {into} VALUES {', '.join(f'({row})' for row in rows)}")
    return range(first, first + len(rows))


def _request(token: str, device_id: str, changes: list[Change]) -> bytes:
    return post(PUSH, token, orjson.dumps({"device_id": device_id, "changes": changes}))
