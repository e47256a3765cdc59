"""What a store's first till sets up before it sells: chart of accounts, drawer, units, categories, products, households. Pure.

Names come in several scripts, as a real town's do; the data has no names of people, so a household's is made from its number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal

from cli.demo.books import CASH, COST_OF_GOODS, COUPONS_OWED, DISCOUNTS, INVENTORY, SALES, NewRow
from cli.demo.retailer import Product

ACCOUNTS = (
    (CASH, "Cash · 现金 · نقد", "asset"),
    (COUPONS_OWED, "Coupons owed by manufacturers", "asset"),
    (INVENTORY, "Inventory · 库存 · запасы", "asset"),
    (SALES, "Sales · 销售 · продажи", "revenue"),
    (DISCOUNTS, "Loyalty card discounts", "revenue"),
    (COST_OF_GOODS, "Cost of goods sold", "expense"),
)
UNITS = {"piece": ("piece · 件 · قطعة", "pc"), "package": ("package · 包 · упаковка", "pkg"), "gallon": ("gallon · ガロン", "gal")}
COST_SHARE = Decimal("0.70")
"""The data has prices and no costs: what a grocer pays is taken to be this share of the shelf price."""

_HOUSEHOLDS = (
    "Household {}",
    "家庭 {}",
    "بيت {}",
    "Домохозяйство {}",
    "परिवार {}",
    "가구 {}",
    "משפחה {}",
    "Νοικοκυριό {}",
    "ครัวเรือน {}",
    "🏠 Haushalt {}",
)
_DEPARTMENTS = {
    "GROCERY": ("食品杂货", "بقالة", "бакалея"),
    "DRUG GM": ("药妆", "صيدلية", "аптека"),
    "PRODUCE": ("蔬果", "خضار", "овощи"),
    "MEAT": ("肉类", "لحوم", "мясо"),
    "MEAT-PCKGD": ("包装肉", "لحوم معلبة", "мясо в упаковке"),
    "DELI": ("熟食", "أطعمة جاهزة", "кулинария"),
    "PASTRY": ("糕点", "معجنات", "выпечка"),
    "NUTRITION": ("营养", "تغذية", "питание"),
    "SEAFOOD": ("海鲜", "مأكولات بحرية", "рыба"),
    "COSMETICS": ("化妆品", "مستحضرات تجميل", "косметика"),
    "FLORAL": ("花卉", "زهور", "цветы"),
}


def household(household_id: int) -> NewRow:
    """A household as the till makes it that sees it first."""
    name = _HOUSEHOLDS[household_id % len(_HOUSEHOLDS)].format(household_id)
    return NewRow("parties", party_name(household_id), {"name": name, "party_type": "customer", "customer_class": "retailer"})


def party_name(household_id: int) -> str:
    """A household's local id."""
    return f"household-{household_id}"


def setup_rows(store_id: int, products: Sequence[Product]) -> Iterator[NewRow]:
    """Return everything a store needs to sell these; rows refer to one another by local id, products last."""
    for code, name, account_type in ACCOUNTS:
        yield NewRow("accounts", f"account-{code}", {"code": code, "name": name, "account_type": account_type, "is_system": True})
    drawer = {
        "account_type": "cash",
        "account_name": "Drawer · 收银机",
        "account_number": f"DRAWER-{store_id}",
        "is_default": True,
    }
    yield NewRow("payment_accounts", "drawer", drawer)
    for unit, (name, abbreviation) in UNITS.items():
        yield NewRow("units_of_measure", unit, {"name": name, "abbrev": abbreviation})
    yield from _categories(products)
    for product in products:
        yield _product(product)


def category_name(product: Product) -> str:
    """The name of a product's category, unique in its store."""
    return f"{product.category} ({product.department})"


def _categories(products: Iterable[Product]) -> Iterator[NewRow]:
    """The children first: within a push, order does not matter."""
    departments: dict[str, None] = {}
    categories: dict[str, str] = {}
    for product in products:
        departments[product.department] = None
        categories[category_name(product)] = product.department
    for name, department in categories.items():
        yield NewRow("item_categories", name, {"name": name, "parent_category_id": department})
    for department in departments:
        name = " · ".join((department, *_DEPARTMENTS.get(department, ())))
        yield NewRow("item_categories", department, {"name": name})


def _product(product: Product) -> NewRow:
    translations = _DEPARTMENTS.get(product.department, ())
    spoken = translations[product.product_id % len(translations)] if translations else ""
    name = " ".join(filter(None, (product.kind, product.size, spoken)))
    unit = "gallon" if product.is_fuel else "package" if product.size else "piece"
    data = {
        "sku": str(product.product_id),
        "name": name,
        "description": "private brand" if product.is_private_brand else "national brand",
        "category_id": category_name(product),
        "uom_id": unit,
        "last_cost": str(round(product.price * COST_SHARE, 2)),
        "sale_price": str(product.price),
    }
    return NewRow("products", f"product-{product.product_id}", data)
