"""Who may see and write what: a person in one company, with the role's rights, narrowed by the device's capabilities.

Every query that returns a company's rows takes a Scope. Memberships and devices are kept for two seconds in each worker, so a
role that was taken away ends in time; one that is not found there is looked up, so a new one counts at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from aiohttp import web

from api.auth import Identity
from api.batch import Batch
from api.db import Database, Outcome, Session, Statement
from api.devices import Device, device_mismatch, device_revoked, devices_found, find_devices, read_devices, register_device
from api.kept import keep
from api.keys import DEVICE_LIMIT
from api.roles import ROLES, Role, is_own_sale
from schema.errors import SyncError
from schema.tables import TABLES

CACHE_SECONDS = 2.0
CACHED_MAX = 20_000
_NEVER = (0.0, None)
_MEMBERSHIPS = """
SELECT u.login_id, u.company_id, u.id, u.role FROM users u JOIN companies c ON c.id = u.company_id
WHERE u.login_id IN ({logins}) AND u.is_active AND u.deleted_at IS NULL AND c.is_active AND c.deleted_at IS NULL
ORDER BY u.company_id
"""
_HEAD_COLUMNS = {"invoices": "transaction_id", **{table.name: table.head for table in TABLES.values() if table.head}}


@dataclass(frozen=True, slots=True)
class Scope:
    """One person in one company, on one device where there is one. `readable` and `writable` are names of tables.

    `is_in_several`: the person works in other companies too.
    """

    login_id: int
    user_id: int
    company_id: int
    role: str
    device_id: str | None
    readable: frozenset[str]
    writable: frozenset[str]
    may_see_restricted: bool
    may_resolve_conflicts: bool
    is_in_several: bool = False

    @property
    def revoked(self) -> tuple[str, ...]:
        """Synced tables that this role or device may not read, in the order of the declarations."""
        return _revoked(self.readable)

    def may_write_row(
        self,
        table: str,
        row: Mapping[str, Any] | None,
        values: Mapping[str, Any],
        heads: Mapping[int, Mapping[str, Any]] = MappingProxyType({}),
    ) -> bool:
        """Tell whether this person may turn `row` (None: a new one) into what it is with `values` over it.

        Both are wire values. `heads` are the rows that `heads_of` names, by id: of the row as it was and as it will be.
        """
        if table not in self.writable:
            return False
        role = ROLES[self.role]
        if table == "users" and not role.may_write_owners:
            return "owner" not in ((row or {}).get("role"), values.get("role"))
        if not role.is_limited_to_own_sales:
            return True
        states = [{**(row or {}), **values}] if row is None else [row, {**row, **values}]
        return all(is_own_sale(table, state, _head(table, state, heads), self.user_id) for state in states)


@lru_cache(maxsize=1024)
def _revoked(readable: frozenset[str]) -> tuple[str, ...]:
    return tuple(name for name in TABLES if name not in readable)


def operator_scope(company_id: int) -> Scope:
    """Return the scope of an operator at the command line: everything in one company, as no person of it (ids 0)."""
    owner = ROLES["owner"]
    return Scope(0, 0, company_id, owner.name, None, owner.readable, owner.writable, owner.may_see_restricted, True)


def heads_of(table: str, row: Mapping[str, Any] | None, values: Mapping[str, Any]) -> tuple[str, set[int]]:
    """Return the table and the ids of the rows that say whose document a row is part of; no ids where it is one itself."""
    column = _HEAD_COLUMNS.get(table)
    if column is None:
        return table, set()
    found = {state.get(column) for state in (row or {}, {**(row or {}), **values})}
    return TABLES[table].references[column], {int(head_id) for head_id in found if head_id is not None}


@dataclass(frozen=True, slots=True)
class Membership:
    """One row of users: active, in an active company."""

    company_id: int
    user_id: int
    role: str


_MadeOf = tuple[Membership, Device | None, bool]


class Scopes:
    """Looks up memberships and devices, and keeps them for two seconds."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._membership_batch = Batch(database, _read_memberships)
        self._device_batch = Batch(database, read_devices)
        self._both_batch = Batch(database, _read_both)
        self._clock = clock
        self._memberships: dict[int, tuple[float, tuple[Membership, ...]]] = {}
        self._devices: dict[str, tuple[float, Device]] = {}
        self._scopes: dict[tuple[int, int, str | None], tuple[_MadeOf, Scope]] = {}

    def forget(self) -> None:
        """Drop everything kept here: roles or companies were just changed by this worker."""
        self._memberships.clear()
        self._devices.clear()

    async def find(self, identity: Identity, company_id: int | None, device_id: str | None) -> Scope:
        """Return the scope. Raises what `scope_of` raises, but for 429."""
        if identity.device_id is not None and device_id not in (None, identity.device_id):
            raise device_mismatch()
        known_as = identity.device_id or device_id
        if known_as is not None:
            await self._read_both(identity.login_id, known_as)
        membership = await self._membership(identity.login_id, company_id)
        device = await self._device(known_as, identity.login_id) if known_as is not None else None
        is_in_several = len(self._memberships.get(identity.login_id, (0.0, ()))[1]) > 1
        made_of = (membership, device, is_in_several)
        key = (identity.login_id, membership.company_id, known_as)
        before, scope = self._scopes.get(key, (None, None))
        if scope is None or before != made_of:
            scope = replace(_scope(identity, membership, device), is_in_several=is_in_several)
            keep(self._scopes, key, (made_of, scope), most=CACHED_MAX)
        return scope

    async def _read_both(self, login_id: int, device_id: str) -> None:
        """Read in one packet, where neither is known any more, what is asked for next."""
        now = self._clock()
        if max(self._memberships.get(login_id, _NEVER)[0], self._devices.get(device_id, _NEVER)[0]) > now:
            return
        memberships, device = await self._both_batch.get((login_id, device_id))
        keep(self._memberships, login_id, (now + CACHE_SECONDS, memberships), most=CACHED_MAX)
        if device is not None:
            keep(self._devices, device_id, (now + CACHE_SECONDS, device), most=CACHED_MAX)

    async def _membership(self, login_id: int, company_id: int | None) -> Membership:
        kept_until, memberships = self._memberships.get(login_id, (0.0, ()))
        is_kept = kept_until > self._clock()
        chosen = _choose(memberships, company_id) if is_kept else None
        if chosen is None:
            memberships = await self._read_memberships(login_id)
            chosen = _choose(memberships, company_id)
        if chosen is not None:
            return chosen
        if company_id is None and len(memberships) > 1:
            raise SyncError(400, "company_required", "this user belongs to several companies: send company_id")
        raise forbidden()

    async def _read_memberships(self, login_id: int) -> tuple[Membership, ...]:
        until = self._clock() + CACHE_SECONDS
        memberships = await self._membership_batch.get(login_id)
        keep(self._memberships, login_id, (until, memberships), most=CACHED_MAX)
        return memberships

    async def _device(self, device_id: str, login_id: int) -> Device:
        kept_until, device = self._devices.get(device_id, (0.0, None))
        if device is None or kept_until <= self._clock():
            until = self._clock() + CACHE_SECONDS
            device = await self._device_batch.get(device_id)
            if device is None:
                async with self._database.read() as session:
                    device = await register_device(session, device_id, login_id)
            keep(self._devices, device_id, (until, device), most=CACHED_MAX)
        if device.login_id != login_id:
            raise device_mismatch()
        if device.is_revoked:
            raise device_revoked()
        return device


