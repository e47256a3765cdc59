"""`/api/auth/*`: register, login, refresh, logout, user (contract §4)."""

from __future__ import annotations

import time
from typing import Any

from aiohttp import web

from api import audit, logins, sessions
from api.answers import json_answer
from api.auth import AUTH, authenticate
from api.credentials import Credentials, Registration, read_refresh_token
from api.db import Session
from api.devices import device_mismatch, register_device
from api.document_codes import read_or_lease
from api.keys import DATABASE, PASSWORDS, SETTINGS, SIGNIN_LIMITS
from api.origins import open_first_origin
from api.requests import read_device_id, read_json_object, request_id
from api.sessions import SignIn, invalid_token
from api.settling import settle
from api.tokens import AccessToken, sign_access
from schema.errors import SyncError


async def handle_register(request: web.Request) -> web.Response:
    """`POST /api/auth/register`: login, company and owner in one transaction, and the first sign-in."""
    settings = request.app[SETTINGS]
    registration = Registration.read(await read_json_object(request), settings.password_bytes_max)
    credentials = registration.credentials
    counted = await request.app[SIGNIN_LIMITS].take(credentials.email, request.remote)
    encoded = await request.app[PASSWORDS].hash(credentials.password)

    async def work(session: Session) -> tuple[int, int, SignIn]:
        origin_id = await open_first_origin(session, login_id=None, device_id=credentials.device_id, request_id=request_id(request))
        login_id = await logins.create_login(session, credentials.email, registration.name, encoded)
        company_id = await logins.create_company(session, registration.company_name)
        await logins.create_owner(session, company_id, login_id)
        return origin_id, company_id, await _begin(request, session, login_id, credentials, "register")

    origin_id, company_id, signed_in = await request.app[DATABASE].run(work, attempts=settings.push_attempts_max)
    await request.app[SIGNIN_LIMITS].give_back(counted)
    await settle(request, origin_id, company_id)
    return await _answer(request, signed_in, status=201)


async def handle_login(request: web.Request) -> web.Response:
    """`POST /api/auth/login`. An unknown e-mail and a wrong password look and cost the same."""
    settings = request.app[SETTINGS]
    credentials = Credentials.read(await read_json_object(request), settings.password_bytes_max)
    counted = await request.app[SIGNIN_LIMITS].take(credentials.email, request.remote)
    async with request.app[DATABASE].read() as session:
        found = await logins.find_login(session, credentials.email)
    is_right = await request.app[PASSWORDS].verify(found[1] if found else None, credentials.password)
    if found is None or not is_right or not found[2]:
        raise SyncError(401, "invalid_credentials", "e-mail or password is wrong")
    await request.app[SIGNIN_LIMITS].give_back(counted)
    login_id = found[0]

    async def work(session: Session) -> SignIn:
        return await _begin(request, session, login_id, credentials, "login")

    return await _answer(request, await request.app[DATABASE].run(work, attempts=settings.push_attempts_max))


async def handle_refresh(request: web.Request) -> web.Response:
    """`POST /api/auth/refresh`: a new pair for a refresh token, which is used up but for a retry within 30 s."""
    settings = request.app[SETTINGS]
    body = await read_json_object(request)
    token, device_id = read_refresh_token(body), read_device_id(body.get("device_id"))

    async def work(session: Session) -> SignIn | None:
        signed_in = await sessions.refresh(session, settings.jwt_secret, token, seconds=settings.refresh_token_seconds)
        if signed_in is not None:
            await sessions.check(session, signed_in.session_id, signed_in.login_id, signed_in.device_id)
            if signed_in.device_id is not None and device_id not in (None, signed_in.device_id):
                raise device_mismatch()
        return signed_in

    signed_in = await request.app[DATABASE].run(work, attempts=settings.push_attempts_max)
    if signed_in is None:
        raise invalid_token()
    return await _answer(request, signed_in)


async def handle_logout(request: web.Request) -> web.Response:
    """`POST /api/auth/logout`: ends this sign-in, on every worker."""
    identity = await authenticate(request)
    async with request.app[DATABASE].transaction() as session:
        await sessions.revoke(session, identity.session_id)
        await audit.append(session, f"login:{identity.login_id}", "logout", request_id=request_id(request))
    await request.app[AUTH].revoked(identity.session_id)
    return json_answer({"success": True})


async def handle_user(request: web.Request) -> web.Response:
    """`GET /api/auth/user`: who the token's holder is, and the companies."""
    identity = await authenticate(request)
    user = await _read_user(request, identity.login_id, identity.device_id)
    return json_answer({"success": True, "user": user})


async def _begin(request: web.Request, session: Session, login_id: int, credentials: Credentials, action: str) -> SignIn:
    """Register the device, store the sign-in and note it, in the caller's transaction."""
    if credentials.device_id is not None:
        await register_device(session, credentials.device_id, login_id, credentials.device_name)
    seconds = request.app[SETTINGS].refresh_token_seconds
    signed_in = await sessions.begin(session, login_id, credentials.device_id, seconds=seconds)
    details: dict[str, Any] = {"device_id": credentials.device_id, "address": request.remote, "request_id": request_id(request)}
    await audit.append(session, f"login:{login_id}", action, **details)
    return signed_in


async def _answer(request: web.Request, signed_in: SignIn, *, status: int = 200) -> web.Response:
    settings = request.app[SETTINGS]
    now = int(time.time())
    access = AccessToken(signed_in.login_id, signed_in.session_id, signed_in.device_id, now + settings.access_token_seconds)
    body = {
        "success": True,
        "user": await _read_user(request, signed_in.login_id, signed_in.device_id),
        "token": sign_access(settings.jwt_secret, access, issued_at=now),
        "refresh_token": signed_in.refresh_token,
        "expires_in": settings.access_token_seconds,
    }
    return json_answer(body, status=status)


async def _read_user(request: web.Request, login_id: int, device_id: str | None) -> dict[str, Any]:
    """The user as an answer shows it; a device of its own learns its document code in each company."""
    async with request.app[DATABASE].read() as session:
        user = await logins.read_user(session, login_id)
    if device_id is not None:
        codes = await read_or_lease(request.app, device_id, [company["id"] for company in user["companies"]])
        for company in user["companies"]:
            company["document_code"] = codes.get(company["id"])
    return user
