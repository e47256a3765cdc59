"""Every setting, in one frozen object: a TOML file overlaid by the environment. Nothing else reads the environment.

The file is $SYNC_CONFIG, else .matrix-sync/settings.toml below the working directory where there is one. MYSQL_URL and REDIS_URL
are taken as they are; every other setting is SYNC_<NAME> in the environment and <name> in the file.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, unquote, urlsplit

from schema.errors import StartError

DEFAULT_FILE = Path(".matrix-sync", "settings.toml")
_PLAIN_NAMES = {"mysql_url": "MYSQL_URL", "redis_url": "REDIS_URL"}


@dataclass(frozen=True, slots=True)
class MySQLAddress:
    """A MySQL account and where its server is, from `mysql://user:password@host:port/database`, parts percent-encoded."""

    user: str
    password: str
    host: str
    port: int
    database: str
    socket: str | None = None

    @classmethod
    def parse(cls, url: str, socket: str | None = None) -> Self:
        """Raises StartError where the URL is not one; the message never holds the password."""
        parts = urlsplit(url)
        try:
            port = parts.port or 3306
        except ValueError:
            port = 0
        if parts.scheme != "mysql" or not parts.hostname or not parts.username or not port:
            raise StartError(
                "bad_mysql_url",
                "a MySQL URL is not of the form mysql://user:password@host:port/database",
                hint="percent-encode special characters of user and password",
            )
        database = unquote(parts.path.lstrip("/")) or "matrix_sync"
        return cls(unquote(parts.username), unquote(parts.password or ""), parts.hostname, port, database, socket)

    def url(self) -> str:
        """The URL again, percent-encoded."""
        credentials = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}"
        return f"mysql://{credentials}@{self.host}:{self.port}/{quote(self.database, safe='')}"


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings. Durations and sizes carry their unit in the name; every `_max` is a bound that is enforced."""

    mysql_url: str = ""
    mysql_api_url: str = ""
    mysql_tailer_url: str = ""
    mysql_operator_url: str = ""
    mysql_socket: str = ""
    redis_url: str = ""
    jwt_secret: str = ""
    state_dir: str = ".matrix-sync/state"
    http_host: str = "127.0.0.1"
    http_port: int = 8080
    http_workers: int = 0
    log_level: str = "info"

    access_token_seconds: int = 30 * 24 * 3600
    refresh_token_seconds: int = 365 * 24 * 3600
    token_cache_seconds: int = 4
    password_hashers_max: int = 2
    password_bytes_max: int = 1024
    signin_attempts_per_minute: int = 20
    user_requests_per_second: int = 200
    device_requests_per_second: int = 20

    page_changes_default: int = 500
    page_changes_max: int = 5000
    page_cache_bytes_max: int = 64 * 1024 * 1024
    push_changes_max: int = 1000
    push_groups_nesting_max: int = 32
    body_bytes_max: int = 5 * 1024 * 1024
    push_wait_ms_max: int = 1500
    pull_wait_seconds_max: int = 25
    pulls_held_per_device_max: int = 2
    push_attempts_max: int = 5
    data_page_rows_default: int = 100
    data_page_rows_max: int = 1000

    mysql_pool_size: int = 8
    mysql_pool_wait_ms_max: int = 5000
    redis_timeout_ms: int = 200

    tailer_server_id: int = 0
    tailer_heartbeat_seconds: int = 5
    tailer_batch_changes: int = 4000
    tailer_batch_bytes_max: int = 8 * 1024 * 1024
    tailer_part_changes_max: int = 10_000
    tailer_backoff_seconds_max: int = 30
    tailer_idle_checkpoint_seconds: int = 5

    retention_history_days: int = 90
    retention_tombstone_days: int = 400
    retention_interval_seconds: int = 600

    @classmethod
    def load(cls, config: Path | None = None, env: Mapping[str, str] | None = None) -> Self:
        """Read file and environment. Raises StartError for a file that cannot be read, an unknown name, or a wrong type."""
        env = os.environ if env is None else env
        path = config or (Path(env["SYNC_CONFIG"]) if env.get("SYNC_CONFIG") else None)
        values = _read_file(path or DEFAULT_FILE, must_exist=path is not None)
        for field in fields(cls):
            name = _PLAIN_NAMES.get(field.name, f"SYNC_{field.name.upper()}")
            if env.get(name):
                values[field.name] = env[name]
        known = {field.name: field for field in fields(cls)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise StartError("unknown_setting", f"no such setting: {', '.join(unknown)}", hint="see docs/operators.md")
        return cls(**{name: _converted(name, value, known[name].default) for name, value in values.items()})

    def admin(self) -> MySQLAddress:
        """The administrator's account: migrations and accounts."""
        return self._address("mysql_url", "MYSQL_URL")

    def api(self) -> MySQLAddress:
        """The API's account."""
        return self._address("mysql_api_url", "SYNC_MYSQL_API_URL")

    def tailer(self) -> MySQLAddress:
        """The tailer's account."""
        return self._address("mysql_tailer_url", "SYNC_MYSQL_TAILER_URL")

    def operator(self) -> MySQLAddress:
        """The account of the operator's commands."""
        return self._address("mysql_operator_url", "SYNC_MYSQL_OPERATOR_URL")

    def _address(self, field: str, variable: str) -> MySQLAddress:
        url: str = getattr(self, field)
        if not url:
            raise StartError("setting_missing", f"{variable} is not set", hint=f"set {variable}, or start with `matrix-sync up`")
        return MySQLAddress.parse(url, self.mysql_socket or None)


def _read_file(path: Path, *, must_exist: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        if must_exist:
            raise StartError("config_missing", f"{path} does not exist", hint="set SYNC_CONFIG to a TOML file") from None
        return {}
    except (OSError, tomllib.TOMLDecodeError) as problem:
        raise StartError("config_unreadable", f"{path}: {problem}", hint="mend the file or set SYNC_CONFIG") from None


def _converted(name: str, value: object, default: object) -> Any:
    assert default is not MISSING
    if isinstance(default, int):
        try:
            return int(str(value))
        except ValueError:
            raise StartError("bad_setting", f"{name} is not a whole number: {value!r}", hint=f"mend {name}") from None
    return str(value)
