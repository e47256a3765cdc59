"""What a device keeps over a restart of the app, in SQLite: rows, drafts, ids, versions, cursor, outbox."""

from __future__ import annotations

import json
import sqlite3
import weakref
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

_SCHEMA = """
CREATE TABLE held (table_name TEXT, record_id INTEGER, value TEXT, PRIMARY KEY (table_name, record_id)) WITHOUT ROWID;
CREATE TABLE versions (table_name TEXT, record_id INTEGER, value TEXT, PRIMARY KEY (table_name, record_id)) WITHOUT ROWID;
CREATE TABLE drafts (table_name TEXT, local_id TEXT, value TEXT, PRIMARY KEY (table_name, local_id)) WITHOUT ROWID;
CREATE TABLE ids (table_name TEXT, local_id TEXT, value TEXT, PRIMARY KEY (table_name, local_id)) WITHOUT ROWID;
CREATE TABLE outbox (seq INTEGER PRIMARY KEY, value TEXT);
CREATE TABLE refused (seq INTEGER PRIMARY KEY, value TEXT);
CREATE TABLE state (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
"""


class Shelf(MutableMapping[Any, Any]):
    """One table as a mapping in the order of its keys. A value is JSON: what is read is a copy, and is put back to count."""

    def __init__(self, db: sqlite3.Connection, table: str, *keys: str) -> None:
        self._db = db
        self._is_single = len(keys) == 1
        names, condition = ", ".join(keys), " AND ".join(f"{key} = ?" for key in keys)
        self._get = f"SELECT value FROM {table} WHERE {condition}"
        self._put = f"INSERT OR REPLACE INTO {table} ({names}, value) VALUES ({', '.join('?' for _ in keys)}, ?)"
        self._del = f"DELETE FROM {table} WHERE {condition}"
        self._all = f"SELECT {names} FROM {table} ORDER BY {names}"
        self._items = f"SELECT {names}, value FROM {table} ORDER BY {names}"
        self._count = f"SELECT COUNT(*) FROM {table}"

    def __getitem__(self, key: Any) -> Any:
        found = self._db.execute(self._get, self._params(key)).fetchone()
        if found is None:
            raise KeyError(key)
        return json.loads(found[0])

    def __setitem__(self, key: Any, value: Any) -> None:
        self._db.execute(self._put, (*self._params(key), json.dumps(value)))

    def __delitem__(self, key: Any) -> None:
        if self._db.execute(self._del, self._params(key)).rowcount == 0:
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return self._db.execute(self._get, self._params(key)).fetchone() is not None

    def __iter__(self) -> Iterator[Any]:
        rows = self._db.execute(self._all).fetchall()
        return iter([row[0] for row in rows] if self._is_single else rows)

    def __len__(self) -> int:
        return int(self._db.execute(self._count).fetchone()[0])

    def listed(self) -> list[tuple[Any, Any]]:
        """All keys and values, in one query."""
        rows = self._db.execute(self._items).fetchall()
        return [(row[0] if self._is_single else row[:-1], json.loads(row[-1])) for row in rows]

    def _params(self, key: Any) -> tuple[Any, ...]:
        return (key,) if self._is_single else key


class Store:
    """In memory: a restart of the app is played, not one of the phone."""

    def __init__(self) -> None:
        self._db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self._db.close)
        self._db.executescript(_SCHEMA)
        self.rows = Shelf(self._db, "held", "table_name", "record_id")
        self.versions = Shelf(self._db, "versions", "table_name", "record_id")
        self.drafts = Shelf(self._db, "drafts", "table_name", "local_id")
        self.ids = Shelf(self._db, "ids", "table_name", "local_id")
        self.outbox = Shelf(self._db, "outbox", "seq")
        self.refused = Shelf(self._db, "refused", "seq")
        self.state = Shelf(self._db, "state", "name")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written inside, or nothing."""
        self._db.execute("BEGIN")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def next_number(self, name: str) -> int:
        """1, 2, 3 …, over restarts too."""
        number = int(self.state.get(name, 0)) + 1
        self.state[name] = number
        return number