SCOPES = web.AppKey("scopes", Scopes)


async def _read_memberships(session: Session, login_ids: Sequence[int]) -> list[tuple[Membership, ...]]:
    (outcome,) = await session.run(_find_memberships(login_ids))
    return _memberships_found(login_ids, outcome)


async def _read_both(session: Session, keys: Sequence[tuple[int, str]]) -> list[tuple[tuple[Membership, ...], Device | None]]:
    login_ids, device_ids = zip(*keys, strict=True)
    memberships, devices = await session.run(_find_memberships(login_ids), find_devices(device_ids))
    return list(zip(_memberships_found(login_ids, memberships), devices_found(device_ids, devices), strict=True))


def _find_memberships(login_ids: Sequence[int]) -> Statement:
    return _MEMBERSHIPS.format(logins=", ".join("%s" for _ in login_ids)), login_ids


def _memberships_found(login_ids: Sequence[int], outcome: Outcome) -> list[tuple[Membership, ...]]:
    found: dict[int, tuple[Membership, ...]] = {}
    for login_id, *rest in outcome.rows:
        found[login_id] = (*found.get(login_id, ()), Membership(*rest))
    return [found.get(login_id, ()) for login_id in login_ids]


async def scope_of(request: web.Request, identity: Identity, company_id: int | None = None, device_id: str | None = None) -> Scope:
    """Return what this request may see and write; `device_id` is the body's, registered at its first use.

    Raises SyncError: 403 `forbidden` (the same for a company that is unknown, foreign or inactive) or `device_mismatch`,
    401 `device_revoked`, 400 `company_required`, 429, 503.
    """
    if identity.device_id is None and device_id is not None:
        request.app[DEVICE_LIMIT].take(device_id)
    return await request.app[SCOPES].find(identity, company_id, device_id)


def forbidden(message: str = "this user may not do that") -> SyncError:
    """Return the 403."""
    return SyncError(403, "forbidden", message)


def _head(table: str, state: Mapping[str, Any], heads: Mapping[int, Mapping[str, Any]]) -> Mapping[str, Any] | None:
    head_id = state.get(_HEAD_COLUMNS.get(table, ""))
    return None if head_id is None else heads.get(int(head_id))


def _choose(memberships: tuple[Membership, ...], company_id: int | None) -> Membership | None:
    if company_id is None:
        return memberships[0] if len(memberships) == 1 else None
    return next((m for m in memberships if m.company_id == company_id), None)


def _scope(identity: Identity, membership: Membership, device: Device | None) -> Scope:
    role: Role = ROLES[membership.role]
    readable, writable = role.readable, role.writable
    capabilities = device.capabilities if device else {}
    tables = capabilities.get("tables")
    if isinstance(tables, list):
        allowed = frozenset(name for name in tables if isinstance(name, str))
        readable, writable = readable & allowed, writable & allowed
    if capabilities.get("read_only"):
        writable = frozenset()
    return Scope(
        identity.login_id,
        membership.user_id,
        membership.company_id,
        membership.role,
        device.device_id if device else None,
        readable,
        writable,
        role.may_see_restricted,
        role.may_resolve_conflicts,
    )
