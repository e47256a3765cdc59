"""What will happen, when, and on which device: made from the seed alone. Pure.

Events come at random (a Poisson process). Most are sales of the retailer's baskets; the others edit products and parties, half of
them among a few that everybody edits, so that some conflict.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import ceil
from random import Random

from cli.demo.retailer import Basket, Region

SALES_SHARE = 0.8
CONTENDED_SHARE = 0.5
CONTENDED_RECORDS = 8
ONLINE_S_MEAN, OFFLINE_S_MEAN = 20.0, 5.0
ANSWERS_LOST_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Load:
    """How much. `devices` are of each company; `rate` is events a second over all, `sql_rate` rows a second over all."""

    companies: int
    devices: int
    rate: float
    sql_rate: float
    seconds: float
    sync_every_s: float
    seed: int

    @property
    def baskets(self) -> int:
        """How many a company sells, with room for luck."""
        return ceil(self.rate * self.seconds * SALES_SHARE / self.companies * 1.2) + 20


class Work(StrEnum):
    """What a person does on a device."""

    SALE = "sale"
    PRICE = "price"
    DESCRIPTION = "description"
    PHONE = "phone"


@dataclass(frozen=True, slots=True)
class Event:
    """`at_s` counts from the start of trading. `basket` is a sale's; `key` is an edit's product id or household."""

    at_s: float
    company: int
    device: int
    work: Work
    basket: Basket | None = None
    key: int = 0
    value: str = ""


def events(load: Load, regions: Sequence[Region]) -> Iterator[Event]:
    """Everything that people do, in the order of time. A household always goes to the same device, which makes its row."""
    random = Random(f"{load.seed} events")
    baskets = [region.baskets() for region in regions]
    households: list[dict[int, None]] = [{} for _ in regions]
    at_s = 0.0
    while (at_s := at_s + random.expovariate(load.rate)) < load.seconds:
        company = random.randrange(load.companies)
        known = households[company]
        if not known or random.random() < SALES_SHARE:
            basket = next(baskets[company])
            known[basket.household_id] = None
            yield Event(at_s, company, basket.household_id % load.devices, Work.SALE, basket)
        else:
            yield _edit(random, at_s, company, random.randrange(load.devices), regions[company], list(known))


def _edit(random: Random, at_s: float, company: int, device: int, region: Region, households: Sequence[int]) -> Event:
    work = random.choice((Work.PRICE, Work.DESCRIPTION, Work.PHONE))
    among = households if work is Work.PHONE else region.products
    index = random.randrange(min(CONTENDED_RECORDS, len(among)) if random.random() < CONTENDED_SHARE else len(among))
    key = households[index] if work is Work.PHONE else region.products[index].product_id
    number = random.randrange(10**9)
    values = {
        Work.PRICE: f"{number % 5000 // 100 + 1}.{number % 100:02d}",
        Work.DESCRIPTION: f"shelf {number}",
        Work.PHONE: f"+1 {number:09d}",
    }
    return Event(at_s, company, device, work, key=key, value=values[work])


def spells(load: Load, company: int, device: int) -> Iterator[tuple[bool, float]]:
    """Whether a device is online, and for how many seconds, without end."""
    random = Random(f"{load.seed} spells {company} {device}")
    is_online = random.random() < ONLINE_S_MEAN / (ONLINE_S_MEAN + OFFLINE_S_MEAN)
    while True:
        yield is_online, random.expovariate(1 / (ONLINE_S_MEAN if is_online else OFFLINE_S_MEAN))
        is_online = not is_online
