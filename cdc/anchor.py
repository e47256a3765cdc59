"""Whether a GTID still is the transaction that was read: a binlog that was reset counts from 1 again until it looks whole.

Each server that executes a transaction keeps the time of its first commit, so an anchor holds on a replica and in a backup too.
Source: MySQL 9.7 manual, "RESET BINARY LOGS AND GTIDS"; control_events.h, original_commit_timestamp.
"""

from __future__ import annotations

from contextlib import closing
from typing import Any, cast

from cdc import events as e
from cdc.gtid import GtidSet
from cdc.gtid_event import parse_gtid_event
from cdc.span import open_source
from cdc.state import Anchor
from schema.errors import Halt
from schema.settings import MySQLAddress


def is_same_transaction(address: MySQLAddress, anchor: Anchor, executed: GtidSet) -> bool | None:
    """Compare the commit time of the anchor's GTID in the server's binlog; None where its binlog is purged meanwhile.

    The server sends all that a set lacks, so it is asked with that one lacking. Raises Retry and Halt as the stream does.
    """
    events = open_source(address, executed.subtract(GtidSet().add(anchor.gtid))).events()
    with closing(cast("Any", events)):
        try:
            for event in events:
                if event.type in (e.GTID, e.GTID_TAGGED):
                    start = parse_gtid_event(event)
                    if start.gtid == anchor.gtid:
                        return start.commit_time_us == anchor.time_us
        except Halt as halt:
            if halt.code != "binlog_purged":
                raise
    return None


def check_anchor(address: MySQLAddress, anchor: Anchor | None, executed: GtidSet, purged: GtidSet) -> None:
    """Raise Halt `binlog_reset` where the last transaction that was read is another one on this server now."""
    if anchor is None or anchor.gtid in purged or anchor.gtid not in executed:
        return
    if is_same_transaction(address, anchor, executed) is False:
        raise Halt(
            "binlog_reset",
            f"{anchor.gtid} is another transaction now: the server's binlog was reset and has grown again",
            hint="`matrix-sync checkpoint restored`, then reconcile; see docs/operators.md, “A reset binlog”",
            details={"gtid": str(anchor.gtid)},
        )


def common_part(checkpoint: GtidSet, executed: GtidSet) -> GtidSet:
    """Return what of the checkpoint the server has executed, by number alone."""
    return checkpoint.subtract(checkpoint.subtract(executed))
