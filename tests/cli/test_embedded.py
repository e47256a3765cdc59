"""The embedded servers: settings, restarts, who may use a home, what happens when the parent dies, where programs come from."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pymysql
import pytest
from redis import Redis

from cli.embedded import MySQLServer, RedisServer
from cli.embedded.claim import is_port_free, kept_port
from cli.embedded.debian import DebianPackages
from cli.embedded.mysql_server import ADMIN, SYNC_SETTINGS
from cli.embedded.programs import find_mysql
from schema.errors import StartError
from tests.servers import SMALL, Stack

Row = tuple[object, ...]


def query(server: MySQLServer, *statements: str) -> list[Row]:
    """Run the statements as the administrator over TCP, and return the last one's rows."""
    rows: list[Row] = []
    with closing(
        pymysql.connect(host="127.0.0.1", port=server.port, user=ADMIN, password=server.password, autocommit=True)
    ) as connection:
        for statement in statements:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                rows = list(cursor.fetchall())
    return rows


def wait_until_gone(pid: int, timeout_s: float = 15) -> None:
    deadline = time.monotonic() + timeout_s
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def mysql(stack: Stack) -> Iterator[MySQLServer]:
    with stack.private_mysql("a home with spaces") as server:
        yield server


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis") as server:
        yield server


def test_mysql_is_set_as_the_tailer_needs_it(mysql: MySQLServer) -> None:
    wanted = {name.replace("-", "_"): str(value) for name, value in SYNC_SETTINGS.items()}
    wanted |= {"log_bin": "ON", "time_zone": wanted.pop("default_time_zone")}
    found = {str(name): str(value) for name, value in query(mysql, "SHOW GLOBAL VARIABLES")}
    assert {name: found[name] for name in wanted} == wanted


def test_a_new_mysql_has_an_empty_gtid_set_so_that_the_account_of_ours_is_not_in_the_binlog(stack: Stack) -> None:
    with stack.private_mysql("new") as server:
        assert query(server, "SELECT @@GLOBAL.gtid_executed") == [("",)]


def test_the_administrator_may_do_what_an_administrator_does(mysql: MySQLServer) -> None:
    query(
        mysql,
        "SET GLOBAL max_connections = 500",
        "CREATE USER someone IDENTIFIED BY 'x'",
        "CREATE ROLE reader",
        "GRANT SELECT ON *.* TO reader",
        "GRANT reader TO someone",
        "DROP USER someone",
        "DROP ROLE reader",
        "XA RECOVER",
        "SET SESSION sql_log_bin = 0",
    )


def test_no_other_account_signs_in_without_a_password(mysql: MySQLServer) -> None:
    with pytest.raises(pymysql.err.OperationalError, match="locked"):
        pymysql.connect(unix_socket=str(mysql.socket), user="root", password="")


def test_a_killed_mysql_starts_again_with_all_its_rows_at_the_same_address(mysql: MySQLServer) -> None:
    query(mysql, "CREATE DATABASE kept", "CREATE TABLE kept.t (id INT PRIMARY KEY)", "INSERT INTO kept.t VALUES (1)")
    address, pid = mysql.url, mysql.pid
    mysql.kill()
    assert mysql.exit_code == -signal.SIGKILL
    mysql.start()
    assert mysql.url == address
    assert mysql.pid != pid
    assert query(mysql, "SELECT * FROM kept.t") == [(1,)]


def test_mysqlbinlog_of_the_same_version_reads_the_binlog(mysql: MySQLServer) -> None:
    query(mysql, "CREATE DATABASE seen", "CREATE TABLE seen.t (v INT)", "INSERT INTO seen.t VALUES (4711)")
    mysqlbinlog = find_mysql().client("mysqlbinlog")
    if mysqlbinlog is None:
        pytest.skip("the installed MySQL has no mysqlbinlog")
    files = sorted(mysql.data.glob("binlog.0*"))
    text = subprocess.run([*mysqlbinlog, "-vv", *files], check=True, capture_output=True, text=True).stdout
    assert "@1=4711" in text


def test_redis_keeps_its_data_password_and_port_between_runs(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as first, Redis.from_url(first.url) as client:
        client.set("colour", "green")
        address = first.url
    with RedisServer(tmp_path) as second, Redis.from_url(second.url) as client:
        assert second.url == address
        assert client.get("colour") == b"green"


def test_servers_listen_on_loopback_only(mysql: MySQLServer, redis: RedisServer) -> None:
    listening = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines() if line.split()[3] == "0A"]
    for server in (mysql, redis):
        assert [address for address in listening if address.endswith(f":{server.port:04X}")] == [f"0100007F:{server.port:04X}"]
    listening6 = [line.split()[1] for line in Path("/proc/net/tcp6").read_text().splitlines()]
    assert not [address for address in listening6 if address.endswith((f":{mysql.port:04X}", f":{redis.port:04X}"))]


