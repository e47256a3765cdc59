"""What is remembered of sync_live between appends is what sync_live says, whoever else writes it."""

from __future__ import annotations

import random
from typing import Any

import pytest
from pymysql.connections import Connection

from cdc import live as live_module
from cdc.entries import Entry, Redelivery
from cdc.lease import take_lease
from cdc.live import LiveRecords
from cdc.log import PartWriter, append, prepare
from cdc.repair import Repair
from cdc.state import State, read_state
from cdc.stored import LiveRow
from schema.changes import Operation
from schema.connect import open_connection
from schema.errors import Retry
from tests.cdc.test_log import change, tx
from tests.servers import Database
from tests.sql_client import SqlClient

RECORDS, ROUNDS = 12, 60
Stored = dict[tuple[int, int], tuple[int, str | None]]


def stored(sql: SqlClient) -> Stored:
    """Company and record → version and local id of its maker."""
    return {(c, r): (v, m) for c, r, v, m in sql.rows("SELECT company_id, record_id, version, local_id FROM sync_live")}


def some_entries(chance: random.Random) -> list[Entry | Redelivery]:
    made: list[Entry | Redelivery] = []
    for _ in range(chance.randrange(1, 6)):
        record_id, company = chance.randrange(1, RECORDS), chance.randrange(1, 3)
        if chance.random() < 0.1:
            made.append(Redelivery(company, "till-1", "parties", record_id))
            continue
        entry = change(record_id, chance.choice(list(Operation)), company=company)
        made.append(entry._replace(maker=("till-1", f"temp_{record_id}")) if chance.random() < 0.2 else entry)
    return made


def expected(entries: list[Entry | Redelivery], before: Stored, head: int) -> list[tuple[int | None, str | None]]:
    """prev_version and local_id of each row, told by what was stored and by the entries in front of it."""
    found: list[tuple[int | None, str | None]] = []
    now = dict(before)
    for entry in entries:
        if isinstance(entry, Redelivery):
            older = now.get((entry.company_id, entry.record_id))
            if older is not None:
                head += 1
                found.append((older[0], older[1]))
            continue
        head += 1
        key = entry.change.company_id, entry.change.record_id
        previous, maker = now.get(key, (None, None))
        maker = entry.maker[1] if entry.maker is not None else maker
        found.append((previous, maker))
        now[key] = head, maker
    return found


@pytest.mark.parametrize("kept_max", [0, 5, live_module.RECORDS_KEPT_MAX])
def test_rows_inherit_what_sync_live_says_at_that_moment(
    connection: Connection[Any], database: Database, sql: SqlClient, monkeypatch: pytest.MonkeyPatch, kept_max: int
) -> None:
    monkeypatch.setattr(live_module, "RECORDS_KEPT_MAX", kept_max)
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    take_lease(connection, database.name, wait_seconds=0)
    state, live = read_state(connection), LiveRecords(connection)
    with open_connection(database.settings.operator()) as other:
        for _ in range(ROUNDS):
            somebody_else_writes(other, sql, chance, state)
            entries, before = some_entries(chance), stored(sql)
            wanted, head = expected(entries, before, state.head), state.head
            try:
                state = append(connection, state, [tx(*entries)], live=live)
            except Retry as problem:  # as the tailer does, with what it remembers
                assert problem.code == "live_mended"
                live = LiveRecords(connection)
                state = append(connection, state, [tx(*entries)], live=live)
            rows = sql.rows("SELECT prev_version, local_id FROM sync_changes WHERE version > %s ORDER BY version", head)
            assert rows == wanted


def somebody_else_writes(other: Connection[Any], sql: SqlClient, chance: random.Random, state: State) -> None:
    """Retention takes a tombstone; a row is lost, which nobody does on purpose, and a replay puts it back."""
    rows = sql.rows("SELECT company_id, record_id, version, is_deleted, device_id, local_id FROM sync_live")
    dead = [row for row in rows if row[3]]
    if dead and chance.random() < 0.3:
        company, record_id, version, *_ = chance.choice(dead)
        sql.run(f"DELETE FROM sync_live WHERE (company_id, version) IN (({company},{version})) AND is_deleted")
    if rows and chance.random() < 0.2:
        company, record_id, version, is_deleted, device_id, local_id = chance.choice(rows)
        sql.run(f"UPDATE sync_live SET version = 1 WHERE company_id = {company} AND record_id = {record_id}")
        maker = (device_id, local_id) if device_id is not None else None
        repair = Repair(other, "tester", {})
        repair.restore_live({(company, "parties", record_id): LiveRow(version, bool(is_deleted), maker)})


def test_what_a_replay_puts_back_ends_what_was_remembered(connection: Connection[Any], database: Database, sql: SqlClient) -> None:
    take_lease(connection, database.name, wait_seconds=0)
    state, live = read_state(connection), LiveRecords(connection)
    state = append(connection, state, [tx(change(1)), tx(change(1))], live=live)
    newest = state.head
    sql.run(f"UPDATE sync_live SET version = {newest - 1}")  # damaged, and read so by a tailer that started then
    live = LiveRecords(connection)
    state = append(connection, state, [tx(Redelivery(1, "till-1", "parties", 1))], live=live)
    with open_connection(database.settings.operator()) as other:
        Repair(other, "tester", {}).restore_live({(1, "parties", 1): LiveRow(newest, False, None)})
    asked_for_anyway = Redelivery(1, "till-1", "parties", 2)
    append(connection, state, [tx(change(1), asked_for_anyway)], live=live)
    assert sql.value("SELECT prev_version FROM sync_changes ORDER BY version DESC LIMIT 1") == newest


def test_what_a_replay_puts_back_after_it_was_read_undoes_what_was_made_of_it(
    connection: Connection[Any], database: Database, sql: SqlClient
) -> None:
    take_lease(connection, database.name, wait_seconds=0)
    state, live = read_state(connection), LiveRecords(connection)
    state = append(connection, state, [tx(change(1)), tx(change(1))], live=live)
    newest = state.head
    sql.run(f"UPDATE sync_live SET version = {newest - 1}")
    prepared = prepare(PartWriter(connection, state, LiveRecords(connection)), [tx(change(1))])
    with open_connection(database.settings.operator()) as other:
        Repair(other, "tester", {}).restore_live({(1, "parties", 1): LiveRow(newest, False, None)})
    with pytest.raises(Retry) as raised:
        prepared.commit()
    assert raised.value.code == "live_mended"
    append(connection, state, [tx(change(1))], live=LiveRecords(connection))
    assert sql.rows("SELECT version, prev_version FROM sync_changes ORDER BY version DESC LIMIT 1") == [(newest + 1, newest)]


def test_a_record_of_a_hundred_changes_is_asked_for_once(
    connection: Connection[Any], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_lease(connection, database.name, wait_seconds=0)
    state = append(connection, read_state(connection), [tx(change(1))])
    asked: list[int] = []
    read = LiveRecords._read_keys

    def counting(self: LiveRecords, keys: list[tuple[int, str, int]]) -> None:
        asked.append(len(keys))
        read(self, keys)

    monkeypatch.setattr(LiveRecords, "_read_keys", counting)
    live = LiveRecords(connection)
    for number in range(100):
        state = append(connection, state, [tx(change(1), change(1000 + number))], live=live)
    assert asked == [1]
