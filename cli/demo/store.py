"""A till's own store: the rows it shows, whether the server has them yet or not. Kept in memory; an app would keep it on disk.

What a till writes stands here at once, under its own name for the row until the server has given it an id. What the server tells,
by a pull or in the answer to a push, replaces it. No row is ever altered in place, so stores may hold the same one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

Row = dict[str, Any]
Keep = Callable[[str, int, Row], Row]
"""table, record id, row → the row to hold: an equal one that is there already, where many stores are in one process."""


class LocalStore:
    """Rows by table and record id; those that the server does not know yet are in `unsent`, by local id."""

    def __init__(self, keep: Keep | None = None) -> None:
        self.rows: dict[str, dict[int, Row]] = defaultdict(dict)
        self.unsent: dict[str, dict[str, Row]] = defaultdict(dict)
        self._versions: dict[str, dict[int, int]] = defaultdict(dict)
        self._keep = keep

    def put_new(self, table: str, local_id: str, data: Mapping[str, Any]) -> None:
        """Keep a row that the server does not know."""
        self.unsent[table][local_id] = dict(data)

    def forget(self, table: str, local_id: str) -> None:
        """The server will never have a row of ours."""
        self.unsent[table].pop(local_id, None)

    def edit(self, table: str, record_id: int, values: Mapping[str, Any]) -> None:
        """Change a row here, before the server hears of it."""
        self.rows[table][record_id] = {**self.rows[table][record_id], **values}

    def remove(self, table: str, record_id: int) -> None:
        """Take a row away here; nothing happens where there is none."""
        self.rows[table].pop(record_id, None)

    def stored(self, table: str, local_id: str, record_id: int) -> None:
        """The server has a row of ours, under this id. A pull may have brought it already."""
        row = self.unsent[table].pop(local_id, None)
        if row is not None:
            self.rows[table].setdefault(record_id, {**row, "id": record_id})

    def told(self, table: str, record_id: int, data: Row, version: int, *, is_deleted: bool) -> None:
        """The server says what a row is; `data` is this store's from now on."""
        if is_deleted:
            self.remove(table, record_id)
        else:
            self.rows[table][record_id] = self._keep(table, record_id, data) if self._keep else data
            self._versions[table][record_id] = version

    def drop(self, table: str) -> None:
        """This device may not see a table any more."""
        self.rows[table].clear()
        self._versions[table].clear()

    def clear(self) -> None:
        """Drop all that the server told."""
        self.rows.clear()
        self._versions.clear()

    def version(self, table: str, record_id: int) -> int | None:
        """The version at which a row was last told."""
        return self._versions[table].get(record_id)

    def by(self, table: str, column: str) -> dict[str, Row]:
        """A table's rows by one of their columns."""
        return {str(row[column]): row for row in self.rows[table].values()}
