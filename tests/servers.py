"""Real servers for the tests: one MySQL and one Redis a session, a fresh database a test, our commands as children.

MySQL and Redis are those of MYSQL_URL and REDIS_URL, else containers where a Docker engine answers, else embedded ones.
Tests that stop, pause or kill a MySQL take one of their own: `Stack.private_mysql`.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import docker
import docker.errors
import pymysql
from redis import Redis
from redis.exceptions import RedisError
from testcontainers.core.container import DockerContainer

from cli.children import own_child
from cli.embedded import MySQLServer, RedisServer
from cli.embedded.mysql_server import SYNC_SETTINGS
from cli.embedded.process import Child
from schema.connect import open_connection
from schema.migrations import migrate
from schema.settings import MySQLAddress, Settings

SMALL = {"innodb-buffer-pool-size": "128M", "loose-innodb-redo-log-capacity": "64M"}
_ROLES = ("api", "tailer", "operator")
_REDIS_DATABASES = 16
_CONTAINER_START_S = 90
_MEMORY = Path("/dev/shm")
_MEMORY_PREFIX = "matrix-sync-tests-"
_MEMORY_BYTES_MIN = 12 << 30
"""Four test processes need about 4 GB for the databases of a whole run."""


@dataclass(frozen=True, slots=True)
class Database:
    """A migrated database of its own, with its accounts; `environ` leads our commands to it."""

    settings: Settings
    environ: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.settings.admin().database


class Stack:
    """The session's servers. `mysql` and `redis` are None where they are not embedded; `options` are the embedded mysqld's, and
    `memory` is where its data is kept, if not with the rest.
    """

    def __init__(self, directory: Path, options: Mapping[str, str | int] | None = None, *, memory: Path | None = None) -> None:
        self.directory = directory
        self._memory = memory
        self._options = dict(options or {})
        self.mysql: MySQLServer | None = None
        self.redis: RedisServer | None = None
        self.mysql_url = os.environ.get("MYSQL_URL", "")
        self.redis_url = os.environ.get("REDIS_URL", "")
        self._undo = ExitStack()
        self._numbers = itertools.count(_first_number())

    def __enter__(self) -> Self:
        with ExitStack() as undo:  # stops what has started, should the rest fail
            self._undo = undo
            has_docker = not (self.mysql_url and self.redis_url) and _docker_answers()
            if not self.mysql_url and has_docker:
                self.mysql_url = self._start_mysql_container()
            elif not self.mysql_url:
                self.mysql = undo.enter_context(self.private_mysql("mysql", self._options, self._memory))
                self.mysql_url = self.mysql.url
            if not self.redis_url and has_docker:
                self.redis_url = self._start_redis_container()
            elif not self.redis_url:
                self.redis = undo.enter_context(RedisServer(self.directory / "redis"))
                self.redis_url = self.redis.url
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def private_mysql(
        self, name: str, options: Mapping[str, str | int] | None = None, directory: Path | None = None
    ) -> MySQLServer:
        """A MySQL of its own, not started yet: a `with` block starts and stops it."""
        template = MySQLServer(self.directory / "template")
        template.initialize()
        home = (directory or self.directory) / f"{name}-{next(self._numbers)}"
        server = MySQLServer(home, options={**SMALL, **(options or {})})
        server.home.mkdir(parents=True)
        shutil.copytree(template.data, server.data)  # a fifth of the time that a new one takes
        return server

    @contextmanager
    def database(self, server: MySQLServer | None = None) -> Iterator[Database]:
        """A fresh database on `server`, by default the session's, and a flushed Redis database.

        It is dropped at the end where its server outlives the session: that takes a fifth of the time of a short test.
        """
        number = next(self._numbers)
        name = f"test_{secrets.token_hex(4)}"
        server = server or self.mysql
        admin = replace(MySQLAddress.parse(server.url if server else self.mysql_url), database=name)
        values = {
            "mysql_url": admin.url(),
            **_accounts(admin),
            "mysql_socket": str(server.socket) if server else "",
            "redis_url": f"{self.redis_url.rsplit('/', 1)[0]}/{number % _REDIS_DATABASES}",
            "jwt_secret": secrets.token_urlsafe(32),
            "state_dir": str(self.directory / name),
        }
        config = self.directory / f"{name}.toml"
        config.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))
        settings = Settings.load(config, env={})
        with Redis.from_url(settings.redis_url) as redis:
            redis.flushdb()
        migrate(settings)
        try:
            yield Database(settings, {"SYNC_CONFIG": str(config)})
        finally:
            if server is None:
                _drop(settings)

    def spawn(self, *words: str, environ: Mapping[str, str]) -> Child:
        """Start `matrix-sync` with these words; its output is in `Child.output()`. It ends with the session."""
        log = self.directory / f"{words[0]}-{next(self._numbers)}.log"
        child = own_child(words, log=log, env={**clean_environ(), **environ})
        self._undo.callback(child.kill)
        child.start()
        return child

    def _start_mysql_container(self) -> str:
        password = secrets.token_urlsafe(12)
        flags = " ".join(f"--{name}={value}" for name, value in {**SYNC_SETTINGS, **SMALL}.items())
        container = DockerContainer("mysql:8.4").with_env("MYSQL_ROOT_PASSWORD", password).with_command(flags)
        url = f"mysql://root:{password}@{self._start_container(container, 3306)}/matrix_sync"
        _wait_until(lambda: open_connection(MySQLAddress.parse(url), with_database=False).close())
        return url

    def _start_redis_container(self) -> str:
        url = f"redis://{self._start_container(DockerContainer('redis:8'), 6379)}/0"
        _wait_until(lambda: Redis.from_url(url).ping())
        return url

    def _start_container(self, container: DockerContainer, port: int) -> str:
        self._undo.enter_context(container.with_exposed_ports(port))
        return f"{container.get_container_host_ip()}:{container.get_exposed_port(port)}"


@contextmanager
def memory_directory() -> Iterator[Path | None]:
    """A directory in memory, taken away at the end; None where there is little of it, or programs may not run from there.

    A new database takes half the time there. What tests kill is processes and never the machine, so they see no difference.
    Benches stay on the disk.
    """
    if not _has_much_memory():
        yield None
        return
    for left in _MEMORY.glob(f"{_MEMORY_PREFIX}*"):  # of a run that was killed
        if not Path("/proc", left.name.removeprefix(_MEMORY_PREFIX).partition("-")[0]).exists():
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{_MEMORY_PREFIX}{os.getpid()}-", dir=_MEMORY) as directory:
        yield Path(directory)


def _has_much_memory() -> bool:
    try:
        free, flags = shutil.disk_usage(_MEMORY).free, os.statvfs(_MEMORY).f_flag
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return False
    may_run = not flags & os.ST_NOEXEC and os.access(_MEMORY, os.W_OK | os.X_OK)
    return may_run and min(free, available) >= _MEMORY_BYTES_MIN


def _wait_until(answers: Callable[[], object]) -> None:
    deadline = time.monotonic() + _CONTAINER_START_S
    while True:
        try:
            answers()
        except (pymysql.err.OperationalError, RedisError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


def _first_number() -> int:
    """Two test processes that share a Redis of REDIS_URL begin half of its databases apart."""
    return _REDIS_DATABASES // 2 if os.environ.get("PYTEST_XDIST_WORKER", "gw0") != "gw0" else 0


def _docker_answers() -> bool:
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if host.startswith("unix://") and not Path(host.removeprefix("unix://")).is_socket():
        return False
    try:
        return bool(docker.from_env(timeout=2).ping())
    except docker.errors.DockerException:
        return False


def clean_environ() -> dict[str, str]:
    """Ours without what leads a command to other servers."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("SYNC_", "MYSQL_", "REDIS_"))}


def _accounts(admin: MySQLAddress) -> dict[str, str]:
    return {
        f"mysql_{role}_url": replace(admin, user=f"{admin.database}_{role}", password=secrets.token_urlsafe(12)).url()
        for role in _ROLES
    }


def _drop(settings: Settings) -> None:
    accounts = [settings.api(), settings.tailer(), settings.operator()]
    with open_connection(settings.admin()) as connection, connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE `{settings.admin().database}`")
        for account in accounts:
            cursor.execute("DROP USER %s", (account.user,))
