"""The table of guards says what the source says, and taking one away is noticed. All of them: `python -m tests.guards`."""

from __future__ import annotations

import ast
import os
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from tests.guards.guard import ROOT, Guard, guard
from tests.guards.promises import SYNC
from tests.guards.prove import prove
from tests.guards.table import GUARDS
from tests.guards.workspace import Workspace

PURE = {"debits-equal-credits", "transactions-the-server-lost-halt"}
"""Of the books and of the tailer; their tests need no server."""
NO_GUARD = guard(
    "no-guard",
    "a change that changes nothing turns a test red",
    "schema/rules.py",
    'CENT = Decimal("0.01")',
    'CENT = Decimal("0.010")',
    "tests/schema/test_rules.py::test_lines_add_up_to_the_total_within_a_cent_a_line",
)


@cache
def named_in(file: str) -> set[str]:
    """Names of a file's tests."""
    tree = ast.parse((ROOT / file).read_text())
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    return {name for name in functions if name.startswith("test_")}


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_a_guard_stands_once_in_its_file_and_its_tests_exist(guard: Guard) -> None:
    for file, source in guard.sources(ROOT).items():
        assert source != (ROOT / file).read_text()
        if file.endswith(".py"):
            compile(source, file, "exec")
    assert guard.tests and guard.never
    assert (len(guard.edits) > 1) == bool(guard.why), "several layers say why, one needs no reason"
    for test in guard.tests:
        file, name = test.split("::")
        assert name.split("[")[0] in named_in(file), test


def test_names_are_used_once_and_each_of_the_eight_sentences_has_guards() -> None:
    names = Counter(guard.name for guard in GUARDS)
    assert names.most_common(1)[0][1] == 1
    sentences = Counter(guard.never for guard in GUARDS)
    assert all(sentences[sentence] >= 2 for sentence in SYNC)


def test_a_guard_that_is_switched_off_turns_its_tests_red_and_the_tree_stays_as_it_is(tmp_path: Path) -> None:
    pure = [guard for guard in GUARDS if guard.name in PURE]
    before = {file: (ROOT / file).read_bytes() for guard in (*pure, NO_GUARD) for file in guard.files}
    told: list[str] = []
    assert not prove(Workspace(tmp_path, os.environ), [*pure, NO_GUARD], told.append)
    assert told[0] == f"{len({test for guard in (*pure, NO_GUARD) for test in guard.tests})} tests are green as it is"
    assert told[1:] == [
        *("\n    ".join([guard.name, *(f"red: {test.removeprefix('tests/')}" for test in guard.tests)]) for guard in pure),
        f"{NO_GUARD.name}\n    STAYED GREEN: {NO_GUARD.tests[0].removeprefix('tests/')}",
    ]
    assert {file: (ROOT / file).read_bytes() for file in before} == before
    assert {file: (tmp_path / file).read_bytes() for file in before} == before
