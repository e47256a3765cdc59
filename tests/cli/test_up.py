"""`matrix-sync up` as a person and as a program uses it, on real processes."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pymysql
import pytest

from cli.demo_login import ready_status
from cli.embedded import MySQLServer
from cli.embedded.mysql_server import ADMIN, DATABASE
from tests.servers import clean_environ

READY_S = 90
Summary = dict[str, Any]


class Up:
    """One `matrix-sync up --json`. `summary` is its line, `stderr` what it has told people so far."""

    def __init__(self, home: Path, *words: str, environ: dict[str, str] | None = None) -> None:
        self.home = home
        home.parent.mkdir(parents=True, exist_ok=True)
        self._stderr = home.with_suffix(".stderr")
        command = [sys.executable, "-m", "cli.main", "up", "--json", "--home", str(home), *(words or ("--port", "0"))]
        with self._stderr.open("wb") as stderr:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=stderr, env={**clean_environ(), **(environ or {})}, text=True
            )
        self.summary: Summary = {}

    @property
    def stderr(self) -> str:
        return self._stderr.read_text()

    def wait_until_ready(self) -> Summary:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.stderr
        self.summary = json.loads(line)
        return self.summary

    def run(self) -> Summary:
        """run.json as it is now."""
        loaded: Summary = json.loads((self.home / "run.json").read_text())
        return loaded

    def end(self, signum: int = signal.SIGINT) -> int:
        """Signal it and return its exit code."""
        self.process.send_signal(signum)
        code = self.process.wait(60)
        assert self.process.stdout is not None
        assert self.process.stdout.read() == "", "one JSON line on stdout and nothing else"
        return code

    def close(self) -> None:
        """End it if it runs."""
        if self.process.poll() is None:
            self.end()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def start() -> Iterator[Callable[..., Up]]:
    started: list[Up] = []

    def make(home: Path, *words: str, environ: dict[str, str] | None = None) -> Up:
        started.append(Up(home, *words, environ=environ))
        return started[-1]

    yield make
    for up in started:
        up.close()


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One that runs for several tests."""
    running = Up(tmp_path_factory.mktemp("up") / "home")
    running.wait_until_ready()
    yield running
    assert running.end() == 0
    running.close()


