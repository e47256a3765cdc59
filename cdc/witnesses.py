"""Where witnesses of a change log are kept, as an operator's commands find them: the tailer's file and Redis."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from cdc.announce import Announcer
from cdc.chain_check import Anchor
from cdc.findings import Finding, ok, warning
from cdc.state import State
from cdc.stored import FIRST_CHAIN
from schema.settings import Settings
from schema.versions import is_replaced, pack
from schema.witness import Witness, decode, read_file, witness_file


@dataclass(frozen=True, slots=True)
class Kept:
    """A witness and where it is, in words."""

    place: str
    witness: Witness


def read_shared(announcer: Announcer, log_id: str) -> Witness | None:
    """Return the witness in Redis; None where there is none, or that of another log of the same name."""
    stored = announcer.read_witness()
    shared = decode(stored) if stored is not None else None
    return shared if shared is not None and shared.log_id == log_id else None


def find_witnesses(settings: Settings, database: str, log_id: str) -> list[Kept]:
    """Return the witnesses of a log that can be reached from here."""
    with closing(Announcer(settings, database=database)) as announcer:
        shared = read_shared(announcer, log_id)
    places = ((str(witness_file(settings, database)), read_file(settings, database)), ("Redis", shared))
    return [Kept(place, witness) for place, witness in places if witness is not None]


def anchors_of(witnesses: Collection[Witness], state: State, forks: dict[int, int]) -> list[Anchor]:
    """Return what the chain of a log that was read after its witnesses must have, without what is recorded as gone.

    A witness of a newer epoch than the log's has its place there, though nothing may have happened in it yet.
    """
    found = {Anchor(p.version, p.chain) for w in witnesses for p in w.points if not is_replaced(p.version, forks)}
    newest = max((w.epoch for w in witnesses), default=0)
    if newest > state.epoch:
        found.add(Anchor(pack(newest, 0), FIRST_CHAIN))
    return sorted(found, key=lambda anchor: anchor.version)


def check_witness(settings: Settings, database: str, log_id: str, *, is_empty: bool) -> list[Finding]:
    """Whether a restored backup would be noticed. `is_empty`: the change log has nothing that could be lost."""
    kept = find_witnesses(settings, database, log_id)
    findings = [] if is_writable(witness_file(settings, database)) else [_unwritable(settings, database)]
    if kept and len(kept) == 1:
        return [*findings, _in_one_place(kept[0], settings)]
    if kept:
        return [*findings, ok("witness", f"a witness of the change log is kept in {' and in '.join(k.place for k in kept)}")]
    if is_empty:
        return [*findings, ok("witness", "the change log is empty: there is nothing to witness yet")]
    return [
        *findings,
        warning(
            "witness_missing",
            "no witness of the change log is found: a backup that was restored could not be told from the true past",
            "run this with the tailer's SYNC_STATE_DIR and REDIS_URL; `matrix-sync checkpoint adopt` if none is left",
        ),
    ]


def is_writable(path: Path) -> bool:
    """Whether a file could be made or replaced there, directories that are missing made too."""
    directory = next(parent for parent in path.absolute().parents if parent.exists())
    return directory.is_dir() and os.access(directory, os.W_OK | os.X_OK)


def _unwritable(settings: Settings, database: str) -> Finding:
    return warning(
        "witness_unwritable",
        f"{witness_file(settings, database)} cannot be written: the witness is in Redis alone, or nowhere",
        "let the tailer's user write to SYNC_STATE_DIR",
    )


def _in_one_place(kept: Kept, settings: Settings) -> Finding:
    if kept.place == "Redis":
        remedy = "let the tailer's user write to SYNC_STATE_DIR"
    else:
        remedy = "see why the tailer cannot write to Redis" if settings.redis_url else "set REDIS_URL"
    return warning(
        "witness_alone",
        f"the witness of the change log is in {kept.place} only: with that lost, a restored backup goes unnoticed",
        f"{remedy}, and run this with the tailer's settings",
    )
