"""Everything `matrix-sync up` runs: servers of ours or of the environment, migrations, tailer and API."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cli.children import own_child
from cli.demo_login import DemoLogin, ensure_demo_login, ready_status
from cli.embedded import MySQLServer, RedisServer, programs
from cli.embedded.claim import make_private_dir, write_private
from cli.embedded.process import Child
from cli.home import Home
from cli.supervisor import EXIT_HALTED, Supervisor
from schema.errors import StartError
from schema.migrations import migrate
from schema.settings import MySQLAddress, Settings

_READY_TIMEOUT_S = 60
_READY_INTERVAL_S = 0.05
_LOG_BYTES_MAX = 16 * 1024 * 1024


class Stack:
    """Started once. `environ` is what the children get, `MYSQL_URL` and `REDIS_URL` in it replace our own servers."""

    def __init__(self, home: Home, supervisor: Supervisor, environ: Mapping[str, str]) -> None:
        self.home = home
        self.mysql: MySQLServer | None = None
        self.redis: RedisServer | None = None
        self.mysql_client: Path | None = None
        self.demo: DemoLogin | None = None
        self.api_url = ""
        self._supervisor = supervisor
        self._environ = dict(environ)
        self._mysql_url = environ.get("MYSQL_URL", "")
        self._redis_url = environ.get("REDIS_URL", "")
        self._children: dict[str, Child] = {}

    def start(self, port: int, say: Callable[[str], None]) -> None:
        """Start all, wait until the API is ready, make the demo login. Raises StartError."""
        programs.prepare(say, mysql=not self._mysql_url, redis=not self._redis_url)
        self._start_servers()
        settings = self._write_settings(port)
        migrate(settings)
        self._start_children()
        self._wait_until_ready()
        self.demo = ensure_demo_login(self.home, self.api_url)
        self.write_run()

    def summary(self) -> dict[str, Any]:
        """What programs need to drive it; a server that is not ours has no pid and no socket here."""
        return {
            "api_url": self.api_url,
            "mysql_url": self._mysql_url,
            "mysql_socket": str(self.mysql.socket) if self.mysql else None,
            "redis_url": self._redis_url,
            "demo": {"email": self.demo.email, "password": self.demo.password} if self.demo else None,
            "pids": {
                "mysqld": self.mysql.pid if self.mysql else None,
                "redis": self.redis.pid if self.redis else None,
                **{name: child.pid for name, child in self._children.items()},
            },
        }

    def sql_client(self) -> str:
        """What a person types before SQL options: our own client, or an installed one with the way to the server."""
        if self.mysql_client is not None:
            return shlex.quote(str(self.mysql_client))
        to = MySQLAddress.parse(self._mysql_url)
        words = ["mysql", f"--host={to.host}", f"--port={to.port}", f"--user={to.user}", f"--password={to.password}"]
        return shlex.join([*words, to.database])

    def write_run(self) -> None:
        """Keep run.json equal to the summary: whoever is started again has a new pid."""
        write_private(self.home.run, json.dumps(self.summary()))

    def _start_servers(self) -> None:
        if not self._mysql_url:
            self.mysql = MySQLServer(self.home.path / "mysql")
            self._supervisor.start(self.mysql)
            self._mysql_url = self.mysql.url
        if not self._redis_url:
            self.redis = RedisServer(self.home.path / "redis")
            self._supervisor.start(self.redis)
            self._redis_url = self.redis.url
        address = MySQLAddress.parse(self._mysql_url)
        self._mysql_url = address.url()
        if self.mysql:
            self.mysql_client = self.home.write_mysql_client(self.mysql, address.database)

    def _write_settings(self, port: int) -> Settings:
        make_private_dir(self.home.path / "state")
        values = {
            **self.home.account_urls(self._mysql_url),
            "mysql_socket": str(self.mysql.socket) if self.mysql else "",
            "redis_url": self._redis_url,
            "jwt_secret": self.home.secret("jwt"),
            "state_dir": str(self.home.path / "state"),
        }
        self.home.write_settings({**values, "http_port": port})
        self._environ |= {"SYNC_CONFIG": str(self.home.settings), "SYNC_HTTP_PORT": str(port)}
        settings = Settings.load(env=self._environ)
        host = "127.0.0.1" if settings.http_host in ("0.0.0.0", "::") else settings.http_host
        self.api_url = f"http://{host}:{settings.http_port}"
        return settings

    def _start_children(self) -> None:
        make_private_dir(self.home.logs)
        for name in ("tail", "serve"):
            log = self.home.logs / f"{name}.log"
            if log.exists() and log.stat().st_size > _LOG_BYTES_MAX:
                log.rename(log.with_suffix(".log.1"))
            self._children[name] = own_child((name,), log=log, env=self._environ)
            self._supervisor.start(self._children[name])

    def _wait_until_ready(self) -> None:
        """A halted tailer is not waited for: the operator's commands need the servers, and devices may still read."""
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while (status := ready_status(self.api_url)) != 200:
            if status is not None and self._children["tail"].exit_code == EXIT_HALTED:
                self._supervisor.check()
                return
            for child in self._children.values():
                if child.exit_code not in (None, EXIT_HALTED):
                    message = f"matrix-sync {child.name} ended:\n{child.last_lines()}"
                    raise StartError("child_failed", message, hint=f"see {child.log}")
            if time.monotonic() > deadline:
                lines = "\n".join(child.last_lines() for child in self._children.values())
                message = f"{self.api_url} was not ready in {_READY_TIMEOUT_S} s:\n{lines}"
                raise StartError("not_ready", message, hint=f"see {self.home.logs}")
            self._supervisor.check()
            time.sleep(_READY_INTERVAL_S)
