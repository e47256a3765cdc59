"""What many ask at a time is one statement; what is asked while it is under way is the next one, and never an answer of before."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from api.batch import KEYS_PER_QUERY_MAX, QUIET_ROUNDS, Batch
from api.db import Session
from api.keys import DATABASE
from schema.errors import SyncError
from tests.api.conftest import Api


class Numbers:
    """A question to MySQL that answers each number with itself; `asked` are the sizes of the statements."""

    def __init__(self, api: Api) -> None:
        self.asked: list[int] = []
        self.under_way = asyncio.Event()
        self.batch: Batch[int, int] = Batch(api.app[DATABASE], self._read)

    async def get(self, number: int, *, after_rounds: int = 0) -> int:
        """Ask it, some rounds of the loop later, as a request does whose bytes have just come."""
        for _ in range(after_rounds):
            await asyncio.sleep(0)
        return await self.batch.get(number)

    async def _read(self, session: Session, keys: Sequence[int]) -> list[int]:
        self.asked.append(len(keys))
        self.under_way.set()
        rows = await session.run(*(("SELECT %s", (key,)) for key in keys))
        if 13 in keys:
            raise SyncError(503, "busy", "thirteen")
        return [outcome.rows[0][0] for outcome in rows]


async def test_requests_that_are_on_their_way_share_a_statement(api: Api) -> None:
    numbers = Numbers(api)
    answers = await asyncio.gather(*(numbers.get(n, after_rounds=n % QUIET_ROUNDS) for n in range(100, 140)))
    assert answers == list(range(100, 140))
    assert numbers.asked == [40]


async def test_what_is_asked_while_a_statement_is_under_way_is_asked_by_the_next_one(api: Api) -> None:
    numbers = Numbers(api)
    first = asyncio.create_task(numbers.get(1))
    await numbers.under_way.wait()
    assert list(await asyncio.gather(first, numbers.get(2), numbers.get(3))) == [1, 2, 3]
    assert numbers.asked == [1, 2]


async def test_no_statement_asks_for_more_than_it_may_and_none_waits_for_ever(api: Api) -> None:
    numbers = Numbers(api)
    count = 2 * KEYS_PER_QUERY_MAX + 7
    assert await asyncio.gather(*(numbers.get(n) for n in range(20, 20 + count))) == list(range(20, 20 + count))
    assert max(numbers.asked) == KEYS_PER_QUERY_MAX and sum(numbers.asked) == count


async def test_all_who_were_asked_for_together_learn_of_the_error_and_the_next_are_asked_anew(api: Api) -> None:
    numbers = Numbers(api)
    found = await asyncio.gather(numbers.get(13), numbers.get(14), return_exceptions=True)
    assert [type(problem) for problem in found] == [SyncError, SyncError]
    assert await numbers.get(14) == 14
