"""The cursor a push may answer: never beyond a change its device has not been given (contract §1.3)."""

from __future__ import annotations

from api.db import Session
from api.deliveries import Deliveries
from api.heads import Head
from api.scope import Scope
from schema.tables import TABLES
from schema.versions import epoch_of

_FIRST_NOT_GIVEN = """
SELECT version FROM sync_changes
WHERE company_id = %s AND version > %s AND version <= %s AND (for_device IS NULL OR for_device = %s)
    AND NOT (is_exact AND origin_device_id <=> %s) AND ({tables})
ORDER BY version LIMIT 1
"""


async def read_safe_cursor(
    session: Session, scope: Scope, device_id: str, deliveries: Deliveries, head: Head, last_version: int | None = None
) -> int:
    """Return the version before the first change, up to the head, that this device was not given and did not make exactly so.

    Tables it never asked for do not hold it back once it has pulled. A device that never pulled stays before the first foreign row
    after `last_version`, the cursor its push brought along, which is believed as far as this change log knows it.
    """
    is_known = last_version is not None and last_version <= head.version and epoch_of(last_version) == head.epoch
    given = {name: table.sure for name, table in deliveries.tables.items() if name in scope.readable}
    if not given:
        given = {name: last_version or 0 if is_known else 0 for name in TABLES if name in scope.readable}
    if not given:
        return head.version
    floors: dict[int, list[str]] = {}
    for name, version in given.items():
        floors.setdefault(version, []).append(name)
    conditions, params = [], []
    for version, names in floors.items():
        conditions.append(f"(version > %s AND table_name IN ({', '.join('%s' for _ in names)}))")
        params += [version, *names]
    sql = _FIRST_NOT_GIVEN.format(tables=" OR ".join(conditions))
    row = await session.fetch_one(sql, (scope.company_id, min(floors), head.version, device_id, device_id, *params))
    return head.version if row is None else int(row[0]) - 1
