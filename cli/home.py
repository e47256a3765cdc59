"""The home of `matrix-sync up`: the settings it writes for its children, the secrets it keeps, the demo login."""

from __future__ import annotations

import json
import secrets
import shlex
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from cli.embedded import MySQLServer
from cli.embedded.claim import kept_secret, make_private_dir, write_private
from schema.errors import StartError
from schema.settings import DEFAULT_FILE, MySQLAddress

DEMO_EMAIL = "demo@example.com"
_ROLES = ("api", "tailer", "operator")


def home_option(what_for: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option `--home`, as `home_path`, of every command that starts a home or works on one."""
    kind = click.Path(file_okay=False, path_type=Path)
    return click.option(
        "--home", "home_path", metavar="DIR", type=kind, default=DEFAULT_FILE.parent, show_default=True, help=what_for
    )


class Home:
    """Paths and kept values below one directory."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.settings = self.path / "settings.toml"
        self.run = self.path / "run.json"
        self.logs = self.path / "logs"
        self._demo = self.path / "demo.json"
        self._secrets = self.path / "secrets"

    def write_settings(self, values: Mapping[str, str | int]) -> None:
        """Write settings.toml: `values` over what stands there already. Raises StartError if that can't be read."""
        kept: dict[str, Any] = {}
        if self.settings.exists():
            try:
                kept = tomllib.loads(self.settings.read_text())
            except tomllib.TOMLDecodeError as problem:
                message = f"{self.settings}: {problem}"
                raise StartError("config_unreadable", message, hint="mend the file or remove it") from None
        # A JSON string or number is one in TOML too, but for DEL, which no value here holds.
        lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in (kept | dict(values)).items()]
        write_private(self.settings, "".join(lines))

    def account_urls(self, mysql_url: str) -> dict[str, str]:
        """The settings `mysql_url` and, with passwords kept here, those of the accounts that `migrate` creates."""
        admin = MySQLAddress.parse(mysql_url)
        accounts = {
            f"mysql_{role}_url": replace(admin, user=f"{admin.database}_{role}", password=self.secret(role)).url()
            for role in _ROLES
        }
        return {"mysql_url": mysql_url, **accounts}

    def secret(self, name: str) -> str:
        """The secret of that name, made at the first call."""
        make_private_dir(self._secrets)
        return kept_secret(self._secrets / name)

    def demo(self) -> dict[str, str]:
        """The demo login kept here, else a new one: email and password. It may not be registered yet."""
        if self._demo.exists():
            kept: dict[str, str] = json.loads(self._demo.read_text())
            return kept
        return {"email": DEMO_EMAIL, "password": secrets.token_urlsafe(12)}

    def keep_demo(self, demo: Mapping[str, str]) -> None:
        write_private(self._demo, json.dumps(demo))

    def write_mysql_client(self, server: MySQLServer, database: str) -> Path | None:
        """Write bin/mysql, a client that is signed in as the administrator. None where there is no client."""
        client = server.programs.client("mysql")
        if client is None:
            return None
        config = self.path / "mysql" / "client.cnf"
        server.write_client_config(config)
        script = self.path / "bin" / "mysql"
        make_private_dir(script.parent)
        words = shlex.join([*client, f"--defaults-file={config}", f"--database={database}"])
        script.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        script.chmod(0o700)
        return script
