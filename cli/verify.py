"""`matrix-sync verify`: is the change log what it must be?"""

from __future__ import annotations

import click

from cdc.chain_check import Anchor
from cli.output import DIFFERENCES, DONE, Command
from cli.verify_chain import verify_chain
from schema.settings import Settings


@click.command(cls=Command)
@click.option("--chain", is_flag=True, help="Walk the chain of hashes over the change log.")
@click.option("--anchor", "anchors", multiple=True, metavar="VERSION:HASH", help="A hash that an earlier run printed.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line: each finding, then a summary.")
@click.pass_context
def verify(ctx: click.Context, chain: bool, anchors: tuple[str, ...], as_json: bool) -> None:
    """Check the change log, and change nothing.

    --chain makes every hash again, from the first change to the head. It finds changes that were edited, deleted or swapped, and a
    tail that was cut, and prints the hash at the head. Keep that outside the database, and give it to a later run as an --anchor:
    then even somebody who wrote all hashes anew is found.

    Exit codes: 0 all fits, 3 something does not.
    """
    if not chain:
        raise click.UsageError("say what to verify: --chain")
    is_sound = verify_chain(Settings.load(), [_anchor(text) for text in anchors], as_json=as_json)
    ctx.exit(DONE if is_sound else DIFFERENCES)


def _anchor(text: str) -> Anchor:
    try:
        return Anchor.parse(text)
    except ValueError:
        raise click.BadParameter("an anchor is VERSION:HASH, as this command prints it", param_hint="--anchor") from None
