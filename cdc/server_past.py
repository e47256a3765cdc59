"""What a server still has of the transactions that the change log was read from, for an operator's decision.

A number alone proves nothing: a binlog that was reset counts from 1 again. So one recorded transaction that both have is compared
by its commit time; where it differs, or there is none, the numbers are those of other transactions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pymysql.connections import Connection
from pymysql.cursors import SSCursor

from cdc.anchor import common_part, is_same_transaction
from cdc.decision import Server
from cdc.gtid import Gtid, GtidSet
from cdc.state import Anchor, State
from schema.settings import MySQLAddress

_READ_TXS = "SELECT gtid, commit_time_us, first_version, last_version FROM sync_tx ORDER BY tx DESC"


@dataclass(frozen=True, slots=True)
class ServerPast:
    """`lost`: what the checkpoint holds and the server never executed. `common`: what it did execute of it, the same transactions.

    `is_reset`: its binlog began anew, though its tables stand. `fork`: the last version before the first lost transaction.
    """

    lost: GtidSet
    common: GtidSet
    is_reset: bool
    fork: int

    def checkpoint(self, purged: GtidSet) -> GtidSet:
        """Where reading goes on: after what both have; what is in no binlog any more cannot be read."""
        return self.common.union(purged)


def read_server_past(connection: Connection[Any], address: MySQLAddress, state: State, server: Server) -> ServerPast:
    """Compare the checkpoint with the server. Reads all of sync_tx where the server lacks something. Raises Retry, Halt."""
    lost = state.gtid_set.subtract(server.executed)
    common = common_part(state.gtid_set, server.executed)
    if not lost:
        is_reset = _is_other(address, state.anchor, server)
        return ServerPast(lost, GtidSet() if is_reset else common, is_reset, state.head)
    fork = state.head
    newest: Anchor | None = None
    is_known = False
    for gtid, time_us, head_before in _txs(connection):
        if gtid in lost:
            fork = min(fork, head_before)
        elif gtid in common:
            is_known = True
            if newest is None and gtid not in server.purged:
                newest = Anchor(gtid, time_us)
    if not is_known or _is_other(address, newest, server):
        return ServerPast(lost, GtidSet(), is_reset=True, fork=state.head)
    return ServerPast(lost, common, is_reset=False, fork=fork)


def _is_other(address: MySQLAddress, anchor: Anchor | None, server: Server) -> bool:
    if anchor is None or anchor.gtid in server.purged or anchor.gtid not in server.executed:
        return False
    return is_same_transaction(address, anchor, server.executed) is False


def _txs(connection: Connection[Any]) -> Iterator[tuple[Gtid, int, int]]:
    """GTID, commit time and the head before, newest first; not all in memory at once."""
    with connection.cursor(SSCursor) as cursor:
        cursor.execute(_READ_TXS)
        for gtid, time_us, first_version, last_version in cursor.fetchall_unbuffered():
            yield Gtid.parse(gtid), time_us, last_version if first_version is None else first_version - 1
