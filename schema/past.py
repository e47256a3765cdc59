"""The rows of a company as they were at a version, from the change log: the queries and words that `api` and `cdc` share.

From a record's newest change the way goes back along prev_version to the first one at or before the version: its image is the row
then. That can be told from `images_from` on, since retention prunes an image only when the change that superseded it is older.
"""

from __future__ import annotations

from schema.values import us_from_rfc3339

READ_PLACE = """
SELECT s.head, s.epoch, r.images_from, (SELECT MIN(fork) FROM sync_epochs WHERE epoch > (%s >> 40))
FROM sync_state s JOIN sync_retention r ON r.id = 1 WHERE s.id = 1
"""
"""Head, epoch, floor of images, and the fork of the pasts after that of a version."""

READ_VERSION_AT = "SELECT last_version FROM sync_tx WHERE commit_time_us <= %s ORDER BY commit_time_us DESC, tx DESC LIMIT 1"
"""The head after the last transaction committed at or before a time in µs."""

READ_IDS = (
    "SELECT record_id FROM sync_live WHERE company_id = %s AND table_name = %s AND record_id > %s ORDER BY record_id LIMIT %s"
)
"""Records that a company has or had, after one."""

READ_IMAGES = """
WITH RECURSIVE chain (version, prev_version) AS (
    SELECT c.version, c.prev_version FROM sync_live l JOIN sync_changes c ON c.company_id = l.company_id AND c.version = l.version
    WHERE l.company_id = %s AND l.table_name = %s AND l.record_id BETWEEN %s AND %s
    UNION ALL
    SELECT c.version, c.prev_version FROM chain JOIN sync_changes c ON c.company_id = %s AND c.version = chain.prev_version
    WHERE chain.version > %s
)
SELECT /*+ SET_VAR(cte_max_recursion_depth = 1000000) */ c.record_id, c.version, c.operation, c.data, c.sealed
FROM chain JOIN sync_changes c ON c.company_id = %s AND c.version = chain.version WHERE chain.version <= %s ORDER BY c.record_id
"""
"""Of records `first` to `last`, the newest image at or before a version."""


def images_params(company_id: int, table: str, first: int, last: int, version: int) -> tuple[int | str, ...]:
    """Return the parameters of READ_IMAGES."""
    return (company_id, table, first, last, company_id, version, company_id, version)


def parse_as_of(text: str) -> tuple[int | None, int | None]:
    """Return (version, None) or (None, µs since 1970) of a version or an RFC 3339 time. Raises ValueError."""
    if text.isascii() and text.isdecimal():
        return int(text), None
    return None, us_from_rfc3339(text)
