"""Safe cursors: a client that stores `current_version` of every answer, and knows nothing else, never misses a change (§1.3)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from api.deliveries import Deliveries, decode, encode
from tests.api.conftest import Api
from tests.api.tills import drained, newest, shop, till, until_a_lock_is_waited_for
from tests.device import Device, Habit, delete, insert, update
from tests.oracle import Oracle, comparable_rows
from tests.sql_client import SqlClient

TABLES = ("parties", "products", "settings")
LISTS = (("parties",), ("products", "settings"), TABLES)
SELDOM = st.sampled_from([False, False, False, True])


@dataclass
class Log:
    """A change log of numbers: which table each version is of, and whether our device made it exactly so."""

    tables: list[str] = field(default_factory=lambda: [""] * 8)
    own: set[int] = field(default_factory=set)

    @property
    def head(self) -> int:
        return len(self.tables) - 1

    def write(self, table: str, *, is_own: bool = False) -> int:
        self.tables.append(table)
        if is_own:
            self.own.add(self.head)
        return self.head

    def after(self, version: int, tables: tuple[str, ...]) -> list[int]:
        return [v for v in range(max(version + 1, 2), self.head + 1) if self.tables[v] in tables]


class OneDevice(RuleBasedStateMachine):
    """A device and its server's memory of it. Changes it did not get must still be to come."""

    def __init__(self) -> None:
        super().__init__()
        self.log = Log()
        self.deliveries = Deliveries()
        self.given: set[int] = set()
        self.cursor = 0
        self.is_pull_lost = False

    @rule(table=st.sampled_from(TABLES), count=st.integers(1, 3))
    def others_write(self, table: str, count: int) -> None:
        for _ in range(count):
            self.log.write(table)

    @rule(writes=st.lists(st.tuples(st.sampled_from(TABLES), st.booleans()), max_size=3), is_lost=SELDOM, is_full=SELDOM)
    def push(self, writes: list[tuple[str, bool]], is_lost: bool, is_full: bool) -> None:
        if self.is_pull_lost and not is_full:
            return  # the one thing a client that sends no last_version must not do
        self._store(self.deliveries.push_begun(self.cursor if is_full else None))
        for table, is_exact in writes:
            version = self.log.write(table, is_own=is_exact)
            if is_exact:
                self.given.add(version)
        self._meanwhile()
        cursor = self._answer_push()
        if not is_lost:
            self.cursor = cursor

    def _meanwhile(self) -> None:
        """What happens between a push and its answer."""

    def _answer_push(self) -> int:
        cursor = self.deliveries.push_cursor(self._safe_cursor(), TABLES)
        self._store(self.deliveries.push_answered(cursor, TABLES, 1))
        return cursor

    @invariant()
    def what_it_has_not_got_is_still_to_come(self) -> None:
        for tables in LISTS:
            start = self.deliveries.cursor_for(tables, self.cursor)
            missed = [v for v in self.log.after(0, tables) if v <= start and v not in self.given]
            assert not missed, f"{tables} from {start} never bring {missed}"

    @invariant()
    def a_device_that_goes_on_pulling_gets_to_the_head(self) -> None:
        """The server's lowering of cursors never keeps a device where it is."""
        kept = self.deliveries
        cursor = self.cursor
        for _ in range(len(self.log.tables) + 3):
            _, cursor = self._answer_pull(TABLES, cursor, 1)
        assert cursor == self.log.head
        self.deliveries = kept

    def _pull(self, tables: tuple[str, ...], limit: int) -> None:
        rows, self.cursor = self._answer_pull(tables, self.cursor, limit)
        self.given |= set(rows)
        self.is_pull_lost = False

    def _answer_pull(self, tables: tuple[str, ...], last_version: int, limit: int) -> tuple[list[int], int]:
        start = self.deliveries.cursor_for(tables, last_version)
        rows = self.log.after(start, tables)
        is_more = len(rows) > limit
        rows = rows[:limit]
        cursor = rows[-1] if is_more else self.log.head
        if rows and start < last_version == cursor:  # the same cursor again would not tell whether this page arrived
            rows, cursor = (rows, cursor - 1) if rows[-1] < cursor else (rows[:-1], rows[-1] - 1)
        if rows or not self.deliveries.is_known(tables, start, last_version):
            head, sent = self.log.head, last_version
            self._store(self.deliveries.pulled(tables, start, cursor, head=head, min_version=1, sent=sent))
        return rows, cursor

    def _safe_cursor(self) -> int:
        floors = {table: known.sure for table, known in self.deliveries.tables.items()} or dict.fromkeys(TABLES, 0)
        for version in range(2, self.log.head + 1):
            table = self.log.tables[version]
            if table in floors and version > floors[table] and version not in self.log.own:
                return version - 1
        return self.log.head

    def _store(self, deliveries: Deliveries) -> None:
        self.deliveries = decode(encode(deliveries))
        assert self.deliveries == deliveries


