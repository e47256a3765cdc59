"""Random SQL programs: every change comes as MySQL's own triggers saw it and in that order, or the tailer halts. Never silence.

`python -m tests.cdc.sql_programs` runs more of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings

from tests.cdc.sql_programs.lab import Lab, Wrong, open_lab
from tests.cdc.sql_programs.program import PROGRAMS, Meanwhile, Program, Unit
from tests.servers import Stack

INSERT = "INSERT INTO parties (company_id, name) VALUES ({c}, 'Ann')"
UPDATE = "UPDATE parties SET phone = 'x' WHERE company_id = {c}"


@pytest.fixture(scope="module")
def lab(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One for the file; each program has companies of its own."""
    with stack.database() as database, open_lab(database, tmp_path_factory.mktemp("programs")) as opened:
        yield opened


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(PROGRAMS)
def test_every_change_of_a_random_program_comes_exactly_or_the_tailer_halts(lab: Lab, program: Program) -> None:
    lab.run(program)


@pytest.mark.parametrize(
    "loss",
    [
        "DELETE FROM sync_changes ORDER BY version DESC LIMIT 1",
        "UPDATE sync_changes SET operation = 'INSERT' ORDER BY version DESC LIMIT 1",
        'UPDATE sync_changes SET data = REPLACE(data, \'"phone":"x"\', \'"phone":"y"\') ORDER BY version DESC LIMIT 1',
    ],
)
def test_the_judge_sees_a_change_that_is_missing_or_altered(lab: Lab, loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settle = lab._settle

    def settle_and_lose() -> list[str]:
        halts = settle()
        lab.sql.run(loss)
        return halts

    monkeypatch.setattr(lab, "_settle", settle_and_lose)
    with pytest.raises(Wrong):
        lab.run(Program((Unit((INSERT, UPDATE)),), Meanwhile.RUNS))


def test_a_row_written_while_the_binlog_was_off_is_known_to_the_judge(lab: Lab) -> None:
    hidden = Unit((INSERT,), before=("SET SESSION sql_log_bin = 0",), after=("SET SESSION sql_log_bin = 1",))
    lab.run(Program((hidden, Unit((INSERT,))), Meanwhile.RUNS))
    assert lab.counts["hidden"]


def test_a_refused_soft_deletion_is_told_from_the_hard_one_that_looks_the_same(lab: Lab) -> None:
    """The tailer halts at the first, which is passed over, and tells the second, with the very same image."""
    soft = Unit(
        ("UPDATE parties SET deleted_at = CURRENT_TIMESTAMP(6) WHERE company_id = {c}",),
        before=("SET SESSION binlog_row_image = MINIMAL",),
        after=("SET SESSION binlog_row_image = DEFAULT",),
        may_halt=True,
    )
    lab.run(Program((Unit((INSERT,)), soft, Unit(("DELETE FROM parties WHERE company_id = {c}",))), Meanwhile.RESTARTS))
    assert lab.counts["row_image_not_full"]
