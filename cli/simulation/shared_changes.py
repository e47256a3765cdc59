"""Equal changes in answers to many devices are read once: a hundred phones have a hundred processors, and here they share one."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from cli.demo.device import Answer

KEPT_MAX = 20_000
"""Changes of each of two generations: some 30 MB."""
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])


class SharedChanges:
    """The newest changes by the very bytes that they came as. No change is ever altered in place, so many may hold the same one."""

    def __init__(self) -> None:
        self._young: dict[bytes, Any] = {}
        self._old: dict[bytes, Any] = {}

    def read(self, content: bytes) -> Answer:
        """Make an answer of its JSON."""
        if b'"changes":' not in content:
            answer: Answer = orjson.loads(content)
            return answer
        parts = _OBJECT.decode(content)
        changes = parts.pop("changes", None)
        answer = {name: orjson.loads(bytes(part)) for name, part in parts.items()}
        if changes is not None:
            answer["changes"] = [self._change(bytes(change)) for change in _ARRAY.decode(changes)]
        return answer

    def _change(self, text: bytes) -> Any:
        change = self._young.get(text)
        if change is None:
            change = self._old.get(text)
            self._young[text] = change = orjson.loads(text) if change is None else change
            if len(self._young) >= KEPT_MAX:
                self._young, self._old = {}, self._young
        return change
