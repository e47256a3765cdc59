"""Attacks: bombs, floods, injections, secrets that must not show."""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import time
import zlib
from functools import cache
from io import BytesIO
from typing import Any

import pytest

from schema.logs import JsonFormatter
from schema.tables import TABLES
from tests.api.conftest import PASSWORD, Api, StartApi
from tests.sql_client import SqlClient

MEGABYTE = 1024 * 1024
JSON = {"Content-Type": "application/json"}


@cache
def bomb(megabytes: int) -> bytes:
    """Gzip of that many megabytes of blanks."""
    packer = zlib.compressobj(9, wbits=31)
    blanks = b" " * MEGABYTE
    return b"".join([*(packer.compress(blanks) for _ in range(megabytes)), packer.flush()])


@pytest.mark.parametrize("path", ["/api/parties", "/api/auth/login"])
async def test_a_decompression_bomb_is_413_soon_and_takes_no_memory(api: Api, path: str) -> None:
    ann = await api.register()
    packed = bomb(200)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    reply = await ann.post(path, data=packed, headers={**JSON, "Content-Encoding": "gzip"})
    assert (reply.status, reply.code) == (413, "too_large")
    assert time.monotonic() - started < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60 * 1024
    assert (await ann.get("/api/parties")).status == 200


async def test_a_body_above_the_limit_is_413_declared_or_not(start_api: StartApi) -> None:
    api = await start_api(body_bytes_max=100_000)
    ann = await api.register()
    large = json.dumps({"name": "x", "address": "y" * 100_000}).encode()

    async def chunks() -> Any:
        for start in range(0, len(large), 10_000):
            yield large[start : start + 10_000]

    for data in (large, chunks()):
        reply = await ann.post("/api/parties", data=data, headers=JSON)
        assert (reply.status, reply.code) == (413, "too_large")
    assert (await ann.post("/api/parties", {"name": "x", "address": "y" * 60_000})).status == 201


async def test_many_keys_are_no_burden(api: Api) -> None:
    ann = await api.register()
    body = json.dumps({"name": "x", **{f"k{number}": 1 for number in range(200_000)}})
    reply = await ann.post("/api/parties", data=BytesIO(body.encode()), headers=JSON)
    assert reply.status == 201
    assert len(reply.body["ignored"]) == 100


async def test_client_text_never_becomes_sql(api: Api, admin: SqlClient) -> None:
    ann = await api.register()
    for text in ("'; DROP TABLE parties; -- ", "\\' OR 1=1 --", "%s %(x)s %%", '"`', "\0", "😀\u202e", "{}", "\x1a"):
        row = (await ann.post("/api/parties", {"name": text, text: text})).body["data"]
        assert row["name"] == text
        assert (await ann.get("/api/parties", params={"name": text, "id": str(row["id"])})).body["data"] == [row]
        assert (await ann.get("/api/parties", params={text: "1"})).status == 400
        assert (await ann.get(f"/api/{text}")).status == 404
    for value in ({"a": 1}, ["x"], [["x"]], {"$gt": ""}):
        assert (await ann.post("/api/parties", {"name": value})).code == "bad_value"
    assert admin.value("SELECT COUNT(*) FROM parties WHERE company_id = %s", ann.company_id) == 8


async def test_every_data_route_needs_a_token(api: Api) -> None:
    for table in TABLES:
        for method, path in (
            ("GET", f"/api/{table}"),
            ("POST", f"/api/{table}"),
            ("GET", f"/api/{table}/1"),
            ("PATCH", f"/api/{table}/1"),
            ("DELETE", f"/api/{table}/1"),
        ):
            assert (await api.nobody.ask(method, path)).code == "invalid_token"


@pytest.mark.parametrize(
    "table", ["logins", "devices", "sessions", "sync_changes", "sync_origins", "sync_audit", "schema_migrations"]
)
async def test_a_table_that_is_not_synced_has_no_route(api: Api, table: str) -> None:
    ann = await api.register()
    assert (await ann.get(f"/api/{table}")).status == 404


async def test_a_flood_of_one_user_or_device_is_429_and_others_go_on(start_api: StartApi) -> None:
    api = await start_api(user_requests_per_second=4, device_requests_per_second=2)
    ann, bob, till = await api.register(), await api.register(), await api.register(device_id="flood")
    replies = [await ann.get("/api/auth/user") for _ in range(25)]
    assert replies[0].status == 200
    assert (replies[-1].status, replies[-1].code, replies[-1].headers["Retry-After"]) == (429, "too_many_requests", "1")
    assert [(await till.get("/api/auth/user")).status for _ in range(12)][-1] == 429
    assert (await bob.get("/api/auth/user")).status == 200
    await asyncio.sleep(0.6)
    assert (await ann.get("/api/auth/user")).status == 200


async def test_no_secret_and_no_row_reaches_the_log(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    canary = "canary-4711"
    with caplog.at_level(logging.DEBUG):
        ann = await api.register(device_id="log-device")
        await api.nobody.post("/api/auth/login", {"email": ann.email, "password": canary})
        await ann.post("/api/payment_accounts", {"account_type": "bank", "account_name": canary, "account_number": canary})
        await ann.post("/api/parties", {"name": canary, "party_type": canary})
        await ann.get(f"/api/parties?name={canary}&nope={canary}")
        await ann.get(f"/api/{canary}")
        await api.nobody.get("/api/auth/user", headers={"Authorization": f"Bearer {canary}"})
        await api.nobody.get("/api/auth/user", headers={"Authorization": f"Bearer {canary * 2000}"})
        await ann.post("/api/auth/refresh", {"refresh_token": ann.refresh_token})
    formatter = JsonFormatter()
    text = "\n".join(
        formatter.format(record) for record in caplog.records if not record.name.startswith(("asyncio", "aiohttp.client"))
    )
    assert "request" in text
    for secret in (canary, PASSWORD, ann.token, ann.refresh_token, ann.email, api.settings.jwt_secret):
        assert secret not in text


async def test_odd_http_is_refused_and_the_server_goes_on(api: Api) -> None:
    port = int(api.nobody.url.rsplit(":", 1)[1])
    requests = [
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST /api/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /api/auth/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: 1\r\n" % number for number in range(10_000)) + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ]
    for raw in requests:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(raw)
        answer = await asyncio.wait_for(reader.read(), 5)
        assert answer.startswith((b"HTTP/1.0 400", b"HTTP/1.1 400")), (raw[:60], answer[:100])
        writer.close()
        await writer.wait_closed()
    assert (await api.nobody.get("/api/health")).status == 200
