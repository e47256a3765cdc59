"""Markdown as far as our documents use it: blocks, headings, links, inline code; and whether an answer is as a block shows it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FENCE = re.compile(r"^ *```(?P<language>\w*)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]]+\]\((?P<target>[^)\s]+)\)")
_INLINE = re.compile(r"`([^`\n]+)`")
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
ANY = "…"
"""In a text block: anything. In JSON: any value, and as a key: more keys than are shown."""
MOMENTS = frozenset({"server_time", "timestamp", "created_at", "updated_at", "deleted_at", "last_sync_at"})
DURATIONS = frozenset({"lag_ms"})
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z")
_TABLE_LINES = re.compile(r"[\s|+]+|-{3,}")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block; `line` is where its text begins, from 1."""

    language: str
    text: str
    line: int


class Document:
    """One file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = path.read_text()

    def blocks(self, *languages: str) -> list[Block]:
        """The fenced blocks of these languages, in order; of all without any."""
        found = [
            Block(match["language"], match["text"], self.text[: match.start("text")].count("\n") + 1)
            for match in _FENCE.finditer(self.text)
        ]
        return [block for block in found if not languages or block.language in languages]

    def statements(self, heading: str) -> list[str]:
        """The statements of the `sql` blocks below a heading, up to the next one."""
        start = self.text.index(f"# {heading}\n")
        end = self.text.find("\n#", start)
        blocks = [match["text"] for match in _FENCE.finditer(self.text[start:end]) if match["language"] == "sql"]
        return [statement.strip() for block in blocks for statement in block.split(";\n") if statement.strip()]

    def prose(self) -> str:
        """The text without its fenced blocks."""
        return _FENCE.sub("", self.text)

    def inline_code(self) -> list[str]:
        """What stands between single backticks."""
        return _INLINE.findall(self.prose())

    def links(self) -> list[str]:
        """Targets of links, as written."""
        return [match["target"] for match in _LINK.finditer(self.prose())]

    def anchors(self) -> set[str]:
        """Names of the headings, as a link ends with them after #."""
        return {anchor(heading) for heading in _HEADING.findall(self.prose())}


def anchor(heading: str) -> str:
    """A heading's name in a link: lower case, spaces as hyphens, marks left out."""
    return re.sub(r"[^\w -]", "", heading.lower().replace("`", "")).strip().replace(" ", "-")


def differences_of_json(shown: Any, actual: Any, where: str = "$") -> Iterator[str]:
    """Yield what is not as shown. Moments and durations need only be ones."""
    if shown == ANY:
        return
    if isinstance(shown, dict) and isinstance(actual, dict):
        missing = [key for key in shown if key != ANY and key not in actual]
        more = [key for key in actual if key not in shown] if ANY not in shown else []
        if missing or more:
            yield f"{where}: missing {missing}, not shown {more}"
        for key in shown.keys() & actual.keys():
            yield from _differences_at(key, shown[key], actual[key], f"{where}.{key}")
    elif isinstance(shown, list) and isinstance(actual, list) and len(shown) == len(actual):
        for at, (one, other) in enumerate(zip(shown, actual, strict=True)):
            yield from differences_of_json(one, other, f"{where}[{at}]")
    elif shown != actual or type(shown) is not type(actual):
        yield f"{where}: {json.dumps(shown)} is shown, {json.dumps(actual)} came"


def _differences_at(key: str, shown: Any, actual: Any, where: str) -> Iterator[str]:
    if key in MOMENTS and shown is not None:
        if not (isinstance(actual, str) and _MOMENT.fullmatch(actual) and _MOMENT.fullmatch(shown)):
            yield f"{where}: {actual!r} is no moment"
    elif key in DURATIONS:
        if not isinstance(actual, int):
            yield f"{where}: {actual!r} is no duration"
    else:
        yield from differences_of_json(shown, actual, where)


def is_text_as_shown(shown: str, actual: str) -> bool:
    """Compare word by word; the lines of a table and how wide it is do not matter."""
    pattern = ".*".join(re.escape(_words(part)) for part in shown.split(ANY))
    return re.fullmatch(rf"\s*{pattern}\s*", _words(actual), re.DOTALL) is not None


def _words(text: str) -> str:
    return _TABLE_LINES.sub(" ", text)
