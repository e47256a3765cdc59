"""`matrix-sync serve` as a program: what it refuses to start with, its workers, its end."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from subprocess import PIPE, Popen, TimeoutExpired
from typing import Any

import pytest

from api.server import check_start, open_sockets
from schema.errors import StartError
from tests.servers import Database, Stack, clean_environ
from tests.sql_client import SqlClient

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from cli.serve import serve
from schema.errors import MatrixError
try:
    serve()
except MatrixError as problem:
    sys.exit(str(problem))
"""


@contextmanager
def serving(database: Database, *words: str) -> Iterator[tuple[Popen[str], str]]:
    """The program and its URL."""
    command = [sys.executable, "-c", PROGRAM, "--port", "0", *words]
    environ = {**clean_environ(), **database.environ}
    with Popen(command, env=environ, cwd=ROOT, stdout=PIPE, stderr=PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            line = program.stdout.readline()
            yield program, line.removeprefix("listening on ").strip()
        finally:
            if program.poll() is None:
                program.send_signal(signal.SIGTERM)
            try:
                program.communicate(timeout=20)
            except TimeoutExpired:
                program.kill()


def ask(url: str, body: dict[str, Any] | None = None, token: str = "") -> tuple[int, dict[str, Any]]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", "Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, json.load(refusal)


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for_children(pid: int, count: int, without: int = 0) -> list[int]:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        children = children_of(pid)
        if len(children) == count and without not in children:
            return children
        time.sleep(0.02)
    raise TimeoutError(f"{children_of(pid)} instead of {count} workers")


def test_it_serves_restarts_a_dead_worker_and_stops_in_order(shared: Database) -> None:
    with serving(shared, "--workers", "2") as (program, url):
        assert ask(f"{url}/api/health") == (200, {"success": True, "status": "ok"})
        first, second = wait_for_children(program.pid, 2)
        os.kill(first, signal.SIGKILL)
        successors = wait_for_children(program.pid, 2, without=first)
        assert second in successors
        for _ in range(10):
            assert ask(f"{url}/api/health")[0] == 200
        program.send_signal(signal.SIGTERM)
        program.wait(12)
        assert program.returncode == 0


def test_workers_share_what_is_in_mysql(shared: Database) -> None:
    with serving(shared, "--workers", "2") as (_, url):
        person = {"name": "Ann", "email": "workers@example.com", "password": "correct horse"}
        status, answer = ask(f"{url}/api/auth/register", person)
        assert status == 201
        made = [ask(f"{url}/api/parties", {"name": f"P{number}"}, answer["token"])[1]["data"]["id"] for number in range(10)]
        for _ in range(6):
            status, listed = ask(f"{url}/api/parties", token=answer["token"])
            assert (status, [row["id"] for row in listed["data"]]) == (200, made)
        assert ask(f"{url}/api/auth/logout", {}, answer["token"])[0] == 200
        time.sleep(0.2)
        assert {ask(f"{url}/api/parties", token=answer["token"])[0] for _ in range(6)} == {401}


def test_workers_end_with_a_parent_that_was_killed(shared: Database) -> None:
    with serving(shared, "--workers", "1") as (program, url):
        assert ask(f"{url}/api/health")[0] == 200
        (worker,) = wait_for_children(program.pid, 1)
        program.kill()
        program.wait()
        deadline = time.monotonic() + 10
        while Path(f"/proc/{worker}").exists() and "zombie" not in Path(f"/proc/{worker}/status").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_busy_port_is_one_message() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartError) as refused:
            open_sockets("127.0.0.1", port, 2)
    assert refused.value.code == "port_busy"
    assert str(port) in refused.value.message


def test_a_second_server_on_the_same_port_is_refused() -> None:
    sockets = open_sockets("127.0.0.1", 0, 2)
    try:
        with pytest.raises(StartError) as refused:
            open_sockets("127.0.0.1", sockets[0].getsockname()[1], 2)
        assert refused.value.code == "port_busy"
    finally:
        for listening in sockets:
            listening.close()


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"jwt_secret": "short"}, "jwt_secret_short"),
        ({"mysql_api_url": ""}, "setting_missing"),
        ({"mysql_api_url": "mysql://u:wrong@127.0.0.1:1/d", "mysql_socket": ""}, "mysql_unreachable"),
    ],
)
def test_it_does_not_start_with_settings_it_cannot_serve_with(shared: Database, changed: dict[str, Any], code: str) -> None:
    with pytest.raises(StartError) as refused:
        check_start(dataclasses.replace(shared.settings, **changed))
    assert refused.value.code == code
    assert "wrong" not in str(refused.value)


def test_it_does_not_start_on_another_schema(stack: Stack) -> None:
    with stack.database() as database, SqlClient(database.settings) as admin:
        check_start(database.settings)
        admin.run("ALTER TABLE parties MODIFY phone VARCHAR(10) NULL")
        with pytest.raises(StartError) as differs:
            check_start(database.settings)
        admin.run("UPDATE schema_migrations SET statements_done = 1 WHERE id = 2")
        with pytest.raises(StartError) as older:
            check_start(database.settings)
    assert (differs.value.code, older.value.code) == ("schema_differs", "database_older")
    assert "parties.phone" in differs.value.message