def wait_for(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def members_of(home: Path) -> list[str]:
    """Command lines of processes that were started for this home."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if str(home).encode() in path.read_bytes() + path.with_name("cmdline").read_bytes():
                found.append(path.with_name("cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def login_status(summary: Summary) -> int:
    """What the API says to the demo login."""
    connection = http.client.HTTPConnection(urlsplit(summary["api_url"]).netloc, timeout=10)
    try:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/api/auth/login", json.dumps(summary["demo"]), headers)
        return connection.getresponse().status
    finally:
        connection.close()


def test_the_json_line_says_how_to_reach_everything(up: Up) -> None:
    assert set(up.summary) == {"api_url", "mysql_url", "mysql_socket", "redis_url", "demo", "pids"}
    assert set(up.summary["pids"]) == {"mysqld", "redis", "tail", "serve"}
    assert all(is_running(pid) for pid in up.summary["pids"].values())
    assert ready_status(up.summary["api_url"]) == 200
    assert login_status(up.summary) == 200
    assert up.run() == up.summary


def test_the_mysql_url_is_the_administrators_and_leads_to_the_migrated_database(up: Up) -> None:
    url = urlsplit(up.summary["mysql_url"])
    for way in ({"host": url.hostname, "port": url.port}, {"unix_socket": up.summary["mysql_socket"]}):
        with (
            pymysql.connect(
                user=unquote(url.username or ""), password=unquote(url.password or ""), database=url.path[1:], **way
            ) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute("SELECT COUNT(*) FROM sync_state")
            cursor.execute("CREATE DATABASE scratch")
            cursor.execute("DROP DATABASE scratch")


def test_the_sql_client_in_the_home_is_signed_in(up: Up) -> None:
    client = up.home / "bin" / "mysql"
    if not client.exists():
        pytest.skip("the installed MySQL has no client")
    done = subprocess.run([client, "-N", "-e", "SELECT DATABASE()"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "matrix_sync"


def test_children_show_in_ps_as_the_commands_they_are(up: Up) -> None:
    for name in ("tail", "serve"):
        shown = Path(f"/proc/{up.run()['pids'][name]}/cmdline").read_bytes().rstrip(b"\0 ")
        assert shown == f"matrix-sync {name}".encode()


def test_secrets_in_the_home_are_for_its_owner_alone(up: Up) -> None:
    password = unquote(urlsplit(up.summary["mysql_url"]).password or "").encode()
    files = [path for path in up.home.rglob("*") if path.is_file() and "data" not in path.parts]
    with_secret = [path for path in files if password in path.read_bytes()]
    assert up.home / "settings.toml" in with_secret
    assert all(path.stat().st_mode & 0o077 == 0 for path in with_secret)


@pytest.mark.parametrize("name", ["tail", "serve", "redis", "mysqld"])
def test_a_child_that_is_killed_is_started_again_and_its_new_pid_is_in_run_json(up: Up, name: str) -> None:
    before = up.run()
    os.kill(before["pids"][name], signal.SIGKILL)
    wait_for(lambda: up.run()["pids"][name] != before["pids"][name])
    assert f"{name} ended (signal 9)" in up.stderr
    assert f"{name} runs again, as process {up.run()['pids'][name]}" in up.stderr
    assert up.run() | {"pids": {}} == before | {"pids": {}}, "addresses and login stay"
    wait_for(lambda: ready_status(before["api_url"]) == 200)


def test_a_second_one_in_the_same_home_is_refused_with_the_process_that_has_it(up: Up, start: Callable[..., Up]) -> None:
    second = start(up.home.with_name("other") / ".." / up.home.name)
    assert second.process.wait(30) == 1
    assert f"in use by process {up.process.pid}" in second.stderr
    assert "Traceback" not in second.stderr


def test_servers_of_the_environment_are_used_and_not_started(up: Up, start: Callable[..., Up], tmp_path: Path) -> None:
    theirs = {"MYSQL_URL": up.summary["mysql_url"] + "_2", "REDIS_URL": up.summary["redis_url"]}
    second = start(tmp_path / "home", environ=theirs)
    summary = second.wait_until_ready()
    assert summary["mysql_url"] == theirs["MYSQL_URL"]
    assert summary["pids"]["mysqld"] is None
    assert summary["pids"]["redis"] is None
    assert second.end(signal.SIGTERM) == 0
    assert is_running(up.run()["pids"]["mysqld"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda url: re.sub(r":[^:@]+@", ":wrong@", url), "MYSQL_URL"),
        (lambda url: re.sub(r":\d+/", ":1/", url), "does not answer"),
        (lambda _: "mysql:nonsense", "mysql://user:password@host:port/database"),
    ],
    ids=["wrong password", "nobody there", "not a URL"],
)
def test_a_mysql_that_cannot_be_used_is_one_message(
    up: Up, start: Callable[..., Up], tmp_path: Path, change: Callable[[str], str], says: str
) -> None:
    theirs = {"MYSQL_URL": change(up.summary["mysql_url"]), "REDIS_URL": up.summary["redis_url"]}
    second = start(tmp_path / "home", environ=theirs)
    assert second.process.wait(30) == 1
    assert says in second.stderr
    assert "Traceback" not in second.stderr
    assert len(second.stderr.splitlines()) <= 3


def test_a_busy_port_that_was_asked_for_is_one_message(start: Callable[..., Up], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        refused = start(tmp_path / "home", "--port", str(port))
        assert refused.process.wait(30) == 1
    assert f"port {port} is in use" in refused.stderr
    assert len(refused.stderr.splitlines()) <= 3
    assert not (tmp_path / "home" / "mysql").exists(), "nothing was started for it"


def test_the_same_data_login_and_addresses_come_back_after_ctrl_c_and_after_kill_9(
    start: Callable[..., Up], tmp_path: Path
) -> None:
    kept: list[Summary] = []
    for signum, exit_code in ((signal.SIGINT, 0), (signal.SIGKILL, -9), (signal.SIGTERM, 0)):
        run = start(tmp_path / "home")
        summary = run.wait_until_ready()
        kept.append({name: summary[name] for name in ("mysql_url", "mysql_socket", "redis_url", "demo")})
        assert run.end(signum) == exit_code
        if exit_code == 0:
            assert not (tmp_path / "home" / "run.json").exists()
            assert members_of(tmp_path / "home") == []
    assert kept[0] == kept[1] == kept[2]


def test_nothing_is_left_when_up_is_killed_with_9(start: Callable[..., Up], tmp_path: Path) -> None:
    run = start(tmp_path / "home")
    run.wait_until_ready()
    run.end(signal.SIGKILL)
    wait_for(lambda: members_of(tmp_path / "home") == [])


@pytest.mark.parametrize("seconds", [0.0, 0.5, 1.5, 3.0, 5.0])
def test_ctrl_c_in_the_middle_of_a_first_start_leaves_nothing_running(
    start: Callable[..., Up], tmp_path: Path, seconds: float
) -> None:
    run = start(tmp_path / "home")
    wait_for((tmp_path / "home" / "lock").exists)
    time.sleep(seconds)
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(60) == 0
    wait_for(lambda: members_of(tmp_path / "home") == [])
    assert "Traceback" not in run.stderr


def test_a_second_ctrl_c_does_not_wait(start: Callable[..., Up], tmp_path: Path) -> None:
    run = start(tmp_path / "home")
    os.kill(run.wait_until_ready()["pids"]["redis"], signal.SIGSTOP)
    os.kill(run.summary["pids"]["mysqld"], signal.SIGSTOP)
    os.kill(run.summary["pids"]["serve"], signal.SIGSTOP)
    run.process.send_signal(signal.SIGINT)
    time.sleep(0.7)
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(10) in (0, 130), "it may have been done already"
    wait_for(lambda: members_of(tmp_path / "home") == [])


def test_a_halted_tailer_leaves_the_servers_to_the_operator_and_says_why(start: Callable[..., Up], tmp_path: Path) -> None:
    first = start(tmp_path / "home")
    first.wait_until_ready()
    assert first.end() == 0
    with (
        MySQLServer(tmp_path / "home" / "mysql") as mysql,
        pymysql.connect(
            unix_socket=str(mysql.socket), user=ADMIN, password=mysql.password, database=DATABASE, autocommit=True
        ) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("INSERT INTO companies (name) VALUES ('Never read')")
        cursor.execute("FLUSH BINARY LOGS")
        cursor.execute("SHOW BINARY LOGS")
        cursor.execute("PURGE BINARY LOGS TO %s", (cursor.fetchall()[-1][0],))
    second = start(tmp_path / "home")
    summary = second.wait_until_ready()
    assert "tail halted, an operator must decide (exit code 3); next start in 30 s" in second.stderr
    assert login_status(summary) == 200
    assert second.end() == 0
