"""The supervisor on real processes: back-off, halted programs, order, leftovers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.embedded.process import Child
from cli.supervisor import Supervisor


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def supervisor(said: list[str]) -> Iterator[Supervisor]:
    supervisor = Supervisor(said.append)
    yield supervisor
    supervisor.kill()


@pytest.fixture
def shell(tmp_path: Path) -> Callable[[str], Child]:
    """A child that runs a line of shell."""

    def make(line: str, name: str = "tail") -> Child:
        return Child(name, ["sh", "-c", line], log=tmp_path / f"{name}.log", env=dict(os.environ))

    return make


def watch(supervisor: Supervisor, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        supervisor.check()
        time.sleep(0.01)


def test_a_child_that_keeps_dying_is_started_again_after_pauses_that_double(
    supervisor: Supervisor, said: list[str], shell: Callable[[str], Child]
) -> None:
    supervisor.start(shell("echo no room; exit 1"))
    watch(supervisor, 1.2)
    ends = [line for line in said if "ended" in line]
    assert [line.partition("next start in ")[2].split("\n")[0] for line in ends] == ["0.2 s", "0.4 s", "0.8 s"]
    assert "exit code 1" in ends[0]
    assert "no room" in ends[0]


def test_a_restart_gives_a_new_pid_and_says_so(supervisor: Supervisor, said: list[str], shell: Callable[[str], Child]) -> None:
    child = shell("sleep 60")
    supervisor.start(child)
    first = child.pid
    child.kill()
    assert not supervisor.check()
    time.sleep(0.25)
    assert supervisor.check()
    assert child.pid != first
    assert said[-1] == f"tail runs again, as process {child.pid}"


def test_a_halted_tailer_is_not_started_again_soon_and_its_reason_is_told(
    supervisor: Supervisor, said: list[str], shell: Callable[[str], Child]
) -> None:
    supervisor.start(shell("echo halted at binlog.000007:4711; exit 3"))
    watch(supervisor, 0.8)
    assert len(said) == 1
    assert "an operator must decide" in said[0]
    assert "next start in 30 s" in said[0]
    assert "binlog.000007:4711" in said[0]


def test_what_a_killed_child_had_started_is_ended_with_it(
    supervisor: Supervisor, shell: Callable[[str], Child], tmp_path: Path
) -> None:
    child = shell(f"sleep 61 & echo $! > {tmp_path}/worker; wait")
    supervisor.start(child)
    deadline = time.monotonic() + 5
    while not (tmp_path / "worker").exists() or not (tmp_path / "worker").read_text().strip():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    worker = int((tmp_path / "worker").read_text())
    assert child.pid is not None
    os.kill(child.pid, 9)
    watch(supervisor, 0.1)
    while _runs(worker):
        assert time.monotonic() < deadline, "the worker outlived its parent"
        time.sleep(0.01)


def test_units_stop_in_the_reverse_order_of_their_start(
    supervisor: Supervisor, shell: Callable[..., Child], tmp_path: Path
) -> None:
    order = tmp_path / "order"
    for name in ("mysqld", "redis", "tail", "serve"):
        child = shell(f"trap 'echo {name} >> {order}; exit' TERM; echo up; while :; do sleep 0.02; done", name)
        supervisor.start(child)
        while "up" not in child.output():
            time.sleep(0.01)
    supervisor.stop()
    assert order.read_text().split() == ["serve", "tail", "redis", "mysqld"]


def test_a_child_that_ignores_sigterm_is_killed_in_the_end(tmp_path: Path) -> None:
    line = "trap '' TERM; echo up; while :; do sleep 0.02; done"
    child = Child("deaf", ["sh", "-c", line], log=tmp_path / "log", env=dict(os.environ), stop_timeout_s=0.2)
    child.start()
    while "up" not in child.output():
        time.sleep(0.01)
    child.stop()
    assert child.exit_code == -9


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
