"""What the tailer tells the API's workers through Redis when the head has moved: its form, and the channel."""

from __future__ import annotations

from typing import NamedTuple

import orjson


class Hint(NamedTuple):
    """The head moved from `before` to `head`, with changes of these companies."""

    before: int
    head: int
    companies: tuple[int, ...]

    def encoded(self) -> bytes:
        """As it is published: `{"from": head, "to": head, "companies": [id, …]}`."""
        return orjson.dumps({"from": self.before, "to": self.head, "companies": self.companies})


def decoded_hint(message: bytes) -> Hint | None:
    """None for what is no hint."""
    try:
        found = orjson.loads(message)
    except orjson.JSONDecodeError:
        return None
    match found:
        case {"from": int(before), "to": int(head), "companies": [*companies]} if all(isinstance(one, int) for one in companies):
            return Hint(before, head, tuple(companies))
    return None


def head_channel(database: str) -> str:
    """The channel a database's hints are published on."""
    return f"matrix-sync:{database}:head"
