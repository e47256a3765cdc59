"""What every answer has: an id, JSON errors, compression, and what happens without Redis or MySQL."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import zlib
from typing import Any

import pytest
import zstandard

from api.answers import choose_coding
from api.errors import choose_request_id
from schema.leases import tailer_lock
from tests.api.conftest import PASSWORD, Api, StartApi
from tests.sql_client import SqlClient


async def test_health_needs_nothing_and_readiness_tells_what_is_missing(api: Api, admin: SqlClient) -> None:
    assert (await api.nobody.get("/api/health")).body == {"success": True, "status": "ok"}
    reply = await api.nobody.get("/api/ready")
    assert (reply.status, reply.code, reply.headers["Retry-After"]) == (503, "not_ready", "1")
    assert {name: reply.body["details"][name] for name in ("mysql", "schema", "tailer")} == {
        "mysql": True,
        "schema": True,
        "tailer": False,
    }
    admin.run("INSERT INTO sync_lease (id, holder, connection_id, fencing_token) VALUES (1, 'somewhere', 1, 1)")
    assert (await api.nobody.get("/api/ready")).status == 503, "a holder that lost its lock lives no more"
    admin.rows("SELECT GET_LOCK(%s, 0)", tailer_lock(api.settings.api().database))
    try:
        reply = await api.nobody.get("/api/ready")
        assert (reply.status, reply.body["details"]["holder"]) == (200, "somewhere")
    finally:
        admin.run("DO RELEASE_ALL_LOCKS()", "DELETE FROM sync_lease")


async def test_without_mysql_everything_is_503_and_health_stays_up(start_api: StartApi, api: Api) -> None:
    away = await start_api(mysql_api_url="mysql://u:p@127.0.0.1:1/d", mysql_socket="")
    ann = await api.register()
    asker = away.nobody.with_token(ann.token)
    for reply in (
        await asker.get("/api/auth/user"),
        await asker.get("/api/parties"),
        await asker.post("/api/auth/login", {"email": ann.email, "password": PASSWORD}),
        await asker.get("/api/ready"),
    ):
        assert (reply.status, reply.headers["Retry-After"]) == (503, "1")
    assert (await asker.get("/api/health")).status == 200
    assert (await asker.get("/nope")).status == 404


async def test_without_redis_everything_works(start_api: StartApi) -> None:
    api = await start_api(redis_url="redis://127.0.0.1:1/0")
    ann = await api.register(device_id="no-redis")
    row = (await ann.post("/api/parties", {"name": "Ann"})).body["data"]
    for reply in (
        await ann.get("/api/parties"),
        await ann.get("/api/auth/user"),
        await ann.patch(f"/api/parties/{row['id']}", {"phone": "1"}),
        await ann.delete(f"/api/parties/{row['id']}"),
        await ann.post("/api/auth/refresh", {"refresh_token": ann.refresh_token}),
        await ann.post("/api/auth/logout"),
    ):
        assert reply.status == 200, reply.body
    assert (await ann.get("/api/parties")).status == 401


async def test_unknown_paths_and_methods_are_json(api: Api) -> None:
    reply = await api.nobody.get("/api/nope")
    assert (reply.status, reply.body) == (404, {"success": False, "code": "not_found", "message": "Not Found"})
    reply = await api.nobody.ask("PUT", "/api/parties")
    assert (reply.status, reply.code) == (405, "method_not_allowed")
    assert "POST" in reply.headers["Allow"]


async def test_an_answer_names_no_version_and_is_not_kept(api: Api) -> None:
    headers = (await api.nobody.get("/api/health")).headers
    assert headers["Server"] == "matrix-sync"
    assert headers["Cache-Control"] == "no-store"
    assert "Access-Control-Allow-Origin" not in (await api.nobody.get("/api/health", headers={"Origin": "null"})).headers


async def test_the_request_id_is_echoed_made_or_cleaned(api: Api) -> None:
    assert (await api.nobody.get("/api/health", headers={"X-Request-Id": "abc-1.2:3"})).headers["X-Request-Id"] == "abc-1.2:3"
    made = {(await api.nobody.get("/api/health")).headers["X-Request-Id"] for _ in range(5)}
    assert len(made) == 5
    assert choose_request_id("a\r\nb\x1b[31m{}%s<") == "ab31ms"
    assert choose_request_id("x" * 1000) == "x" * 128
    assert len(choose_request_id("\r\n")) == 16


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "bad_json"),
        (b"{} x", "bad_json"),
        (b'{"a": NaN}', "bad_json"),
        (b'{"a": 1e999}', "bad_json"),
        (b'{"a": "\\ud800"}', "bad_json"),
        (b"\xef\xbb\xbf{}", "bad_json"),
        ("{}".encode("utf-16"), "bad_json"),
        (b'{"a": "\xff"}', "bad_json"),
        (b'{"a": "\x01"}', "bad_json"),
        (b'{"a": ' + b"9" * 5000 + b"}", "bad_json"),
        (b"[]", "malformed"),
        (b"null", "malformed"),
        (b'"x"', "malformed"),
        (b"[" * 100_000, "malformed"),
        (b'{"a":' * 100_000, "malformed"),
        (b'{"a":' * 33 + b"1" + b"}" * 33, "malformed"),
    ],
)
async def test_a_body_that_is_no_json_object_is_400(api: Api, body: bytes, code: str) -> None:
    reply = await api.nobody.post("/api/auth/login", data=body, headers={"Content-Type": "application/json"})
    assert (reply.status, reply.code) == (400, code)


async def test_a_body_may_be_as_deep_as_the_limit(api: Api) -> None:
    ann = await api.register()
    deep: Any = 1
    for _ in range(31):
        deep = [deep]
    assert (await ann.post("/api/settings", {"name": "deep", "value": deep})).body["data"]["value"] == deep
    assert (await ann.post("/api/settings", {"name": "deeper", "value": [deep]})).code == "malformed"


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/xml", "multipart/form-data", "application/json; charset=utf-16"]
)
async def test_another_content_type_is_415(api: Api, content_type: str) -> None:
    reply = await api.nobody.post("/api/auth/login", data=b"{}", headers={"Content-Type": content_type})
    assert (reply.status, reply.code) == (415, "unsupported_media_type")


async def test_a_missing_content_type_is_taken_for_json(api: Api) -> None:
    reply = await api.nobody.post("/api/auth/login", data=b'{"email": "nobody@example.com", "password": "wrong"}')
    assert reply.code == "invalid_credentials"


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_a_compressed_body_is_read(api: Api, coding: str, pack: Any) -> None:
    ann = await api.register()
    headers = {"Content-Encoding": coding, "Content-Type": "application/json"}
    reply = await ann.post("/api/parties", data=pack(json.dumps({"name": "Ann", "address": "é" * 5000}).encode()), headers=headers)
    assert reply.status == 201
    assert reply.body["data"]["address"] == "é" * 5000
    broken = await ann.post("/api/parties", data=b"this is not compressed", headers=headers)
    assert broken.status == 400
    assert broken.body["success"] is False


@pytest.mark.parametrize("coding", ["gzip, gzip", "compress", "x"])
async def test_another_coding_of_a_body_is_415(api: Api, coding: str) -> None:
    ann = await api.register()
    headers = {"Content-Encoding": coding, "Content-Type": "application/json"}
    reply = await ann.post("/api/parties", data=gzip.compress(gzip.compress(b"{}")), headers=headers)
    assert (reply.status, reply.code) == (415, "unsupported_encoding")


async def test_answers_are_compressed_when_asked_and_worth_it(api: Api) -> None:
    ann = await api.register()
    for number in range(12):
        await ann.post("/api/parties", {"name": f"Party {number}"})
    plain = await ann.get("/api/parties", headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers
    assert plain.headers["Vary"] == "Accept-Encoding"
    url, headers = f"{ann.url}/api/parties", {"Authorization": f"Bearer {ann.token}"}
    async with ann.http.get(url, headers={**headers, "Accept-Encoding": "gzip"}) as response:
        assert response.headers["Content-Encoding"] == "gzip"
        assert int(response.headers["Content-Length"]) < len(json.dumps(plain.body)) / 3
        assert await response.json() == plain.body
    reader, writer = await asyncio.open_connection("127.0.0.1", int(ann.url.rsplit(":", 1)[1]))
    request = f"GET /api/parties HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ann.token}\r\nAccept-Encoding: zstd\r\n"
    writer.write(f"{request}Connection: close\r\n\r\n".encode())
    head, _, packed = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    assert b"Content-Encoding: zstd" in head
    assert json.loads(zstandard.ZstdDecompressor().decompress(packed)) == plain.body
    small = await ann.get("/api/auth/user", headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in small.headers


def test_the_coding_is_one_that_the_client_accepts() -> None:
    chosen = {
        "": None, "gzip": "gzip", "gzip, deflate, br, zstd": "zstd", "zstd;q=0, gzip": "gzip", "GZIP;q=0.5": "gzip", "br": None,
        "gzip;q=0.0": None, "identity": None,
    }  # fmt: skip
    assert {accepted: choose_coding(accepted) for accepted in chosen} == chosen


async def test_metrics_count_routes_not_paths(api: Api) -> None:
    ann = await api.register()
    await ann.get("/api/parties/123456")
    await api.nobody.get("/secret-path")
    text = (await api.nobody.get("/metrics")).body["raw"].decode()
    assert 'matrix_sync_requests_total{method="GET",route="/api/parties/{id}",status="404",worker="0"} 1.0' in text
    assert 'route="none",status="404"' in text
    assert "123456" not in text
    assert "secret-path" not in text


async def test_an_unexpected_failure_is_500_without_its_reason(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ann = await api.register()
    monkeypatch.setattr("api.data_read.wire_row", lambda columns, row: int("SELECT secret FROM somewhere"))
    with caplog.at_level(logging.INFO):
        reply = await ann.post("/api/parties", {"name": "Ann"}, headers={"X-Request-Id": "find-me"})
    assert (reply.status, reply.code) == (500, "internal")
    assert "secret" not in json.dumps(reply.body)
    failed = [record for record in caplog.records if record.getMessage() == "request_failed"]
    assert [record.fields["request_id"] for record in failed] == ["find-me"]  # type: ignore[attr-defined]
