"""The files that nobody runs here, checked with parsers: compose, Dockerfile, Makefile, console script."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.embedded.mysql_server import SYNC_SETTINGS
from cli.main import COMMANDS
from schema.settings import MySQLAddress, Settings

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return loaded


def with_defaults(value: str) -> str:
    """Compose's `${NAME:-default}` as it is without an .env file."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)


def test_compose_runs_mysql_redis_migrations_tailer_and_api(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert set(services) == {"mysql", "redis", "migrate", "tailer", "api"}
    assert services["mysql"]["image"] == "mysql:8.4"
    assert {services[name]["build"] for name in ("migrate", "tailer", "api")} == {"."}


def test_compose_gives_mysql_the_settings_that_embedded_mysql_has(compose: dict[str, Any]) -> None:
    flags = dict(flag.removeprefix("--").split("=", 1) for flag in compose["services"]["mysql"]["command"])
    assert flags == {name: str(value) for name, value in SYNC_SETTINGS.items()}


@pytest.mark.parametrize("service", ["migrate", "tailer", "api"])
def test_compose_uses_commands_and_settings_that_exist(
    compose: dict[str, Any], service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # away from the settings of a `make up` in this checkout
    known = {"MYSQL_URL", "REDIS_URL", *(f"SYNC_{field.name.upper()}" for field in fields(Settings))}
    definition = compose["services"][service]
    assert definition["command"][0] in COMMANDS
    environ = {name: with_defaults(value) for name, value in definition["environment"].items()}
    assert set(environ) <= known
    settings = Settings.load(env=environ)
    for address in (settings.api(), settings.tailer(), settings.operator()):
        assert (address.host, address.database) == ("mysql", "matrix_sync")
        assert address.user.startswith("matrix_sync_")
    if service == "migrate":
        assert settings.admin() == MySQLAddress("root", "matrix-root", "mysql", 3306, "matrix_sync")
    else:
        assert not settings.mysql_url, "only migrations get the administrator's account"


def test_compose_waits_for_what_a_service_needs_and_only_names_what_there_is(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for service in services.values():
        for name, needed in service.get("depends_on", {}).items():
            if needed["condition"] == "service_healthy":
                assert "healthcheck" in services[name]
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in compose["volumes"]
    assert services["migrate"]["restart"] == "no"
    for name in ("tailer", "api"):
        assert services[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


def test_the_image_runs_our_command_as_an_ordinary_user() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users and users[-1] != "root"
    assert 'ENTRYPOINT ["matrix-sync"]' in lines


def test_the_image_is_built_from_what_the_wheel_needs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {*packages, "pyproject.toml", project["project"]["readme"]} == kept
    assert all((ROOT / name).exists() for name in packages)


def test_the_console_script_is_ours() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["scripts"] == {"matrix-sync": "cli.main:main"}


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
@pytest.mark.parametrize("target", ["up", "demo", "test", "guards", "check", "clean"])
def test_make_knows_the_target(target: str) -> None:
    subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)
