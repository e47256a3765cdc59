"""Runs the commands as a shell would, in this process, led to a test's database."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from click.testing import CliRunner, Result

from cli.main import COMMANDS, cli
from schema.errors import MatrixError
from tests.servers import Database

__all__ = ["COMMANDS", "run", "run_json"]


def run(database: Database | Mapping[str, str], *words: str, stdin: str | None = None) -> Result:
    """`matrix-sync` with these words. What the shell has of ours does not lead it elsewhere."""
    environ = database.environ if isinstance(database, Database) else database
    ours = {name: None for name in os.environ if name.startswith(("SYNC_", "MYSQL_", "REDIS_"))}
    result = CliRunner().invoke(cli, words, env={**ours, **environ}, input=stdin, prog_name="matrix-sync")
    if result.exception and not isinstance(result.exception, SystemExit | MatrixError):
        raise result.exception
    return result


def run_json(database: Database, *words: str) -> list[dict[str, Any]]:
    """The lines of a command with --json."""
    result = run(database, *words, "--json")
    return [json.loads(line) for line in result.stdout.splitlines()]
