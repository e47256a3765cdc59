"""`matrix-sync migrate`: brings the database to this program's schema and creates the three accounts."""

from __future__ import annotations

import click

from cli.output import Command, print_json
from schema.migrations import migrate as apply_migrations
from schema.settings import Settings


@click.command(cls=Command)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line.")
def migrate(as_json: bool) -> None:
    """Create or upgrade the database and its accounts. Safe to run again.

    Needs MYSQL_URL of an account that may create databases and accounts.
    """
    settings = Settings.load()
    applied = apply_migrations(settings)
    if as_json:
        print_json({"database": settings.admin().database, "applied": applied})
    else:
        click.echo("".join(f"applied {name}\n" for name in applied) + f"{settings.admin().database} is up to date")
