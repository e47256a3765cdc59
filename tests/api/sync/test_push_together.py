"""A push that is applied in few statements comes to the same as one whose changes are applied one after the other.

Random pushes against books with a history, each applied twice to the same state, in transactions that are rolled back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from api import push_groups
from api.auth import AUTH
from api.db import Session
from api.keys import DATABASE
from api.push import Pushed, apply_push
from api.push_context import PushContext
from api.push_request import parse_push
from api.scope import SCOPES, Scope
from api.verdicts import Verdict
from schema.tables import TABLES
from tests.api.conftest import Api
from tests.api.sync.test_push_groups import BASICS, sale
from tests.api.tills import drained, shop
from tests.device import Change, delete, insert, update
from tests.sql_client import SqlClient

pytestmark = pytest.mark.asyncio(loop_scope="module")

EXAMPLES = 40
NOW_US = 1_790_000_000_000_000
_TIMES = frozenset({"created_at", "updated_at", "deleted_at"})
_KEPT = (
    "SELECT table_name, local_id, record_id FROM record_identities WHERE company_id = %s ORDER BY table_name, local_id",
    "SELECT table_name, record_id, seq, status FROM sync_pushed WHERE company_id = %s ORDER BY id",
    "SELECT table_name, record_id FROM sync_redeliveries WHERE company_id = %s ORDER BY table_name, record_id",
    "SELECT table_name, record_id, type, code, fields FROM sync_conflicts WHERE company_id = %s ORDER BY fingerprint",
)


class RolledBack(Exception):
    """Ends a transaction that leaves nothing."""


class Books:
    """A company with a past, and the device that pushes to it; `ids` by table of rows that are there."""

    def __init__(self, api: Api, scope: Scope, device_id: str, ids: Mapping[str, Sequence[int]], head: int) -> None:
        self.database = api.app[DATABASE]
        self.settings = api.settings
        self.scope = scope
        self.device_id = device_id
        self.ids = ids
        self.head = head

    async def outcome(self, changes: Sequence[Change], *, in_turn: bool) -> tuple[list[Any], dict[str, Any]]:
        """What becomes of a push: verdicts, and all rows, with new ids by what the device called the records."""
        push = parse_push({"device_id": self.device_id, "changes": list(changes)}, self.settings)
        result: list[Any] = []

        async def work(session: Session) -> None:
            pushed = await apply_push(session, self.scope, push, "test", NOW_US)
            result.append((pushed, await self._state(session)))
            raise RolledBack

        with pytest.MonkeyPatch.context() as patch:
            if in_turn:
                patch.setattr(push_groups, "_apply", _in_turn)
            with pytest.raises(RolledBack):
                await self.database.run(work, attempts=5)
        pushed, state = result[0]
        names = _names(pushed)
        return [_verdict(verdict, names) for verdict in pushed.verdicts], _named(state, names)

    async def _state(self, session: Session) -> dict[str, Any]:
        company = self.scope.company_id
        state: dict[str, Any] = {}
        for table in TABLES.values():
            columns = [c.name for c in table.columns if c.name not in _TIMES]
            listed = ", ".join(f"`{name}`" for name in columns)
            sql = f"SELECT {listed}, deleted_at IS NULL FROM `{table.name}` WHERE `{table.company_column}` = %s"
            rows = [dict(zip([*columns, "is_live"], row, strict=True)) for row in await session.fetch_all(sql, (company,))]
            state[table.name] = {(table.name, row["id"]): _referring(table.name, row) for row in rows}
        state["kept"] = [
            [
                [_key(row[0], value) if name == "record_id" else value for name, value in zip(_columns(sql), row, strict=True)]
                for row in rows
            ]
            for sql in _KEPT
            for rows in [await session.fetch_all(sql, (company,))]
        ]
        return state


def _columns(sql: str) -> list[str]:
    return sql.removeprefix("SELECT ").split(" FROM ")[0].split(", ")


def _key(table: str, record_id: int | None) -> tuple[str, int | None]:
    return (table, record_id)


def _referring(table: str, row: dict[str, Any]) -> dict[str, Any]:
    targets = TABLES[table].references
    return {n: _key(targets[n], v) if n in targets else _key(table, v) if n == "id" else v for n, v in row.items()}


def _names(pushed: Pushed) -> dict[tuple[str, int | None], str]:
    """What the device calls the records that it made."""
    return {(v.change.table, v.record_id): f"{v.change.table} {v.change.local_id}" for v in pushed.verdicts if v.is_maker}


def _named(value: Any, names: Mapping[Any, str]) -> Any:
    """A value with new ids replaced."""
    if isinstance(value, tuple) and value in names:
        return names[value]
    if isinstance(value, dict):
        return {str(_named(key, names)): _named(item, names) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_named(item, names) for item in value]
    return value


def _verdict(verdict: Verdict, names: Mapping[Any, str]) -> Any:
    """All that is answered and kept of a verdict."""
    change = verdict.change
    values, base = dict(verdict.values), dict(verdict.base or {})
    if change.table in TABLES:
        targets = TABLES[change.table].references
        values, base = (
            {n: _key(targets[n], v) if n in targets and isinstance(v, int) else v for n, v in shown.items()}
            for shown in (values, base)
        )
    details = {n: _key(change.table, v) if n == "other_id" else v for n, v in verdict.details.items()}
    told = (verdict.is_told, verdict.is_change, verdict.is_exact, verdict.is_maker, verdict.is_retryable)
    said = (verdict.code, verdict.message, list(verdict.fields), list(verdict.ignored), base)
    return _named([change.seq, verdict.status, _key(change.table, verdict.record_id), *said, told, values, details], names)


async def _in_turn(context: PushContext, groups: Sequence[push_groups.Group]) -> list[Verdict]:
    """One group after the other, as they are planned."""
    return [verdict for group in groups for verdict in await push_groups._apply_alone(context, group)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def books(api: Api) -> Books:
    """Sales and master data by this device and another; what this one holds is partly stale."""
    owner, (line, other) = await shop(api)
    basics = [insert(table, name, **data) for table, name, data in BASICS]
    more = [insert("products", f"p{n}", name=f"P{n}", sku=f"S{n}") for n in range(4)]
    more += [insert("parties", f"c{n}", name=f"C{n}") for n in range(4)] + [insert("item_categories", "k", name="K")]
    more += [insert("settings", "theme", name="theme", value={"a": 1.5})]
    draft = insert("transactions", "draft", type="sale", date="2026-02-03", total_amount="0.00", is_posted=False)
    await line.push(*basics, *more, draft, *sale("old-1"), *sale("old-2"))
    await drained(line)
    await drained(other)
    with SqlClient(api.settings) as sql:
        company = owner.company_id
        ids = {t: [r[0] for r in sql.rows(f"SELECT id FROM `{t}` WHERE {TABLES[t].company_column} = %s", company)] for t in TABLES}
        sql.run(
            f"UPDATE products SET sale_price = 3.5 WHERE id IN ({ids['products'][0]}, {ids['products'][1]})",
            f"UPDATE parties SET phone = '9' WHERE id = {ids['parties'][0]}",
            f"UPDATE item_categories SET deleted_at = NOW(6) WHERE id = {ids['item_categories'][0]}",
        )
        head = sql.wait_for_tailer()
    await line.push(update("products", ids["products"][2], name="Mine"))
    scope = await api.app[SCOPES].find(await api.app[AUTH].identify(owner.token), company, line.device_id)
    return Books(api, scope, line.device_id, ids, head)


Op = tuple[Any, ...]
"""What to push, by its kind, with rows named by their place among those that are there."""
_few = st.integers(0, 5)
_OPS = st.one_of(
    st.tuples(st.just("sale"), _few, st.sampled_from(("10.00", "10.00", "9.00")), st.sampled_from(("10.00", "10.00", "7.00"))),
    st.tuples(st.just("line"), _few, _few, st.sampled_from(("10.00", "0.00"))),
    st.tuples(st.just("product"), _few, st.sampled_from((None, "S0", "S3", "S8", "S9")), st.booleans()),
    st.tuples(st.just("party"), _few),
    st.tuples(st.just("setting"), st.sampled_from(("theme", "other")), st.sampled_from(({"b": [1, 2.5]}, None, "x"))),
    st.tuples(
        st.just("edit"),
        st.sampled_from(("products", "parties", "accounts", "item_categories")),
        _few,
        st.sampled_from((None, 0, 1)),
    ),
    st.tuples(st.just("price"), _few, st.sampled_from(("1.00", "2.00")), st.sampled_from((None, 0, 1))),
    st.tuples(st.just("sku"), _few, st.sampled_from(("S0", "S8", "S9"))),
    st.tuples(st.just("theme"), st.sampled_from(({"a": 1.5}, {"a": 2}, None))),
    st.tuples(st.just("post"), _few, st.booleans()),
    st.tuples(st.just("pay"), _few, st.sampled_from(("paid", "void", "draft"))),
    st.tuples(st.just("again"), _few),
    st.tuples(st.just("delete"), st.sampled_from(("products", "parties", "transactions", "transaction_lines", "settings")), _few),
    st.tuples(st.just("payment"), _few, st.sampled_from(("R1", "R2"))),
    st.tuples(st.just("category"), _few),
    st.tuples(st.just("categorised"), _few, _few),
    st.tuples(st.just("new party's"), _few, st.sampled_from(("phone", "address")), st.sampled_from(("1", "2"))),
    st.tuples(st.just("new sale's"), _few, st.sampled_from(("seen", "read"))),
)


def changes_of(books: Books, op: Op) -> list[Change]:
    """The changes that an operation means in these books."""
    kind, *told = op

    def at(table: str, place: int) -> int:
        return books.ids[table][place % len(books.ids[table])]

    match kind, told:
        case "sale", (n, line, entry):
            return sale(f"new-{n}", line_amount=line, entry=entry, product=at("products", n), account=at("accounts", 0))
        case "line", (n, place, amount):
            return [insert("transaction_lines", f"l{n}", transaction_id=at("transactions", place), line_amount=amount)]
        case "product", (n, sku, has_category):
            return [insert("products", f"n{n}", name=f"N{n}", sku=sku, **({"category_id": "c1"} if has_category else {}))]
        case "party", (n,):
            return [insert("parties", f"q{n}", name=f"Q{n}")]
        case "setting", (name, value):
            return [insert("settings", f"set-{name}", name=name, value=value)]
        case "edit", (table, place, base):
            return [update(table, at(table, place), more=_base(books, base), **_edit(table, place))]
        case "price", (place, price, base):
            return [update("products", at("products", place), more=_base(books, base), sale_price=price)]
        case "sku", (place, sku):
            return [update("products", at("products", place), sku=sku)]
        case "theme", (value,):
            return [update("settings", at("settings", 0), value=value, more=_base(books, 0))]
        case "post", (place, is_posted):
            return [update("transactions", at("transactions", place), is_posted=is_posted, description="seen")]
        case "pay", (place, status):
            return [update("invoices", at("invoices", place), status=status)]
        case "again", (n,):
            return [
                insert("products", f"p{n}", name=f"P{n}", sku=f"S{n}"),
                update("products", None, more={"local_id": f"p{n}"}, name="A"),
            ]
        case "delete", (table, place):
            return [delete(table, at(table, place))]
        case "payment", (n, number):
            return [insert("payment_ins", f"in{n}", receipt_no=number, receipt_date="2026-02-03", party_id=f"q{n}")]
        case "category", (n,):
            return [insert("item_categories", f"k{n}", name=f"K{n}")]
        case "categorised", (place, n):
            return [update("products", at("products", place), category_id=f"k{n}")]
        case "new party's", (n, column, value):
            return [update("parties", None, more={"local_id": f"q{n}"}, **{column: value})]
        case "new sale's", (n, value):
            return [update("transactions", None, more={"local_id": f"new-{n}-t"}, description=value)]
    raise AssertionError(kind)


def _base(books: Books, age: int | None) -> dict[str, Any]:
    """The base version that a change names: none, the head, or an old one."""
    return {} if age is None else {"base_version": books.head if age == 0 else 2}


def _edit(table: str, place: int) -> dict[str, Any]:
    return {"products": {"description": "d"}, "parties": {"phone": str(place)}}.get(table, {"name": f"E{place}"})


NAMED_BEFORE_IT_IS_MADE: list[tuple[Op, str | None]] = [
    (("party", 0), None),
    (("sale", 0, "10.00", "7.00"), "g1"),
    (("category", 0), "g1"),
    (("categorised", 0, 0), None),
    (("categorised", 0, 0), None),
    (("category", 0), None),
]
"""The first category is refused with its group, so both edits name nothing. What comes after it is tried together once more."""


NOTHING_BUT_BY_AN_UNDONE_GROUP: list[tuple[Op, str | None]] = [
    (("categorised", 3, 4), None),
    (("category", 4), "g2"),
    (("categorised", 3, 4), "g2"),
    (("sku", 0, "S0"), "g2"),
]
"""The second edit comes to nothing only because the first one, which is undone with it, had set the same."""


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.tuples(_OPS, st.sampled_from((None, None, None, "g1", "g2"))), min_size=1, max_size=10),
    st.randoms(use_true_random=False),
)
@example(ops=NAMED_BEFORE_IT_IS_MADE, rng=Random(0))
@example(ops=NOTHING_BUT_BY_AN_UNDONE_GROUP, rng=Random(0))
async def test_what_is_applied_together_comes_to_the_same_as_in_turn(
    books: Books, ops: list[tuple[Op, str | None]], rng: Any
) -> None:
    changes = [{**change, **({"group": group} if group else {})} for op, group in ops for change in changes_of(books, op)]
    if rng.random() < 0.3:
        rng.shuffle(changes)
    verdicts, state = await books.outcome(changes, in_turn=False)
    expected, stored = await books.outcome(changes, in_turn=True)
    assert verdicts == expected
    assert state == stored