class OnABadLine(OneDevice):
    """Answers are lost, and requests arrive twice, the answer of one of them going nowhere."""

    @rule(limit=st.integers(1, 4), is_lost=SELDOM, between=st.integers(0, 2), is_doubled=st.booleans())
    def pull(self, limit: int, is_lost: bool, between: int, is_doubled: bool) -> None:
        start = self.cursor
        if is_lost:
            self._answer_pull(TABLES, start, limit)
            self.is_pull_lost = True
        else:
            self._pull(TABLES, limit)
        if is_doubled:
            self.others_write("parties", between)
            self._answer_pull(TABLES, start, limit)


class WithLateCopies(OneDevice):
    """Copies of pulls arrive long after, also between a push and its answer; what they are answered goes nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.starts: list[int] = []
        self.late: list[tuple[int, int]] = []

    @rule(limit=st.integers(1, 4), is_lost=SELDOM)
    def pull(self, limit: int, is_lost: bool) -> None:
        self.starts.append(self.cursor)
        if is_lost:
            self._answer_pull(TABLES, self.cursor, limit)
            self.is_pull_lost = True
        else:
            self._pull(TABLES, limit)

    @rule(ago=st.integers(1, 4), others=st.integers(0, 2), is_during_push=st.booleans())
    def a_copy_is_late(self, ago: int, others: int, is_during_push: bool) -> None:
        self.late.append((ago, others))
        if not is_during_push:
            self._meanwhile()

    @invariant()
    def a_device_that_pushes_before_each_pull_gets_to_the_head(self) -> None:
        kept, cursor = self.deliveries, self.cursor
        for _ in range(len(self.log.tables) // 4 + 6 if not self.is_pull_lost else 0):
            self.deliveries = self.deliveries.push_begun(None)
            _, cursor = self._answer_pull(TABLES, self._answer_push(), 4)
        assert cursor == self.log.head or self.is_pull_lost
        self.deliveries = kept

    def _meanwhile(self) -> None:
        for ago, others in self.late:
            for _ in range(others):
                self.log.write("parties")
            if self.starts:
                self._answer_pull(TABLES, self.starts[-min(ago, len(self.starts))], 4)
        self.late = []


class WithChangingLists(OneDevice):
    """The device asks for now these and now those tables with one cursor, and answers are lost."""

    @rule(tables=st.sampled_from(LISTS), limit=st.integers(1, 4), is_lost=SELDOM)
    def pull(self, tables: tuple[str, ...], limit: int, is_lost: bool) -> None:
        if is_lost:
            self._answer_pull(tables, self.cursor, limit)
            self.is_pull_lost = True
        else:
            self._pull(tables, limit)


TestOnABadLine = OnABadLine.TestCase
TestWithChangingLists = WithChangingLists.TestCase
TestWithLateCopies = WithLateCopies.TestCase
_SETTINGS = settings(max_examples=120, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck))
TestOnABadLine.settings = TestWithChangingLists.settings = _SETTINGS
TestWithLateCopies.settings = settings(_SETTINGS, max_examples=60)


def test_a_device_without_memory_is_believed() -> None:
    assert Deliveries().cursor_for(TABLES, 500) == 500
    assert decode(None) == Deliveries()


def test_a_cursor_does_not_speak_for_a_table_it_was_not_answered_for() -> None:
    some = Deliveries().pulled(("parties",), 0, 100, head=100, min_version=1)
    assert some.cursor_for(("parties",), 250) == 100
    assert some.cursor_for(("parties", "products"), 100) == 0
    assert some.cursor_for(("parties",), 40) == 40


def test_a_device_that_asks_from_the_same_place_again_may_not_have_got_the_page_that_began_further_back() -> None:
    one = ("parties",)
    some = Deliveries().pulled(one, 0, 100, head=100, min_version=1)
    again = some.pulled(one, 100, 150, head=150, min_version=1, sent=150, told=149)
    assert again.cursor_for(one, 150) == 100, "the same request: its answer was lost"
    assert again.cursor_for(one, 149) == 149, "what the answer named"


EXACT = {"name": "kg", "abbrev": "k"}


@pytest.mark.asyncio(loop_scope="module")
async def test_a_pull_answers_the_newest_version_it_looked_at_of_any_company(api: Api) -> None:
    _, (line, _) = await shop(api)
    _, (stranger, _) = await shop(api)
    await line.pull_all()
    await stranger.push(insert("parties", "a", name="x"))
    page = await line.pull(await drained(line))
    assert page["changes"] == [] and page["current_version"] == page["head_version"]


@pytest.mark.asyncio(loop_scope="module")
async def test_a_push_answer_passes_the_devices_own_exact_rows_but_no_row_of_others(api: Api) -> None:
    _, (line, other) = await shop(api)
    await drained(line)
    own = await line.push(insert("units_of_measure", "u", **EXACT))
    assert own["current_version"] == own["head_version"]
    theirs = (await other.push(insert("units_of_measure", "a", **EXACT)))["results"][0]["version"]
    mixed = await line.push(insert("units_of_measure", "v", **EXACT))
    assert mixed["current_version"] == theirs - 1
    page = await line.pull(mixed["current_version"])
    assert theirs in {change["version"] for change in page["changes"]}
    after = await line.push(insert("units_of_measure", "w", **EXACT))
    assert after["current_version"] == after["head_version"]


@pytest.mark.asyncio(loop_scope="module")
async def test_a_row_that_got_values_from_the_server_counts_as_not_given(api: Api) -> None:
    _, (line, _) = await shop(api)
    await drained(line)
    answer = await line.push(insert("parties", "a", name="gets defaults"), insert("units_of_measure", "u", **EXACT))
    version = answer["results"][0]["version"]
    assert answer["current_version"] == version - 1
    [change] = [c for c in (await line.pull(answer["current_version"]))["changes"] if c["version"] == version]
    assert change["data"]["party_type"] == "customer"


@pytest.mark.asyncio(loop_scope="module")
async def test_a_merged_row_counts_as_not_given(api: Api) -> None:
    _, (line, other) = await shop(api)
    made = (await other.push(insert("products", "p", name="Tea")))["id_mappings"]["p"]
    changes, cursor = await line.pull_all()
    row = newest(changes)["products", made]["data"]
    await other.push(update("products", made, sku="1"))
    merged = await line.push(update("products", None, **{**row, "description": "mine"}))
    assert merged["results"][0]["status"] == "merged" and merged["current_version"] == cursor
    data = newest((await line.pull(merged["current_version"]))["changes"])["products", made]["data"]
    assert (data["sku"], data["description"]) == ("1", "mine")


@pytest.mark.asyncio(loop_scope="module")
async def test_a_device_that_never_pulled_stays_before_the_first_row_that_is_not_its_own(api: Api) -> None:
    _, (line, _other) = await shop(api)
    answer = await line.push(insert("units_of_measure", "u", **EXACT))
    assert answer["current_version"] < answer["results"][0]["version"]
    changes, _ = await line.pull_all(answer["current_version"])
    assert {"companies", "users"} <= {change["table"] for change in changes}


@pytest.mark.asyncio(loop_scope="module")
async def test_tables_it_never_asked_for_do_not_hold_a_device_back_once_it_has_pulled(api: Api) -> None:
    _, (line, other) = await shop(api)
    page = await line.pull(0, tables=["units_of_measure"])
    await other.push(insert("parties", "a", name="x"))
    answer = await line.push(insert("units_of_measure", "u", **EXACT))
    assert answer["current_version"] == answer["head_version"] > page["current_version"]
    changes, _ = await line.pull_all(answer["current_version"])
    assert {"companies", "users", "parties"} <= {change["table"] for change in changes}, "a table asked for later arrives whole"


@pytest.mark.asyncio(loop_scope="module")
async def test_one_cursor_for_changing_table_lists_or_for_two_companies_loses_nothing(api: Api, admin: SqlClient) -> None:
    owner, (line, _other) = await shop(api)
    second, _ = await shop(api)
    admin.run(
        "INSERT INTO users (company_id, login_id, full_name, role) "
        f"VALUES ({second.company_id}, {owner.login_id}, 'Guest', 'owner')"
    )
    admin.wait_for_tailer()
    cursor = 0
    seen: dict[int, set[tuple[str, int]]] = {owner.company_id: set(), second.company_id: set()}
    for number in range(12):
        company = (owner, second)[number % 2].company_id
        for table, values in (("parties", "name"), ("units_of_measure", "name")):
            admin.run(f"INSERT INTO {table} (company_id, {values}) VALUES ({company}, 'x{number}')")
        admin.wait_for_tailer()
        tables = (["parties"], ["units_of_measure"], ["parties", "units_of_measure"])[number % 3]
        page = await till(owner, line.device_id, company_id=company).pull(cursor, tables=tables)
        seen[company] |= {(c["table"], c["record_id"]) for c in page["changes"]}
        cursor = page["current_version"]
    for company, found in seen.items():
        for _ in range(2):
            page = await till(owner, line.device_id, company_id=company).pull(cursor, tables=["parties", "units_of_measure"])
            found |= {(c["table"], c["record_id"]) for c in page["changes"]}
            cursor = page["current_version"]
        rows = Oracle(admin).rows(company)
        assert found == {(table, key) for table in ("parties", "units_of_measure") for key in rows[table]}


@pytest.mark.asyncio(loop_scope="module")
async def test_a_lost_or_doubled_pull_answer_never_moves_a_push_answer_past_what_was_given(api: Api) -> None:
    _, (line, other) = await shop(api)
    cursor = await drained(line)
    cursor = (await line.push(insert("units_of_measure", "u", **EXACT)))["current_version"]
    assert (await line.pull(cursor))["changes"] == []
    theirs = (await other.push(insert("parties", "a", name="x")))["results"][0]["version"]
    await line.pull(cursor)  # the same request a second time, its answer dropped on the line
    answer = await line.push(insert("units_of_measure", "v", **EXACT))
    assert answer["current_version"] < theirs
    full = await line.push(insert("units_of_measure", "w", **EXACT), last_version=cursor)
    assert full["current_version"] < theirs, "a last_version in the push is believed"


@pytest.mark.asyncio(loop_scope="module")
async def test_a_push_is_decided_anew_where_a_pull_of_its_device_was_recorded_meanwhile(api: Api, admin: SqlClient) -> None:
    _, (line, other) = await shop(api)
    made = (await other.push(insert("products", "p", name="Tea", sale_price="1.0000")))["id_mappings"]["p"]
    cursor = await drained(line)
    theirs = (await other.push(insert("units_of_measure", "a", **EXACT)))["results"][0]["version"]
    admin.run("BEGIN", f"UPDATE products SET name = name WHERE id = {made}")
    push = asyncio.create_task(line.push(update("products", made, sale_price="2.0000")))
    await until_a_lock_is_waited_for(admin)
    assert (await line.pull(cursor))["current_version"] == theirs
    admin.run("ROLLBACK")
    answer = await push
    assert [result["status"] for result in answer["results"]] == ["applied"]
    assert answer["current_version"] >= theirs, "what the pull gave counts as given"
    tables = decode(admin.value("SELECT state FROM sync_deliveries WHERE device_id = %s", line.device_id)).tables
    assert {table.asked for table in tables.values()} == {-1}, "the push is noted after the pull"
    assert min(table.delivered for table in tables.values()) >= theirs
    assert admin.value("SELECT COUNT(*) FROM sync_pushed WHERE device_id = %s", line.device_id) == 1


@pytest.mark.asyncio(loop_scope="module")
async def test_a_last_version_beyond_what_was_answered_is_lowered(api: Api) -> None:
    _, (line, other) = await shop(api)
    await drained(line)
    theirs = (await other.push(insert("parties", "a", name="x")))["results"][0]
    page = await line.pull(theirs["version"])
    assert theirs["version"] in {change["version"] for change in page["changes"]}
    assert page["current_version"] < theirs["version"], "the cursor that was sent would not tell whether this answer arrived"
    again = await line.pull(page["current_version"])
    assert again["current_version"] >= theirs["version"] and not again["has_more"]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("habit", list(Habit))
async def test_devices_of_both_habits_end_with_the_servers_rows(api: Api, admin: SqlClient, habit: Habit) -> None:
    owner, lines = await shop(api, 3)
    devices = [Device(line, habit) for line in lines]
    for device in devices:
        device.insert("products", name=f"made by {device.line.device_id}")
    for device in devices:
        await device.sync()
    for round_ in range(4):
        for at, device in enumerate(devices):
            shared = sorted(device.held()["products"])
            device.update("products", shared[round_ % len(shared)], sku=f"{round_}-{at}")
            device.insert("units_of_measure", name=f"{round_}-{at}", abbrev="u")
            if round_ == 2:
                with pytest.raises(ConnectionError):
                    await device.push(is_answer_lost=True)
            admin.run(f"UPDATE products SET description = 'sql {round_}' WHERE company_id = {owner.company_id} ORDER BY id LIMIT 2")
            admin.wait_for_tailer()
            await device.sync()
    devices[0].delete("products", sorted(devices[0].held()["products"])[0])
    for _ in range(3):
        for device in devices:
            await device.sync()
    wanted = comparable_rows(Oracle(admin).rows(owner.company_id))
    for device in devices:
        assert not device.outbox and not device.drafts
        assert comparable_rows(device.held()) == wanted


@pytest.mark.asyncio(loop_scope="module")
async def test_a_refused_write_is_never_believed_even_by_a_device_whose_cursor_is_long_past(api: Api, admin: SqlClient) -> None:
    owner, (line, other) = await shop(api)
    made = (await other.push(insert("payment_accounts", "b", account_type="bank", account_name="Main")))["id_mappings"]["b"]
    device = Device(line)
    await device.sync()
    await device.pull()
    device.update("payment_accounts", made, icon="mine")
    await other.push(update("payment_accounts", made, icon="theirs"))
    await device.pull()
    await device.sync()
    await device.pull()
    assert comparable_rows(device.held()) == comparable_rows(Oracle(admin).rows(owner.company_id))
    await other.push(delete("payment_accounts", made))
