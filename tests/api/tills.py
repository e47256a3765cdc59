"""Companies with devices for the tests of sync, and the change log that follows them."""

from __future__ import annotations

import itertools
from typing import Any

from tests.api.conftest import Api, Person
from tests.device import Line

_numbers = itertools.count(1)


def till(person: Person, device_id: str | None = None, *, company_id: int | None = None) -> Line:
    """A device of this person."""
    return Line(person.http, person.url, person.token, device_id or f"till-{next(_numbers)}", company_id)


async def shop(api: Api, count: int = 2) -> tuple[Person, list[Line]]:
    """A new company's owner and some devices."""
    owner = await api.register()
    return owner, [till(owner) for _ in range(count)]


async def drained(line: Line) -> int:
    """The cursor of a device that has pulled everything."""
    return (await line.pull_all())[1]


def newest(changes: list[dict[str, Any]]) -> dict[tuple[str, int], dict[str, Any]]:
    """A feed as the state it leaves, by table and id."""
    return {(change["table"], change["record_id"]): change for change in changes}
