"""A device that works for several companies with one cursor (contract §1.3): what it was given in one says nothing of the others.

Only for people who work in more than one company; everybody else pays nothing for it.
"""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from api.db import Session
from api.deliveries import Deliveries, decode
from api.delivery_store import DELIVERIES
from api.scope import Scope

_READ = """
SELECT d.company_id, d.state FROM users u JOIN sync_deliveries d ON d.company_id = u.company_id AND d.device_id = %s
WHERE u.login_id = %s AND u.company_id <> %s
"""


async def read_elsewhere(session: Session, scope: Scope, device_id: str) -> dict[int, Deliveries]:
    """Return what the device was given in the other companies its user works in, by company."""
    if not scope.is_in_several:
        return {}
    rows = await session.fetch_all(_READ, (device_id, scope.login_id, scope.company_id))
    return {company_id: decode(state) for company_id, state in rows}


async def pass_over_elsewhere(app: web.Application, device_id: str, elsewhere: Mapping[int, Deliveries], sent: int) -> None:
    """Note in the other companies that the device is at `sent`: an answer of theirs to that same cursor may be lost."""
    for company_id, deliveries in elsewhere.items():
        if deliveries.passed_over(sent) is not deliveries:
            await app[DELIVERIES].update(company_id, device_id, lambda now: now.passed_over(sent), is_pull=False)
