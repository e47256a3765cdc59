"""Which other row holds a value that must be unique, and which document number is free."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from api.db import Session
from api.verdicts import Refused
from schema.tables import Table

_TRAILING_DIGITS = re.compile(r"(.*?)(\d{1,18})$", re.DOTALL)
NUMBERS_READ_MAX = 1000


async def duplicate_refusal(session: Session, table: Table, company_id: int, values: Mapping[str, Any]) -> Refused:
    """Return `duplicate_key` with the other row's id, or `number_taken` with a number that is free."""
    key = table.unique
    if key is None:
        return Refused("duplicate_key", "another record has this value already")
    wanted = [values.get(column) for column in key.columns]
    conditions = " AND ".join(f"`{column}` = %s" for column in key.columns)
    live = "" if key.is_document_number else " AND deleted_at IS NULL"
    sql = f"SELECT id FROM `{table.name}` WHERE company_id = %s AND {conditions}{live} LIMIT 1"
    row = await session.fetch_one(sql, (company_id, *wanted))
    details: dict[str, Any] = {"other_id": row[0]} if row else {}
    if not key.is_document_number:
        return Refused("duplicate_key", f"another record has this {key.columns[-1]} already", details=details)
    details["suggested_number"] = await _free_number(session, table, company_id, values)
    return Refused("number_taken", f"{key.columns[-1]} {wanted[-1]} is taken", details=details)


async def _free_number(session: Session, table: Table, company_id: int, values: Mapping[str, Any]) -> str:
    """The number after the largest with the same words before it, its digits as wide."""
    assert table.unique is not None
    *others, column = table.unique.columns
    number = str(values[column])
    found = _TRAILING_DIGITS.fullmatch(number)
    prefix, digits = (found[1], found[2]) if found else (f"{number}-", "0")
    conditions = "".join(f" AND `{other}` = %s" for other in others)
    sql = (
        f"SELECT `{column}` FROM `{table.name}` WHERE company_id = %s{conditions} AND LEFT(`{column}`, %s) = %s "
        f"ORDER BY CHAR_LENGTH(`{column}`) DESC, `{column}` DESC LIMIT %s"
    )
    params = (company_id, *(values[other] for other in others), len(prefix), prefix, NUMBERS_READ_MAX)
    taken = [row[0][len(prefix) :] for row in await session.fetch_all(sql, params)]
    largest = max((int(rest) for rest in taken if rest.isascii() and rest.isdecimal()), default=int(digits))
    return f"{prefix}{max(largest, int(digits)) + 1:0{len(digits)}d}"
