"""The `--chain` part of `matrix-sync verify`: what the walk over the chain of hashes found, printed."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from cdc.chain_check import Anchor, ChainCheck, Finding, Summary
from cdc.past import read_forks, read_log_id
from cdc.state import read_state
from cdc.witnesses import Kept, anchors_of, find_witnesses
from cli.output import console, print_json, session
from schema.settings import Settings

FINDINGS_SHOWN_MAX = 100


def verify_chain(settings: Settings, anchors: Sequence[Anchor], *, as_json: bool) -> bool:
    """Walk the chain and print what does not fit, the first version first. Returns whether all does.

    Raises StartError: `no_change_log`, `anchor_pruned`.
    """
    found = 0
    address = settings.operator()
    with session(address) as connection:
        kept = find_witnesses(settings, address.database, read_log_id(connection))
        # The log is read after its witnesses: a running tailer writes a change before its witness.
        witnessed = anchors_of([k.witness for k in kept], read_state(connection), read_forks(connection))
        check = ChainCheck(connection, anchors, witnessed)
        for finding in check.run():
            found += 1
            if found <= FINDINGS_SHOWN_MAX:
                _show(finding, as_json=as_json)
    _end(check.summary, found, kept, as_json=as_json)
    return not found


def _show(finding: Finding, *, as_json: bool) -> None:
    if as_json:
        told = {"kind": finding.kind.value, "first": finding.first, "last": finding.last, "other": finding.other}
        print_json({"type": "finding", **told, "note": finding.note})
        return
    versions = f"version {finding.first}" if finding.first == finding.last else f"versions {finding.first} to {finding.last}"
    console().print(Text.assemble((f"{finding.kind.value:9}", "red"), f" {versions}: {finding.note}"))


def _end(summary: Summary, found: int, kept: Sequence[Kept], *, as_json: bool) -> None:
    counts = {"changes": summary.changes, "stretches": summary.stretches, "pruned": summary.pruned, "findings": found}
    if as_json:
        witnesses = [{"place": k.place, "epoch": k.witness.epoch, "head": k.witness.head} for k in kept]
        print_json({"type": "summary", **counts, "witnesses": witnesses, "head": str(summary.head)})
        return
    out = console()
    if found > FINDINGS_SHOWN_MAX:
        out.print(Text(f"and {found - FINDINGS_SHOWN_MAX} more", style="red"))
    text = f"{summary.changes} changes, {summary.pruned} pruned in {summary.stretches} stretches: "
    text += f"{found} findings" if found else "every hash fits"
    out.print(Text(text, style="red" if found else "green"))
    for witness in kept:
        out.print(Text(f"compared with the witness in {witness.place}, which came to version {witness.witness.head}", style="dim"))
    if not kept:
        out.print(Text("there was no witness to compare with: only an --anchor finds a past that was written anew", style="yellow"))
    out.print(Text(f"head {summary.head}"))
