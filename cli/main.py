"""The `matrix-sync` command: a registry of the commands, each imported when it is asked for.

Exit codes: 0 done, 1 failed, 2 usage, 3 halted or differences found.
"""

from __future__ import annotations

import importlib
import sys

import click
from setproctitle import setproctitle

from schema.errors import Halt, MatrixError

# name → the module and the click command in it
COMMANDS = {
    "up": "cli.up:up",
    "migrate": "cli.migrate:migrate",
    "tail": "cli.tail:tail",
    "serve": "cli.serve:serve",
    "doctor": "cli.doctor:doctor",
    "binlog": "cli.binlog:binlog",
    "replay": "cli.replay:replay",
    "verify": "cli.verify:verify",
    "reconcile": "cli.reconcile:reconcile",
    "snapshot": "cli.reconcile:snapshot",
    "explain": "cli.explain:explain",
    "rows": "cli.rows:rows",
    "retention": "cli.retention:retention",
    "checkpoint": "cli.checkpoint:checkpoint",
    "conflicts": "cli.conflicts:conflicts",
    "devices": "cli.devices:devices",
    "demo": "cli.demo.command:demo",
    "simulate": "cli.simulate:simulate",
}


class _Registry(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command


@click.command(cls=_Registry, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="matrix-sync")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Offline-first sync for MySQL: the binlog becomes versions, devices pull and push by version."""
    # What `ps` shows: the command, and never an argument, which may hold a secret.
    setproctitle(f"matrix-sync {ctx.invoked_subcommand}")


def main() -> None:
    """Run the command of the command line; an error of ours is one message and an exit code."""
    try:
        cli(prog_name="matrix-sync")
    except MatrixError as problem:
        hint = f"\n  {problem.hint}" if problem.hint else ""
        click.echo(f"matrix-sync: {problem.message}{hint}", err=True)
        sys.exit(3 if isinstance(problem, Halt) else 1)


if __name__ == "__main__":
    main()
