"""Register, login, refresh, logout, user; devices; revocation."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
import pytest

from api.auth import AUTH
from tests.api.conftest import PASSWORD, Api, StartApi
from tests.sql_client import SqlClient


async def test_register_makes_a_login_a_company_and_its_owner_in_one_transaction(api: Api, admin: SqlClient) -> None:
    ann = await api.register(name="Ann", company_name="Tea & Co")
    assert ann.user == {
        "id": ann.login_id,
        "email": ann.email,
        "full_name": "Ann",
        "companies": [{"id": ann.company_id, "name": "Tea & Co", "role": "owner"}],
    }
    assert admin.rows("SELECT company_id, role, email FROM users WHERE login_id = %s", ann.login_id) == [
        (ann.company_id, "owner", ann.email)
    ]
    assert (await ann.get("/api/auth/user")).body["user"] == ann.user


async def test_register_without_a_company_name_names_it_after_the_person(api: Api) -> None:
    ann = await api.register(name="Ann Other")
    assert ann.user["companies"][0]["name"] == "Ann Other"


async def test_an_email_is_taken_once_whatever_its_case_and_spaces(api: Api, admin: SqlClient) -> None:
    ann = await api.register()
    companies = admin.value("SELECT COUNT(*) FROM companies")
    body = {"name": "Eve", "email": f"  {ann.email.upper()} ", "password": PASSWORD}
    reply = await api.nobody.post("/api/auth/register", body)
    assert (reply.status, reply.code) == (409, "email_taken")
    assert admin.value("SELECT COUNT(*) FROM companies") == companies
    assert (await api.login(f" {ann.email.title()} ")).user == ann.user


@pytest.mark.parametrize(
    ("changed", "status", "code"),
    [
        ({"password": "short"}, 422, "bad_value"),
        ({"password": "x" * 1025}, 422, "bad_value"),
        ({"email": "nobody"}, 422, "bad_value"),
        ({"email": "x" * 250 + "@example.com"}, 422, "bad_value"),
        ({"name": "   "}, 422, "bad_value"),
        ({"name": "x" * 256}, 422, "bad_value"),
        ({"name": None}, 400, "malformed"),
        ({"email": 5}, 400, "malformed"),
        ({"password": ["x"]}, 400, "malformed"),
        ({"company_name": 5}, 400, "malformed"),
        ({"device_id": ""}, 400, "malformed"),
        ({"device_id": "é" * 65}, 400, "malformed"),
        ({"device_id": 7}, 400, "malformed"),
    ],
)
async def test_a_bad_registration_is_refused_with_its_reason(api: Api, changed: Any, status: int, code: str) -> None:
    body = {"name": "Ann", "email": "refused@example.com", "password": PASSWORD, **changed}
    reply = await api.nobody.post("/api/auth/register", body)
    assert (reply.status, reply.code) == (status, code)


async def test_unknown_email_and_wrong_password_look_and_cost_the_same(api: Api) -> None:
    ann = await api.register()
    times: dict[str, list[float]] = {"wrong": [], "unknown": []}
    replies = {}
    for _ in range(8):
        for kind, email in (("wrong", ann.email), ("unknown", "nobody@example.com")):
            started = time.perf_counter()
            replies[kind] = await api.nobody.post("/api/auth/login", {"email": email, "password": "wrong password"})
            times[kind].append(time.perf_counter() - started)
    assert replies["wrong"].status == replies["unknown"].status == 401
    assert replies["wrong"].body == replies["unknown"].body
    assert replies["wrong"].code == "invalid_credentials"
    medians = {kind: sorted(found)[len(found) // 2] for kind, found in times.items()}
    assert medians["unknown"] > medians["wrong"] / 2


async def test_an_inactive_login_cannot_sign_in_and_its_tokens_end(start_api: StartApi, admin: SqlClient) -> None:
    api = await start_api(token_cache_seconds=0)
    ann = await api.register()
    admin.run(f"UPDATE logins SET is_active = 0 WHERE id = {ann.login_id}")
    assert (await ann.get("/api/auth/user")).code == "invalid_token"
    reply = await api.nobody.post("/api/auth/login", {"email": ann.email, "password": PASSWORD})
    assert reply.code == "invalid_credentials"
    assert (await api.nobody.post("/api/auth/refresh", {"refresh_token": ann.refresh_token})).status == 401


def _signed(secret: str, header: Any, claims: Any) -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    signature = hmac.digest(secret.encode(), b".".join(parts), hashlib.sha256)
    return b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


async def test_forged_and_odd_tokens_are_refused(api: Api) -> None:
    ann = await api.register()
    secret, good = api.settings.jwt_secret, {"alg": "HS256", "typ": "JWT"}
    claims = jwt.decode(ann.token, secret, algorithms=["HS256"])
    head, body, signature = ann.token.split(".")
    unsigned = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    tokens = [
        "", "x", "..", "a.b.c", f"{head}.{body}", f"{head}.{body}.", f"{unsigned}.{body}.", f"{head}.{body}.{signature[:-2]}",
        f"{head}.{body}.{signature[::-1]}", "é" * 30, "x" * 7000, ann.refresh_token,
        jwt.encode(claims, "k" * 32, algorithm="HS256"),
        *(_signed(secret, header, claims) for header in (
            {**good, "alg": "HS512"}, {**good, "alg": "none"}, {**good, "kid": "../../etc/passwd"}, {**good, "jku": "http://x"},
            {**good, "crit": ["x"], "x": 1}, {**good, "jwk": {}}, {"alg": "HS256"},
        )),
        *(_signed(secret, good, {**claims, **changed}) for changed in (
            {"exp": 1}, {"exp": "soon"}, {"exp": True}, {"exp": None}, {"typ": "refresh"}, {"sub": "x"}, {"sub": 5}, {"sid": "zz"},
            {"sid": "00" * 16}, {"sid": 5}, {"did": "other"}, {"did": 5}, {"sub": "999999"}, {"iat": "x"},
        )),
        *(_signed(secret, good, {k: v for k, v in claims.items() if k != gone}) for gone in ("exp", "iat", "sub", "sid", "typ")),
        _signed(secret, good, [1]), _signed(secret, good, "x"),
        jwt.encode({**claims, "exp": float(10**15)}, secret, algorithm="HS256"),
    ]  # fmt: skip
    for token in tokens:
        reply = await api.nobody.get("/api/auth/user", headers={"Authorization": f"Bearer {token}"})
        assert (reply.status, reply.code) == (401, "invalid_token"), token[:200]
    for header in ("", "Basic x", "Bearer", ann.token):
        assert (await api.nobody.get("/api/auth/user", headers={"Authorization": header})).code == "invalid_token"
    assert (await ann.get("/api/auth/user")).status == 200


async def test_an_access_token_ends_when_it_says(start_api: StartApi) -> None:
    api = await start_api(access_token_seconds=1)
    ann = await api.register()
    assert (await ann.get("/api/auth/user")).status == 200
    await asyncio.sleep(1.1)
    assert (await ann.get("/api/auth/user")).code == "invalid_token"


async def test_logout_ends_the_sign_in_at_once_here_and_on_another_worker(start_api: StartApi) -> None:
    api, other = await start_api(token_cache_seconds=60), await start_api(token_cache_seconds=60)
    ann = await api.register()
    elsewhere = other.nobody.with_token(ann.token)
    assert (await elsewhere.get("/api/auth/user")).status == 200
    assert (await ann.post("/api/auth/logout")).status == 200
    assert (await ann.get("/api/auth/user")).code == "invalid_token"
    for _ in range(50):
        if (await elsewhere.get("/api/auth/user")).status == 401:
            break
        await asyncio.sleep(0.02)
    assert (await elsewhere.get("/api/auth/user")).code == "invalid_token"
    assert (await api.nobody.post("/api/auth/refresh", {"refresh_token": ann.refresh_token})).code == "invalid_token"
    assert (await api.login(ann.email)).user == ann.user


async def test_without_redis_a_revocation_counts_when_the_token_is_checked_again(start_api: StartApi) -> None:
    api = await start_api(token_cache_seconds=1, redis_url="redis://127.0.0.1:1/0")
    other = await start_api(token_cache_seconds=1, redis_url="")
    ann = await api.register()
    elsewhere = other.nobody.with_token(ann.token)
    assert (await elsewhere.get("/api/auth/user")).status == 200
    assert (await ann.post("/api/auth/logout")).status == 200
    await asyncio.sleep(1.1)
    assert (await elsewhere.get("/api/auth/user")).code == "invalid_token"


async def test_refresh_rotates_and_the_new_pair_works(api: Api) -> None:
    ann = await api.register(device_id="refresh-1")
    reply = await api.nobody.post("/api/auth/refresh", {"refresh_token": ann.refresh_token})
    again = api.signed_in(ann.email, reply)
    assert again.refresh_token != ann.refresh_token
    assert (await again.get("/api/auth/user")).status == 200
    assert api.app[AUTH] is not None
    assert reply.body["user"] == ann.user


async def test_twenty_refreshes_at_once_keep_one_lineage(api: Api) -> None:
    ann = await api.register()
    replies = await asyncio.gather(*(api.nobody.post("/api/auth/refresh", {"refresh_token": ann.refresh_token}) for _ in range(20)))
    assert {reply.status for reply in replies} == {200}
    successors = {reply.body["refresh_token"] for reply in replies}
    assert len(successors) == 1
    reply = await api.nobody.post("/api/auth/refresh", {"refresh_token": successors.pop()})
    assert reply.status == 200


async def test_a_used_refresh_token_shown_late_ends_the_sign_in(api: Api, admin: SqlClient) -> None:
    ann = await api.register()
    successor = (await api.nobody.post("/api/auth/refresh", {"refresh_token": ann.refresh_token})).body
    admin.run(f"UPDATE sessions SET rotated_at = rotated_at - INTERVAL 31 SECOND WHERE login_id = {ann.login_id}")
    assert (await api.nobody.post("/api/auth/refresh", {"refresh_token": ann.refresh_token})).code == "invalid_token"
    assert (await api.nobody.post("/api/auth/refresh", {"refresh_token": successor["refresh_token"]})).code == "invalid_token"
    assert admin.value("SELECT COUNT(*) FROM sessions WHERE login_id = %s AND revoked_at IS NOT NULL", ann.login_id) == 1


@pytest.mark.parametrize("token", ["x", "", "é", "A" * 64, "A" * 5000, "=" * 64])
async def test_a_refresh_token_of_nobody_is_refused(api: Api, token: str) -> None:
    reply = await api.nobody.post("/api/auth/refresh", {"refresh_token": token})
    assert reply.status == (401 if token else 400)


async def test_an_expired_sign_in_is_not_refreshed(api: Api, admin: SqlClient) -> None:
    ann = await api.register()
    admin.run(f"UPDATE sessions SET expires_at = CURRENT_TIMESTAMP - INTERVAL 1 SECOND WHERE login_id = {ann.login_id}")
    assert (await api.nobody.post("/api/auth/refresh", {"refresh_token": ann.refresh_token})).code == "invalid_token"


async def test_only_hashes_are_stored(api: Api, admin: SqlClient) -> None:
    ann = await api.register()
    (found,) = admin.rows("SELECT refresh_hash FROM sessions WHERE login_id = %s", ann.login_id)
    assert found[0] == hashlib.sha256(ann.refresh_token.encode()).digest()
    encoded = admin.value("SELECT password_hash FROM logins WHERE id = %s", ann.login_id)
    assert encoded.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    audited = str(admin.rows("SELECT actor, action, details FROM sync_audit WHERE actor = %s", f"login:{ann.login_id}"))
    assert "register" in audited
    assert not any(secret in audited for secret in (ann.token, ann.refresh_token, PASSWORD))


async def test_a_device_belongs_to_the_login_that_used_it_first(api: Api) -> None:
    ann, bob = await api.register(device_id="till-1"), await api.register()
    reply = await api.nobody.post("/api/auth/login", {"email": bob.email, "password": PASSWORD, "device_id": "till-1"})
    assert (reply.status, reply.code) == (403, "device_mismatch")
    assert (await api.login(ann.email, device_id="till-1")).user == ann.user
    reply = await api.nobody.post("/api/auth/refresh", {"refresh_token": ann.refresh_token, "device_id": "till-2"})
    assert reply.code == "device_mismatch"


async def test_a_revoked_device_is_told_to_wipe(start_api: StartApi, admin: SqlClient) -> None:
    api = await start_api(token_cache_seconds=0)
    ann = await api.register(device_id="lost")
    admin.run("UPDATE devices SET revoked_at = CURRENT_TIMESTAMP WHERE device_id = 'lost'")
    for reply in (
        await ann.get("/api/auth/user"),
        await api.nobody.post("/api/auth/refresh", {"refresh_token": ann.refresh_token}),
        await api.nobody.post("/api/auth/login", {"email": ann.email, "password": PASSWORD, "device_id": "lost"}),
    ):
        assert (reply.status, reply.code, reply.body["wipe"]) == (401, "device_revoked", True)
    assert (await api.login(ann.email)).login_id == ann.login_id


@pytest.mark.parametrize("redis_url", [None, "redis://127.0.0.1:1/0"])
async def test_wrong_passwords_are_slowed_down_and_right_ones_are_not(start_api: StartApi, redis_url: str | None) -> None:
    changed = {} if redis_url is None else {"redis_url": redis_url}
    api = await start_api(signin_attempts_per_minute=8, **changed)
    ann, bob = await api.register(), await api.register()
    for _ in range(10):
        assert (await api.login(ann.email)).user == ann.user
    statuses = []
    for _ in range(10):
        reply = await api.nobody.post("/api/auth/login", {"email": ann.email, "password": "wrong password"})
        statuses.append(reply.status)
    assert statuses[0] == 401
    assert statuses[-1] == 429
    assert 1 <= int(reply.headers["Retry-After"]) <= 60
    assert (await api.nobody.post("/api/auth/login", {"email": ann.email, "password": PASSWORD})).status == 429
    assert (await api.login(bob.email)).user == bob.user
    spoofed = {"X-Forwarded-For": "203.0.113.9"}
    reply = await api.nobody.post("/api/auth/login", {"email": ann.email, "password": PASSWORD}, headers=spoofed)
    assert reply.status == 429


async def test_many_sign_ins_at_once_leave_other_requests_quick(api: Api) -> None:
    ann, bob = await api.register(), await api.register()
    sign_ins = [
        asyncio.create_task(api.nobody.post("/api/auth/login", {"email": ann.email, "password": PASSWORD})) for _ in range(15)
    ]
    await asyncio.sleep(0.02)
    started = time.monotonic()
    assert (await bob.get("/api/auth/user")).status == 200
    waited = time.monotonic() - started
    assert {reply.status for reply in await asyncio.gather(*sign_ins)} == {200}
    assert waited < 0.5
