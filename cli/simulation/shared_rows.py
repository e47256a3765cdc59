"""Equal rows of many stores are held once: a hundred devices in one process would hold a hundred copies."""

from __future__ import annotations

from cli.demo.store import Row


class SharedRows:
    """The newest row of each record. A row is taken for another only if both are equal, and of the same types."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, int], Row] = {}

    def keep(self, table: str, record_id: int, row: Row) -> Row:
        """The row to hold."""
        known = self._rows.get((table, record_id))
        if known is row:
            return row
        if known is not None and known == row and _types(known) == _types(row):
            return known
        self._rows[table, record_id] = row
        return row


def _types(row: Row) -> list[type]:
    """1 and true are equal, and are not the same."""
    return [*map(type, row.values())]
