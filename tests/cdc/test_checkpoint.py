"""Whether a server's binlogs continue a checkpoint (cdc.checkpoint, cases 2 to 4)."""

from __future__ import annotations

import pytest

from cdc.checkpoint import check_continuity
from cdc.gtid import GtidSet
from schema.errors import Halt

ONE, OTHER = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"
NOTHING = GtidSet()


def gtids(text: str) -> GtidSet:
    return GtidSet.parse(text)


@pytest.mark.parametrize(
    ("executed", "missing"),
    [
        ("", f"{ONE}:1-100"),
        (f"{ONE}:1-90", f"{ONE}:91-100"),
        (f"{ONE}:1-90,{OTHER}:1-500", f"{ONE}:91-100"),
        (f"{ONE}:1-50:52-200", f"{ONE}:51"),
    ],
)
def test_a_server_that_never_executed_what_the_log_holds_halts(executed: str, missing: str) -> None:
    """A restored backup, a binlog that began anew, a failover that lost transactions."""
    with pytest.raises(Halt, match="transactions_lost") as halt:
        check_continuity(gtids(f"{ONE}:1-100"), gtids(executed), NOTHING)
    assert halt.value.details == {"missing": missing} and "A restored backup" in halt.value.hint


@pytest.mark.parametrize(
    ("purged", "missing"),
    [
        (f"{ONE}:1-101", f"{ONE}:101"),
        (f"{ONE}:1-200", f"{ONE}:101-200"),
        (f"{ONE}:1-10,{OTHER}:1-3", f"{OTHER}:1-3"),
    ],
)
def test_a_server_that_purged_what_was_not_read_halts(purged: str, missing: str) -> None:
    with pytest.raises(Halt, match="binlog_purged") as halt:
        check_continuity(gtids(f"{ONE}:1-100"), gtids(f"{ONE}:1-300,{OTHER}:1-9"), gtids(purged))
    assert halt.value.details == {"missing": missing} and "A purged binlog" in halt.value.hint


@pytest.mark.parametrize("purged", ["", f"{ONE}:1-100", f"{ONE}:1-50:52-60"])
def test_a_server_that_has_all_that_follows_is_read_on_from_there(purged: str) -> None:
    check_continuity(gtids(f"{ONE}:1-100"), gtids(f"{ONE}:1-300,{OTHER}:1-9"), gtids(purged))
