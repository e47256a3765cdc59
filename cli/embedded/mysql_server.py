"""An embedded MySQL, set as the tailer needs it: GTIDs, whole rows with full metadata, nothing lost in a crash."""

from __future__ import annotations

import os
import shutil
import socket as sockets
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from cli.embedded.claim import make_private_dir, write_private
from cli.embedded.process import tethered
from cli.embedded.programs import MySQLPrograms, find_mysql
from cli.embedded.server import EmbeddedServer
from schema.errors import StartError

ADMIN = "matrix_admin"
DATABASE = "matrix_sync"

# What Matrix Sync needs of a MySQL, wherever it runs.
SYNC_SETTINGS: Mapping[str, str | int] = {
    "server-id": 1,
    "log-bin": "binlog",
    "binlog-format": "ROW",
    "binlog-row-image": "FULL",
    "binlog-row-metadata": "FULL",
    "binlog-rows-query-log-events": "ON",
    "binlog-expire-logs-seconds": 30 * 24 * 3600,
    "gtid-mode": "ON",
    "enforce-gtid-consistency": "ON",
    "sync-binlog": 1,
    "innodb-flush-log-at-trx-commit": 1,
    "character-set-server": "utf8mb4",
    "default-time-zone": "+00:00",
    "local-infile": "ON",
    "max-connections": 500,
}

# What an embedded one needs beside. "loose-": settings that 8.0 or a build without the plugin does not know.
_EMBEDDED_SETTINGS: Mapping[str, str | int] = {
    "bind-address": "127.0.0.1",
    "skip-name-resolve": "ON",
    "loose-mysqlx": "OFF",
    "innodb-buffer-pool-size": "512M",
    "loose-innodb-redo-log-capacity": "512M",
}

_FOR_LIFE = "lower-case-table-names"
"""An option that a database has from the beginning and never changes."""

# Run at every start, and kept out of the binlog, where the tailer would meet it. The account that comes with a new
# database has no password; ours replaces it. ALL covers the dynamic privileges that this server version has.
_ACCOUNTS = """\
SET SESSION sql_log_bin = 0;
CREATE USER IF NOT EXISTS '{admin}'@'%' IDENTIFIED BY '{password}';
ALTER USER '{admin}'@'%' IDENTIFIED BY '{password}';
GRANT ALL ON *.* TO '{admin}'@'%' WITH GRANT OPTION;
ALTER USER 'root'@'localhost' ACCOUNT LOCK;
"""


class MySQLServer(EmbeddedServer):
    """mysqld with its data in `home`. `options` are mysqld's own (`{"server-id": 2}`) and come after ours."""

    name = "mysqld"

    def __init__(self, home: Path, *, options: Mapping[str, str | int] | None = None) -> None:
        super().__init__(home)
        self.options = dict(options or {})
        self._programs: MySQLPrograms | None = None

    @property
    def programs(self) -> MySQLPrograms:
        """mysqld and its clients. Raises StartError where there are none."""
        if self._programs is None:
            self._programs = find_mysql()
        return self._programs

    def write_client_config(self, path: Path) -> None:
        """Write an option file with which `mysql` and its like connect as the administrator."""
        client = f'[client]\nuser = {ADMIN}\npassword = "{self.password}"\nsocket = {_quoted(self.socket)}\n'
        write_private(path, client)

    @property
    def data(self) -> Path:
        """MySQL's data directory: the binlog files are here."""
        return self.home / "data"

    @property
    def files(self) -> Path:
        """What LOAD DATA INFILE may read and SELECT … INTO OUTFILE may write (`secure_file_priv`)."""
        return self.home / "files"

    @property
    def url(self) -> str:
        return self.url_for(DATABASE)

    def url_for(self, database: str) -> str:
        """Where the administrator reaches `database`: `mysql://user:password@127.0.0.1:port/database`."""
        return f"mysql://{ADMIN}:{self.password}@127.0.0.1:{self.port}/{database}"

    def initialize(self) -> None:
        """Make an empty database unless there is one. `start` does it too; a copy of `data` saves others the time."""
        if self.data.exists():
            return
        make_private_dir(self.home)
        unfinished = self.home / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        small = {"loose-innodb-redo-log-capacity": "8M"}  # the default would be most of an empty database
        kept = {name: value for name, value in self.options.items() if name == _FOR_LIFE}
        options = {**self.programs.settings, **_run_as(), **small, **kept, "datadir": unfinished}
        words = [f"--{name}={value}" for name, value in options.items()]
        command = tethered([*self.programs.mysqld, "--no-defaults", *words, "--initialize-insecure"])
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            raise StartError(
                "mysqld_not_started",
                f"mysqld could not make a database in {self.home}:\n{done.stderr.strip()}",
                hint="an installed mysqld may be confined to /var/lib/mysql (AppArmor); else see the lines above",
            )
        (unfinished / "auto.cnf").unlink(missing_ok=True)  # the server's UUID: made at its first start, so copies differ
        unfinished.rename(self.data)

    def _prepare(self, port: int) -> Sequence[str]:
        self.initialize()
        make_private_dir(self.files)
        make_private_dir(self.home / "tmp")
        places: dict[str, str | int | Path] = {
            "datadir": self.data,
            "tmpdir": self.home / "tmp",
            "secure-file-priv": self.files,
            "socket": self.socket,
            "port": port,
            "init-file": self.home / "accounts.sql",
        }
        write_private(self.home / "accounts.sql", _ACCOUNTS.format(admin=ADMIN, password=self.password))
        settings: dict[str, str | int | Path] = {
            **self.programs.settings,
            **_run_as(),
            **SYNC_SETTINGS,
            **_EMBEDDED_SETTINGS,
            **self.options,
            **places,
        }
        lines = "".join(f"{name} = {_quoted(value)}\n" for name, value in settings.items())
        write_private(self.home / "my.cnf", f"[mysqld]\n{lines}")
        return [*self.programs.mysqld, f"--defaults-file={self.home / 'my.cnf'}"]

    def _answers(self, connection: sockets.socket) -> bool:
        """MySQL speaks first: a header of four bytes, then 10, the protocol version; an error begins with 255."""
        return connection.recv(5)[4:] == b"\x0a"


def _run_as() -> dict[str, str]:
    """mysqld refuses to be root unless told so."""
    return {"user": "root"} if os.getuid() == 0 else {}


def _quoted(value: str | int | Path) -> str:
    """For an option file, where a backslash escapes and # begins a comment (MySQL manual, "Using Option Files")."""
    text = str(value)
    if '"' in text or "\n" in text:
        raise StartError("home_unusable", f"MySQL's option files can't hold {text!r}", hint="choose another directory")
    return '"' + text.replace("\\", "\\\\") + '"'
