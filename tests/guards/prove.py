"""Proves guards: green as the tree is, red without each of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from tests.guards.guard import Guard, GuardMoved
from tests.guards.workspace import Outcome, Workspace


@dataclass(frozen=True, slots=True)
class Proof:
    """What became of a guard's tests without it: `red`, and `green` those that did not notice."""

    guard: Guard
    red: tuple[str, ...]
    green: tuple[str, ...]
    problem: str = ""

    @property
    def is_proved(self) -> bool:
        return bool(self.red) and not self.green and not self.problem

    def line(self) -> str:
        """For the table: a guard's name, and its red tests or what is wrong."""
        if self.problem:
            return f"{self.guard.name}: {self.problem}"
        said = [f"red: {_short(test)}" for test in self.red] + [f"STAYED GREEN: {_short(test)}" for test in self.green]
        return "\n    ".join([self.guard.name, *said])


def prove(workspace: Workspace, guards: Sequence[Guard], tell: Callable[[str], None]) -> bool:
    """Prove each guard, telling of it as soon as it is done. Whether all are proved.

    A test that is not green as the tree is, twice, proves nothing: its guards are told as not proved, and the others go on.
    """
    tests = list(dict.fromkeys(test for guard in guards for test in guard.tests))
    not_green = _not_green(workspace, _not_green(workspace, tests, lambda _: None), tell)
    tell(f"{len(tests) - len(not_green)} tests are green as it is")
    is_good = not not_green
    for guard in guards:
        if not_green.isdisjoint(guard.tests):
            proof = prove_one(workspace, guard)
        else:
            proof = Proof(guard, (), (), f"not green as it is: {', '.join(sorted(not_green & set(guard.tests)))}")
        tell(proof.line())
        is_good = is_good and proof.is_proved
    return is_good


def _not_green(workspace: Workspace, tests: Collection[str], tell: Callable[[str], None]) -> set[str]:
    """Those of the tests that fail in the tree as it is, told with what they said."""
    if not tests:
        return set()
    untouched = workspace.run(tests)
    found = {test for test in tests if untouched.of(test) != {"passed"}}
    if found:
        tell("\n".join(["not green as it is:", *sorted(found), untouched.output]))
    return found


def prove_one(workspace: Workspace, guard: Guard) -> Proof:
    """Switch one guard off and run its tests."""
    try:
        with workspace.without(guard):
            outcome = workspace.run(guard.tests)
    except GuardMoved as moved:
        return Proof(guard, (), (), str(moved))
    red = tuple(test for test in guard.tests if "failed" in outcome.of(test))
    unknown = [test for test in guard.tests if test not in red and not outcome.of(test) <= {"passed"}]
    if unknown or len(outcome.cases) == 0:
        return Proof(guard, red, (), f"{', '.join(unknown) or 'nothing'} could not be judged:\n{_indented(outcome)}")
    return Proof(guard, red, tuple(test for test in guard.tests if test not in red))


def _indented(outcome: Outcome) -> str:
    return "\n".join(f"    | {line}" for line in outcome.output.splitlines()[-30:])


def _short(test: str) -> str:
    return test.removeprefix("tests/")
