"""A question to MySQL that can go in one packet with others, or whose answer is known without it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from api.db import Outcome, Session, Statement

T = TypeVar("T")
S = TypeVar("S")
Rows = Sequence[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Question(Generic[T]):
    """`statement` None: nothing has to be asked. `read`: the answer, by the rows that the statement gave."""

    statement: Statement | None
    read: Callable[[Rows], T]

    @classmethod
    def known(cls, answer: T) -> Question[T]:
        """One whose answer is known."""
        return cls(None, lambda _: answer)

    @property
    def known_answer(self) -> T | None:
        """The answer where nothing has to be asked, else None."""
        return self.read(()) if self.statement is None else None

    def answer(self, outcomes: list[Outcome]) -> T:
        """Take the first of the outcomes where something was asked, and return the answer."""
        return self.read(outcomes.pop(0).rows if self.statement is not None else ())


async def ask(session: Session, question: Question[T]) -> T:
    """Return the answer. Raises what `Session.run` raises."""
    return (await ask_both(session, question, Question.known(None)))[0]


async def ask_both(session: Session, one: Question[T], other: Question[S]) -> tuple[T, S]:
    """Return both answers; they are asked for in one packet. Raises what `Session.run` raises."""
    outcomes = await session.run(*(asked.statement for asked in (one, other) if asked.statement is not None))
    return one.answer(outcomes), other.answer(outcomes)
