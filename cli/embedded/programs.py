"""Which MySQL and Redis to run: the installed ones where they do, else Debian's packages, each decided by itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cli.embedded.debian import DebianPackages, cache_dir
from schema.errors import StartError

_Bundle = Mapping[str, Sequence[str]]
_MYSQL: _Bundle = {"mysql": ("mysql-server-core", "mysql-client-core")}
_REDIS: _Bundle = {"redis": ("redis-server",)}
_MYSQL_MIN = (8, 0)
_REDIS_NAMES = ("redis-server", "valkey-server")


@dataclass(frozen=True, slots=True)
class MySQLPrograms:
    """`mysqld` and its clients as the words that start them, and the settings that an unpacked mysqld needs."""

    mysqld: tuple[str, ...]
    settings: Mapping[str, str] = field(default_factory=dict)
    packages: DebianPackages | None = None

    def client(self, name: str) -> tuple[str, ...] | None:
        """The words that start `mysqlbinlog`, `mysql`, `mysqldump` …, of the same version; None if it is not there."""
        if self.packages is not None:
            return self.packages.command("mysql", f"usr/bin/{name}")
        beside = Path(self.mysqld[0]).resolve().parent
        found = shutil.which(name, path=f"{beside}:{beside.parent / 'bin'}") or shutil.which(name)
        return (found,) if found else None


def prepare(say: Callable[[str], None], *, mysql: bool = True, redis: bool = True) -> None:
    """Fetch what is wanted and not installed, both in one go. Raises StartError."""
    mysql_bundle = _MYSQL if mysql and not _installed_mysqld() else {}
    redis_bundle = _REDIS if redis and not _installed_redis() else {}
    DebianPackages(cache_dir()).fetch({**mysql_bundle, **redis_bundle}, say)


def find_mysql() -> MySQLPrograms:
    """Raises StartError where neither an installed mysqld nor Debian's will do."""
    installed = _installed_mysqld()
    if installed:
        return MySQLPrograms((installed,))
    packages = DebianPackages(cache_dir())
    packages.fetch(_MYSQL)
    usr = packages.root("mysql") / "usr"
    settings = {"basedir": str(usr), "plugin-dir": str(usr / "lib/mysql/plugin")}
    return MySQLPrograms(_command(packages, "mysql", "usr/sbin/mysqld"), settings, packages)


def find_redis() -> tuple[str, ...]:
    """The words that start redis-server or valkey-server. Raises StartError."""
    installed = _installed_redis()
    if installed:
        return (installed,)
    packages = DebianPackages(cache_dir())
    packages.fetch(_REDIS)
    return _command(packages, "redis", "usr/bin/redis-server")


def _command(packages: DebianPackages, bundle: str, program: str) -> tuple[str, ...]:
    command = packages.command(bundle, program)
    if command is None:
        raise StartError(
            "packages_unavailable",
            f"{packages.root(bundle)} holds no {program}",
            hint="remove that directory and start again",
        )
    return command


def _installed(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def _installed_mysqld() -> str | None:
    """An installed mysqld of 8.0 or later. MariaDB's, which may go by the same name, will not do."""
    mysqld = _installed("mysqld")
    if mysqld is None:
        return None
    said = subprocess.run([mysqld, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"Ver (\d+)\.(\d+)", said)
    is_enough = found is not None and "MariaDB" not in said and (int(found[1]), int(found[2])) >= _MYSQL_MIN
    return mysqld if is_enough else None


def _installed_redis() -> str | None:
    return next((path for name in _REDIS_NAMES if (path := _installed(name))), None)
