"""A copy of the tree in which guards are switched off, and pytest in it. The tree itself is never written."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.guards.guard import ROOT, Guard

RUN_SECONDS_MAX = 240
TEST_SECONDS_MAX = 20
_PLUGIN = "pytest_asyncio.plugin"
"""The one plugin of pytest that tests here need: each run is a process of its own, and others take seconds to load."""
_STOP_SECONDS = 30
_OUTPUT_CHARACTERS_MAX = 3000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What pytest said of each case it ran: `passed`, `failed`, `skipped`, or `error` where it never got to judge."""

    cases: Mapping[str, str]
    output: str

    def of(self, test: str) -> set[str]:
        """Return what became of a test's cases; empty where none ran."""
        return {said for case, said in self.cases.items() if case == test or case.startswith(f"{test}[")}


class Workspace:
    """The copy at `root`; `environ` leads its tests to servers that run."""

    def __init__(self, root: Path, environ: Mapping[str, str]) -> None:
        self.root = root
        ours = {"PYTHONPATH": str(root), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "CI": "1"}  # CI: the same examples each time
        self._environ = {**environ, **ours}
        self._seconds = itertools.count(int(time.time()) + 2)
        for name in _tracked():
            target = root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)

    @contextmanager
    def without(self, guard: Guard) -> Iterator[None]:
        """The copy with a guard switched off. Raises GuardMoved."""
        before = {file: (self.root / file).read_text() for file in guard.files}
        for file, source in guard.sources(self.root).items():
            self._write(file, source)
        try:
            yield
        finally:
            for file, source in before.items():
                self._write(file, source)

    def run(self, tests: Collection[str]) -> Outcome:
        """Run tests by their ids. What hangs is ended, and has not been judged; pytest stops what it started in any case."""
        report = self.root / "report.xml"
        report.unlink(missing_ok=True)
        options = ["-q", "-p", _PLUGIN, "-p", "no:cacheprovider", "--tb=short", f"--junit-xml={report}"]
        command = [sys.executable, "-m", "pytest", *options, *tests]
        # A session of its own: Ctrl-C reaches pytest once, from here.
        with subprocess.Popen(
            command, cwd=self.root, env=self._environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        ) as pytest:
            try:
                output, _ = pytest.communicate(timeout=RUN_SECONDS_MAX + TEST_SECONDS_MAX * len(tests))
            except BaseException as problem:
                output = _stop(pytest)
                if not isinstance(problem, subprocess.TimeoutExpired):
                    raise
        text = output.decode(errors="replace")[-_OUTPUT_CHARACTERS_MAX:]
        return Outcome(_cases(report) if report.exists() else {}, text)

    def _write(self, file: str, source: str) -> None:
        """Each time with a later second than before: Python knows compiled modules by it."""
        path = self.root / file
        path.write_text(source)
        second = next(self._seconds)
        os.utime(path, (second, second))


def _tracked() -> list[str]:
    """Files of the working tree, those not yet committed too."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout.split("\0")
    return [name for name in listed if name and (ROOT / name).is_file()]


def _stop(pytest: subprocess.Popen[bytes]) -> bytes:
    pytest.send_signal(signal.SIGINT)
    try:
        return pytest.communicate(timeout=_STOP_SECONDS)[0]
    except subprocess.TimeoutExpired:
        os.killpg(pytest.pid, signal.SIGKILL)
        return pytest.communicate()[0]


def _cases(report: Path) -> dict[str, str]:
    """The JUnit report's cases by pytest id. One that failed and then could not clean up has failed."""
    found: dict[str, str] = {}
    for case in ET.parse(report).iter("testcase"):
        name = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name', '')}"
        tags = {child.tag for child in case}
        said = next((word for tag, word in _WORDS.items() if tag in tags), "passed")
        if found.get(name) != "failed":
            found[name] = said
    return found


_WORDS = {"failure": "failed", "error": "error", "skipped": "skipped"}
