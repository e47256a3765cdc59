"""What a guard is: the words in the source that hold a promise, and the tests that turn red without them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


class GuardMoved(Exception):
    """The table no longer says what the source says."""


@dataclass(frozen=True, slots=True)
class Edit:
    """`text` stands exactly once in `file` (a path from the root); `off` in its place switches the guard off."""

    file: str
    text: str
    off: str

    def applied_to(self, source: str) -> str:
        """Return the source without the guard. Raises GuardMoved where `text` is not there exactly once."""
        count = source.count(self.text)
        if count != 1:
            raise GuardMoved(f"{self.file} has it {count} times: {self.text}")
        return source.replace(self.text, self.off)


@dataclass(frozen=True, slots=True)
class Guard:
    """`never` is what must not happen. With several edits each layer alone would hold it; `why` says which ones and how.

    `tests` are pytest ids from the root; one without parameters in brackets stands for all of its cases, of which one turns red.
    """

    name: str
    never: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]
    why: str = ""

    @property
    def files(self) -> list[str]:
        """Files that it edits, each once."""
        return list(dict.fromkeys(edit.file for edit in self.edits))

    def sources(self, root: Path) -> dict[str, str]:
        """Return the edited files of the tree at `root` as they are without the guard. Raises GuardMoved."""
        edited: dict[str, str] = {}
        for edit in self.edits:
            source = edited[edit.file] if edit.file in edited else (root / edit.file).read_text()
            edited[edit.file] = edit.applied_to(source)
        return edited


def guard(name: str, never: str, file: str, text: str, off: str, *tests: str) -> Guard:
    """A guard of one edit."""
    return Guard(name, never, (Edit(file, text, off),), tests)


def layered(name: str, never: str, edits: tuple[tuple[str, str, str], ...], *tests: str, why: str) -> Guard:
    """A promise that more than one layer holds, (file, text, off) of each: only without all of them it breaks."""
    return Guard(name, never, tuple(Edit(*edit) for edit in edits), tests, why)