def test_secrets_are_on_no_command_line_and_in_no_file_that_others_can_read(mysql: MySQLServer, redis: RedisServer) -> None:
    for server in (mysql, redis):
        secret = server.password.encode()
        assert secret not in Path(f"/proc/{server.pid}/cmdline").read_bytes()
        files = [path for path in server.home.iterdir() if path.is_file()]
        with_secret = [path for path in files if secret in path.read_bytes()]
        assert with_secret
        assert all(path.stat().st_mode & 0o077 == 0 for path in with_secret)


def test_a_home_in_use_is_refused_with_the_process_that_has_it(redis: RedisServer) -> None:
    with pytest.raises(StartError, match=f"in use by process {os.getpid()}"):
        RedisServer(redis.home).start()


def test_a_port_that_somebody_took_meanwhile_is_not_waited_for(redis: RedisServer, tmp_path: Path) -> None:
    (tmp_path / "port").write_text(str(redis.port))
    assert kept_port(tmp_path / "port") != redis.port
    assert is_port_free(int((tmp_path / "port").read_text()))


def test_a_home_too_deep_for_a_socket_has_its_socket_elsewhere(tmp_path: Path) -> None:
    with RedisServer(tmp_path / ("deep" * 30)) as server:
        assert len(bytes(server.socket)) <= 107
        assert not server.socket.is_relative_to(server.home)
    shutil.rmtree(server.socket.parent)


def test_a_server_that_cannot_start_says_why_with_its_own_words(stack: Stack) -> None:
    server = stack.private_mysql("refused", {"no-such-option": 1})
    with pytest.raises(StartError, match="no-such-option") as refusal:
        server.start()
    assert str(server.home) in refusal.value.hint


def test_a_home_that_cannot_be_made_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match="Not a directory"):
        RedisServer(tmp_path / "file" / "redis").start()


_PARENT = """
import sys, time
from pathlib import Path
from cli.embedded import RedisServer
with RedisServer(Path(sys.argv[1])) as server:
    print(server.pid, flush=True)
    time.sleep(60)
"""


def test_a_server_ends_with_its_killed_parent_and_the_home_is_free_again(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", _PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    with RedisServer(tmp_path) as server:  # waits for the one that is ending
        assert server.is_running
    wait_until_gone(pid)


def test_the_first_start_that_was_cut_short_is_made_anew(tmp_path: Path) -> None:
    home = tmp_path / "mysql"
    (home / "data.unfinished").mkdir(parents=True)
    (home / "data.unfinished" / "ibdata1").write_bytes(b"half")
    with MySQLServer(home, options=SMALL) as server:
        assert query(server, "SELECT 1") == [(1,)]


def _fake(directory: Path, name: str, says: str) -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("version", "is_taken"),
    [
        ("mysqld  Ver 8.0.36 for Linux on x86_64 (MySQL Community Server - GPL)", True),
        ("mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))", True),
        ("mysqld  Ver 5.7.44 for Linux on x86_64 (MySQL Community Server (GPL))", False),
        ("mysqld  Ver 10.11.6-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64 (Debian 12)", False),
    ],
)
def test_an_installed_mysqld_is_taken_from_8_0_on_and_never_mariadb(
    version: str, is_taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fake(tmp_path, "mysqld", version)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert (find_mysql().mysqld[0] == str(tmp_path / "mysqld")) == is_taken


def test_a_machine_without_apt_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StartError, match="has no apt-get") as refusal:
        DebianPackages(tmp_path / "cache").fetch({"mysql": ("mysql-server-core",)})
    assert "redis-server" in refusal.value.hint


needs_apt = pytest.mark.skipif(shutil.which("apt-get") is None, reason="not a Debian")


@needs_apt
def test_an_archive_without_a_good_signature_is_refused(tmp_path: Path) -> None:
    suite = tmp_path / "archive" / "dists" / "sid"
    suite.mkdir(parents=True)
    (suite / "Release").write_text("Origin: Debian\nSuite: unstable\nCodename: sid\nComponents: main\n")
    packages = DebianPackages(tmp_path / "cache", archive=f"file:{tmp_path / 'archive'}")
    with pytest.raises(StartError, match="not signed"):
        packages.fetch({"mysql": ("mysql-server-core",)})
    assert not packages.root("mysql").exists()


@needs_apt
def test_a_download_cut_short_is_made_anew_and_the_program_runs_with_its_own_libraries(tmp_path: Path) -> None:
    (tmp_path / "hello.unfinished" / "usr").mkdir(parents=True)
    (tmp_path / "apt" / "lists").mkdir(parents=True)
    packages = DebianPackages(tmp_path)
    packages.fetch({"hello": ("hello",)})
    command = packages.command("hello", "usr/bin/hello")
    assert command is not None
    assert str(tmp_path) in command[0]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "Hello, world!\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hello", "lock"]
