"""`matrix-sync rows`: a company's rows of one table as they were at a version or a time."""

from __future__ import annotations

from typing import Any

import click
import orjson
from rich.text import Text

from cdc.as_of import Image, begin_past, read_past
from cli.output import MASKED, Command, console, print_json, printable, sealed_option, session, shown
from schema.settings import Settings
from schema.tables import TABLES


@click.command(cls=Command)
@click.option("--company", type=click.IntRange(min=1), metavar="N", required=True, help="The company's id.")
@click.option("--as-of", metavar="PLACE", required=True, help="A version, or a time such as 2026-01-31T09:30:00Z.")
@click.option("--table", type=click.Choice(list(TABLES)), metavar="TABLE", required=True, help="One of the synced tables.")
@click.option("--deleted", is_flag=True, help="Show records that were deleted then too.")
@sealed_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line, one for each row.")
def rows(company: int, as_of: str, table: str, deleted: bool, sealed: bool, as_json: bool) -> None:
    """Print rows as they were: each record's newest image in the change log at or before that place.

    A time means the last transaction committed at or before it. How far back this goes is what retention keeps.
    """
    settings = Settings.load()
    with session(settings.operator()) as connection:
        version = begin_past(connection, as_of)
        count = 0
        for image in read_past(connection, company, table, version):
            if deleted or image.operation != "DELETE":
                count += 1
                _show(image, table, sealed=sealed, as_json=as_json)
    if not as_json:
        console().print(Text(f"{count} rows of {table} at version {version}", style="bold"))


def _show(image: Image, table: str, *, sealed: bool, as_json: bool) -> None:
    restricted: dict[str, Any] = orjson.loads(image.sealed or "{}")
    if as_json:
        told: dict[str, Any] = {"table": table, "record_id": image.record_id, "version": image.version}
        more = {"sealed": restricted} if sealed and restricted else {}
        print_json({**told, "operation": image.operation, "data": orjson.Fragment(image.data), **more})
        return
    line = Text.assemble((f"{image.record_id}", "cyan"), f"  version {image.version}  ", printable(image.data))
    if restricted:
        line.append(f"  restricted: {shown(restricted) if sealed else MASKED}", style="dim")
    console().print(line)
