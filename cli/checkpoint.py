"""`matrix-sync checkpoint show` and `checkpoint skip`: where the tailer stands, and passing over one transaction."""

from __future__ import annotations

from typing import Any

import click
from rich.text import Text

from cdc.gtid import Gtid
from cdc.skip import skip as skip_gtid
from cdc.status import TailerStatus, read_tailer_status
from cli.output import Command, actor, console, print_json, printable, session
from schema.errors import MatrixError
from schema.settings import Settings


@click.group()
def checkpoint() -> None:
    """Show the tailer's checkpoint, or pass over one transaction."""


@checkpoint.command(cls=Command)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line.")
def show(as_json: bool) -> None:
    """Print epoch, head, checkpoint, the lease's holder, and how far behind it is."""
    settings = Settings.load()
    address = settings.operator()
    with session(address) as connection:
        status = read_tailer_status(connection, address.database)
    told = _told(status)
    if as_json:
        print_json(told)
        return
    out = console()
    for name, value in told.items():
        out.print(Text.assemble((f"{name.replace('_', ' '):15}", "bold"), "–" if value is None else printable(str(value))))


def _told(status: TailerStatus) -> dict[str, Any]:
    state = status.state
    return {
        "epoch": state.epoch,
        "head": state.head,
        "tx": state.tx,
        "gtid_set": str(state.gtid_set),
        "position": f"{state.file}:{state.pos}" if state.file else None,
        "server_uuid": state.server_uuid,
        "fencing_token": state.fencing_token,
        "last_commit_at": f"{status.last_commit_at.isoformat()}Z" if status.last_commit_at else None,
        "holder": status.holder,
        "held_since": f"{status.held_since.isoformat()}Z" if status.held_since else None,
        "behind_txs": status.behind.count(),
        "behind": str(status.behind) or None,
        "purged_unread": str(status.purged) or None,
        "lost": str(status.lost) or None,
        "halted": status.last_halt["code"] if status.is_halted and status.last_halt else None,
    }


@checkpoint.command(cls=Command)
@click.option("--gtid", required=True, metavar="GTID", help="The transaction to pass over, as the halt names it.")
@click.option("--reason", required=True, metavar="TEXT", help="Why its changes may be missing; it is recorded.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line.")
def skip(gtid: str, reason: str, yes: bool, as_json: bool) -> None:
    """Add one transaction to the checkpoint, so that the tailer goes on after it.

    The rows it wrote never become changes by themselves: devices do not hear of them until `matrix-sync reconcile` has compared the
    tables with the change log. It changes no row, gives no version, and does not raise the epoch. Refused while a tailer runs. Who
    skipped what, and why, stays in sync_audit.
    """
    try:
        wanted = Gtid.parse(gtid)
    except MatrixError as problem:
        raise click.BadParameter("not one GTID, as uuid:number", param_hint="--gtid") from problem
    settings = Settings.load()
    address = settings.operator()
    if not yes:
        click.confirm(f"Pass over {wanted}? Its changes will be missing from the change log", abort=True, err=True)
    with session(address) as connection:
        done = skip_gtid(connection, address.database, wanted, reason=reason, actor=actor())
    is_new = done.before != done.after
    if as_json:
        print_json({"gtid": str(wanted), "skipped": is_new, "before": str(done.before), "after": str(done.after)})
    elif is_new:
        click.echo(
            f"skipped {wanted}; start the tailer again, then run `matrix-sync reconcile`: its rows are not in the change log"
        )
    else:
        click.echo(f"the checkpoint holds {wanted} already; nothing was done")
