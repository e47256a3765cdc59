"""The newest change of each company, up to a head: one dive into the change log's key for each that is asked for."""

from __future__ import annotations

from collections.abc import Collection

from api.db import Session

COMPANIES_PER_QUERY_MAX = 64
# With constants MySQL takes the end of a range from the key (EXPLAIN: Select tables optimized away). A GROUP BY would visit every
# company that there is, and a join the whole history of each.
_READ_NEWEST = "SELECT MAX(version) FROM sync_changes WHERE company_id = %s AND version <= %s"


async def read_newest(session: Session, company_ids: Collection[int], head: int) -> dict[int, int]:
    """Return each company's newest version up to `head`, 0 where it has none."""
    asked = list(company_ids)
    newest: dict[int, int] = {}
    for start in range(0, len(asked), COMPANIES_PER_QUERY_MAX):
        part = asked[start : start + COMPANIES_PER_QUERY_MAX]
        # A power of two of them, so that there are few statements to prepare.
        padded = part + [part[-1]] * ((1 << (len(part) - 1).bit_length()) - len(part))
        sql = " UNION ALL ".join(f"({_READ_NEWEST})" for _ in padded)
        rows = await session.fetch_all(sql, [value for company_id in padded for value in (company_id, head)])
        newest.update((company_id, row[0] or 0) for company_id, row in zip(padded, rows, strict=True))
    return newest
