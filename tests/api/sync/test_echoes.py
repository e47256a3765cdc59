"""What a device made itself is left out only where nothing older of that record is still to come to it (contract §1.3, §2.5)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import Api
from tests.api.tills import drained, newest, shop
from tests.device import Line, insert, update

pytestmark = pytest.mark.asyncio(loop_scope="module")
UNITS = "units_of_measure"
KG = {"name": "kg", "abbrev": "k"}


async def unit(line: Line, other: Line) -> tuple[int, int]:
    """A unit of `other`, which `line` has pulled: its id, and the cursor of `line`."""
    made = await other.push_one(insert(UNITS, "u", **KG))
    return made["record_id"], await drained(line)


async def left(line: Line, cursor: int, record_id: int, held: dict[str, Any], **wants: Any) -> dict[str, Any]:
    """What a device that held this of a record ends with, when it puts what it pulls in the place of what it had."""
    changes, _ = await line.pull_all(cursor, no_echo=True, **wants)
    for change in changes:
        if (change["table"], change["record_id"]) == (UNITS, record_id):
            held = {name: change["data"][name] for name in held}
    return held


async def there_and_back(other: Line, record_id: int) -> None:
    await other.push(update(UNITS, record_id, **{**KG, "abbrev": "kilo"}))
    await other.push(update(UNITS, record_id, **KG))


@pytest.mark.parametrize("wants", [{}, {"history": True}, {"limit": 1}, {"history": True, "limit": 1}], ids=str)
async def test_an_edit_comes_back_after_what_others_did_that_its_device_had_not_got(api: Api, wants: dict[str, Any]) -> None:
    """The row is as it was sent all the same: what the others did, they took back."""
    _, (line, other) = await shop(api)
    record_id, _ = await unit(line, other)
    await there_and_back(other, record_id)
    mine = {**KG, "name": "kilogram"}
    pushed = await line.push(update(UNITS, record_id, **mine))
    assert pushed["results"][0]["status"] == "applied"
    assert await left(line, pushed["current_version"], record_id, mine, **wants) == mine


@pytest.mark.parametrize("wants", [{}, {"history": True}, {"limit": 1}, {"history": True, "limit": 1}], ids=str)
async def test_an_edit_comes_back_after_an_own_one_that_comes_back(api: Api, wants: dict[str, Any]) -> None:
    """The first was overtaken by a pull; of the second its device was given nothing, and was answered nothing."""
    _, (line, other) = await shop(api)
    record_id, _ = await unit(line, other)
    await there_and_back(other, record_id)
    await drained(line)
    first, second = ({**KG, "name": name} for name in ("kilogram", "kilograms"))
    await line.push(update(UNITS, record_id, **first))
    pushed = await line.push(update(UNITS, record_id, **second))
    assert pushed["results"][0]["status"] == "applied"
    assert await left(line, pushed["current_version"], record_id, second, **wants) == second


async def test_a_base_version_learned_from_an_answer_is_no_row_that_was_given(api: Api) -> None:
    _, (line, other) = await shop(api)
    record_id, cursor = await unit(line, other)
    await there_and_back(other, record_id)
    first, second = ({**KG, "name": name} for name in ("kilogram", "kilograms"))
    version = (await line.push_one(update(UNITS, record_id, **first)))["version"]
    pushed = await line.push(update(UNITS, record_id, **second, more={"base_version": version}))
    assert pushed["results"][0]["status"] == "applied"
    assert await left(line, cursor, record_id, second, history=True, limit=1) == second


async def test_own_edits_one_after_another_are_left_out_where_their_device_says_what_it_built_on(api: Api) -> None:
    _, (line, other) = await shop(api)
    record_id, cursor = await unit(line, other)
    version = cursor
    for name in ("1", "2", "3"):
        pushed = await line.push(update(UNITS, record_id, **{**KG, "name": name}, more={"base_version": version}))
        version = pushed["results"][0]["version"]
        assert pushed["current_version"] == pushed["head_version"] == version
    assert (UNITS, record_id) not in newest((await line.pull(cursor, no_echo=True, history=True))["changes"])
