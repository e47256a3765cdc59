"""`matrix-sync checkpoint …`: where the tailer stands, and what only an operator may decide about it."""

from __future__ import annotations

from typing import Any

import click
from rich.text import Text

from cdc.gtid import Gtid, GtidSet
from cdc.restored import adopt as adopt_past
from cdc.restored import read_witnesses
from cdc.restored import restored as begin_restored
from cdc.skip import Skipped, set_checkpoint, skip_missing
from cdc.skip import skip as skip_gtid
from cdc.status import TailerStatus, read_tailer_status
from cli.output import Command, actor, console, print_json, printable, session
from schema.errors import MatrixError
from schema.settings import Settings


@click.group()
def checkpoint() -> None:
    """Show the tailer's checkpoint, or decide what it cannot: a gap, a restored backup. Decisions stay in sync_audit."""


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


reason_option = click.option("--reason", required=True, metavar="TEXT", help="Why; it is recorded.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON line.")
fork_option = click.option(
    "--fork", type=click.IntRange(min=0), metavar="VERSION", help="The last version that is still true, where you know better."
)


@checkpoint.command(cls=Command)
@click.option("--gtid", metavar="GTID", help="The transaction to pass over, as the halt names it.")
@click.option("--missing", is_flag=True, help="All that MySQL purged before it was read.")
@reason_option
@yes_option
@json_option
def skip(gtid: str | None, missing: bool, reason: str, yes: bool, as_json: bool) -> None:
    """Pass over one transaction, or over all that was purged unread, so that the tailer goes on after it.

    The rows they wrote never become changes by themselves: devices do not hear of them until `matrix-sync reconcile` has compared
    the tables with the change log. It changes no row and gives no version. The epoch rises, and every cursor stays good. Refused
    while a tailer runs. Who skipped what, and why, stays in sync_audit.
    """
    if bool(gtid) == missing:
        raise click.UsageError("one of --gtid and --missing")
    try:
        wanted = Gtid.parse(gtid) if gtid else None
    except MatrixError as problem:
        raise click.BadParameter("not one GTID, as uuid:number", param_hint="--gtid") from problem
    settings = Settings.load()
    address = settings.operator()
    what = str(wanted) if wanted is not None else "all that was purged unread"
    _confirm(f"Pass over {what}? Its changes will be missing from the change log", yes=yes)
    with session(address) as connection:
        if wanted is not None:
            done = skip_gtid(connection, address.database, wanted, reason=reason, actor=actor())
        else:
            done = skip_missing(connection, address.database, reason=reason, actor=actor())
    _tell_skipped(done, what, as_json=as_json)


@checkpoint.command("set", cls=Command)
@click.argument("gtid_set", metavar="GTIDSET")
@fork_option
@reason_option
@yes_option
@json_option
def set_(gtid_set: str, fork: int | None, reason: str, yes: bool, as_json: bool) -> None:
    """Make GTIDSET the checkpoint: the tailer goes on after it.

    For what `skip` and `restored` do not fit. The server must have executed all of it, and it must hold all that the server has
    purged, and all that was read already. The epoch rises; versions beyond the fork are given up only where the server lacks
    transactions that were read. Reconcile afterwards.
    """
    try:
        wanted = GtidSet.parse(gtid_set)
    except MatrixError as problem:
        raise click.BadParameter("not a GTID set", param_hint="GTIDSET") from problem
    settings = Settings.load()
    address = settings.operator()
    _confirm(f"Go on after {wanted}?", yes=yes)
    with session(address) as connection:
        done = set_checkpoint(connection, address, wanted, fork=fork, reason=reason, actor=actor())
    _tell_skipped(done, str(done.gtids), as_json=as_json)


@checkpoint.command(cls=Command)
@fork_option
@click.option("--epoch", type=click.IntRange(min=1), help="The new epoch, where a lost past had begun some that MySQL forgot.")
@reason_option
@yes_option
@json_option
def restored(fork: int | None, epoch: int | None, reason: str, yes: bool, as_json: bool) -> None:
    """Begin a new epoch: MySQL's past was replaced by a backup, a failover that lost transactions, or a reset of its binlog.

    Devices that were given more than the fork start again and keep what they have not sent; all others go on. The checkpoint
    becomes what the server has of it. Reconcile afterwards. Refused while a tailer runs.
    """
    settings = Settings.load()
    address = settings.operator()
    _confirm("Begin a new epoch? Devices beyond the fork start again", yes=yes)
    with session(address) as connection:
        witnesses = read_witnesses(connection, settings, address.database)
        done = begin_restored(connection, address, witnesses, fork=fork, epoch=epoch, reason=reason, actor=actor())
    told = {
        "epoch": done.epoch,
        "fork": done.fork,
        "head": done.head,
        "before": str(done.before),
        "after": str(done.after),
        "lost": str(done.lost) or None,
        "unread": str(done.unread) or None,
    }
    if as_json:
        print_json(told)
        return
    click.echo(f"epoch {done.epoch} begins; devices beyond version {done.fork} start again. Start the tailer, then reconcile")


@checkpoint.command(cls=Command)
@reason_option
@yes_option
@json_option
def adopt(reason: str, yes: bool, as_json: bool) -> None:
    """Take the change log as it stands for the true past, though no witness is left: MySQL was not restored.

    If it was, say `checkpoint restored`: devices would take new changes for ones they have seen. Refused while a tailer runs.
    """
    settings = Settings.load()
    address = settings.operator()
    _confirm("Was MySQL not restored from a backup, and has no other server taken its place?", yes=yes)
    with session(address) as connection:
        head = adopt_past(connection, address, reason=reason, actor=actor())
    if as_json:
        print_json({"head": head})
        return
    click.echo(f"adopted up to version {head}; start the tailer: it writes a new witness")


def _confirm(question: str, *, yes: bool) -> None:
    if not yes:
        click.confirm(question, abort=True, err=True)


def _tell_skipped(done: Skipped, what: str, *, as_json: bool) -> None:
    is_new = done.before != done.after
    if as_json:
        print_json(
            {
                "skipped": is_new,
                "gtids": str(done.gtids) or None,
                "before": str(done.before),
                "after": str(done.after),
                "epoch": done.epoch,
                "fork": done.fork,
            }
        )
    elif is_new:
        click.echo(f"passed over {what}; start the tailer again, then run `matrix-sync reconcile`: its rows are unread")
    else:
        click.echo("the checkpoint is that already; nothing was done")
