"""The short code a company leases each device, so that document numbers made offline cannot collide (domain.md, rule 6).

A device puts it into the numbers it makes, as INV-<code>-000123. The lease is for ever: a code is never given to another device.
"""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

from api.db import DuplicateKey, Session
from api.keys import DATABASE, SETTINGS
from schema.errors import SyncError
from schema.logs import get_logger

log = get_logger(__name__)

LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
"""Consonants: no code is a word, and none is taken for digits."""
ATTEMPTS_MAX = 50
_READ = "SELECT company_id, code FROM document_codes WHERE device_id = %s AND company_id IN ({marks})"
_READ_LAST = "SELECT COALESCE(MAX(seq), 0) FROM document_codes WHERE company_id = %s"
_LEASE = "INSERT INTO document_codes (company_id, device_id, seq, code) VALUES (%s, %s, %s, %s)"


def code_of(seq: int) -> str:
    """Return the code of the `seq`-th device, from 1: B, C, … Z, BB, BC, …"""
    code = ""
    while seq > 0:
        seq, place = divmod(seq - 1, len(LETTERS))
        code = LETTERS[place] + code
    return code


async def read_or_lease(app: web.Application, device_id: str, company_ids: Iterable[int]) -> dict[int, str]:
    """Return the device's code in each company, leased at the first request.

    A company is left out while MySQL refuses writes: the next request leases it.
    """
    wanted = sorted(set(company_ids))
    async with app[DATABASE].read() as session:
        codes = await _read(session, device_id, wanted)
    missing = [company_id for company_id in wanted if company_id not in codes]
    if missing:

        async def work(session: Session) -> dict[int, str]:
            return {company_id: await _lease(session, device_id, company_id) for company_id in missing}

        try:
            codes |= await app[DATABASE].run(work, attempts=app[SETTINGS].push_attempts_max)
        except SyncError as problem:
            log.warning("document_code_not_leased", code=problem.code, device_id=device_id)
    return codes


async def _read(session: Session, device_id: str, company_ids: list[int]) -> dict[int, str]:
    if not company_ids:
        return {}
    sql = _READ.format(marks=", ".join("%s" for _ in company_ids))
    return dict(await session.fetch_all(sql, (device_id, *company_ids)))


async def _lease(session: Session, device_id: str, company_id: int) -> str:
    """Take the next code that is free; another device may take it first."""
    for _ in range(ATTEMPTS_MAX):
        row = await session.fetch_one(_READ_LAST, (company_id,))
        seq = (row[0] if row else 0) + 1
        try:
            await session.execute(_LEASE, (company_id, device_id, seq, code_of(seq)))
            return code_of(seq)
        except DuplicateKey:
            known = await _read(session, device_id, [company_id])
            if known:
                return known[company_id]
    raise SyncError(503, "busy", "no document code could be leased; try again", headers={"Retry-After": "1"})
