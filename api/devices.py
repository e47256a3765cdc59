"""A device belongs to the login that used it first, for ever, until it is revoked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from api.db import DuplicateKey, Outcome, Session, Statement
from schema.errors import SyncError

_READ = "SELECT device_id, login_id, capabilities, revoked_at FROM devices WHERE device_id IN ({ids})"
_LOCK = "SELECT revoked_at, clock_lead_ms FROM devices WHERE device_id = %s FOR UPDATE"
_INSERT = "INSERT INTO devices (device_id, login_id, name) VALUES (%s, %s, %s)"


@dataclass(frozen=True, slots=True)
class Device:
    """One install of the app. `capabilities` narrows what its user's role may do: `read_only`, `tables`."""

    device_id: str
    login_id: int
    is_revoked: bool = False
    capabilities: Mapping[str, Any] = field(default_factory=dict)


async def read_devices(session: Session, device_ids: Sequence[str]) -> list[Device | None]:
    """Return devices as they are registered, in their order; None for one that is not."""
    (outcome,) = await session.run(find_devices(device_ids))
    return devices_found(device_ids, outcome)


def find_devices(device_ids: Sequence[str]) -> Statement:
    """Return what asks for devices, for `devices_found`."""
    return _READ.format(ids=", ".join("%s" for _ in device_ids)), device_ids


def devices_found(device_ids: Sequence[str], outcome: Outcome) -> list[Device | None]:
    """Return the devices that `find_devices` found, in the order they were asked for."""
    found = {
        device_id: Device(device_id, login_id, revoked_at is not None, orjson.loads(capabilities) if capabilities else {})
        for device_id, login_id, capabilities, revoked_at in outcome.rows
    }
    return [found.get(device_id) for device_id in device_ids]


async def register_device(session: Session, device_id: str, login_id: int, name: str | None = None) -> Device:
    """Return the device, made at its first use.

    Raises SyncError: 403 `device_mismatch` where it is another login's, 401 `device_revoked`.
    """
    (device,) = await read_devices(session, [device_id])
    if device is None:
        try:
            await session.execute(_INSERT, (device_id, login_id, name))
            return Device(device_id, login_id)
        except DuplicateKey:
            (device,) = await read_devices(session, [device_id])
    if device is None or device.login_id != login_id:
        raise device_mismatch()
    if device.is_revoked:
        raise device_revoked()
    return device


async def lock_device(session: Session, device_id: str) -> int:
    """Lock the device's row, which puts its pushes one after the other, and return the largest lead of its clock ever seen, in ms.

    Raises SyncError 401 for a revoked one.
    """
    row = await session.fetch_one(_LOCK, (device_id,))
    if row is None or row[0] is not None:
        raise device_revoked()
    return row[1] or 0


def device_mismatch() -> SyncError:
    """Return the 403 of a device id that is not this token's, or not this user's."""
    return SyncError(403, "device_mismatch", "this token does not speak for that device")


def device_revoked() -> SyncError:
    """Return the 401 that tells a lost device to drop its data."""
    return SyncError(401, "device_revoked", "this device was revoked", details={"wipe": True})
