"""From a seed to the moves of one run: pure, so that a seed always replays the same moves.

A move holds a seed of its own for whatever it has to choose from the state it meets (which record, which column): what it finds
there may depend on the servers' timing, what it does with it does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from schema.tables import TABLES
from tests.convergence.phone import Fault, Trip
from tests.device import Habit

COMPANIES = 2
EDITED = ("products", "parties", "payment_accounts", "item_categories", "units_of_measure", "settings", "accounts")
PLAIN = Trip()
CLOCK_OFFSETS_S = (0, 0, 90, -90, 40_000_000, -300_000_000)
DAY_MOVES = (18, 32)
TRAVELLERS = 0.3


@dataclass(frozen=True, slots=True)
class PhoneSpec:
    """`company` None: it works for both, with one cursor. `clock_step_ms` 1000: its clock shows whole seconds."""

    company: int | None
    habit: Habit
    clock_offset_s: int
    clock_step_ms: int


@dataclass(frozen=True, slots=True)
class Move:
    """`who`: which phone or company. `is_hasty`: over a worker that does not wait for the tailer and has small pages."""

    kind: str
    who: int = 0
    seed: int = 0
    trip: Trip = PLAIN
    is_hasty: bool = False
    together: tuple[Move, ...] = ()


@dataclass(frozen=True, slots=True)
class Script:
    """One run."""

    seed: int
    phones: tuple[PhoneSpec, ...]
    moves: tuple[Move, ...]


def write_script(seed: int) -> Script:
    """Return the run of this seed."""
    rng = Random(seed)
    companies: list[int | None] = [0, 0, 1, *(rng.choice((0, 1)) for _ in range(rng.randint(0, 2)))]
    if rng.random() < TRAVELLERS:
        companies.append(None)
    phones = tuple(
        PhoneSpec(company, rng.choice(tuple(Habit)), rng.choice(CLOCK_OFFSETS_S), rng.choice((1, 1, 1000))) for company in companies
    )
    return Script(seed, phones, tuple(_moves(rng, len(phones))))


def _moves(rng: Random, phones: int) -> list[Move]:
    moves = [Move("edit", who, _seed(rng)) for who in range(phones)]
    moves += [Move("sync", who, _seed(rng)) for who in range(phones)] * 2
    has_kill = rng.random() < 0.06
    hasty_left = 0
    is_paused = False
    for _ in range(rng.randint(*DAY_MOVES)):
        if hasty_left == 0 and is_paused:
            moves.append(Move("resume tailer"))
            is_paused = False
        hasty_left = max(0, hasty_left - 1)
        is_hasty = hasty_left > 0 or is_paused or rng.random() < 0.1
        roll = rng.random()
        if roll < 0.05 and hasty_left == 0 and not is_paused:
            hasty_left = rng.randint(2, 7)
            is_paused = not has_kill
            moves.append(Move("kill tailer" if has_kill else "pause tailer"))
            has_kill = False
        else:
            moves.append(_move(rng, roll, phones, is_hasty=is_hasty))
    return moves


def _move(rng: Random, roll: float, phones: int, *, is_hasty: bool) -> Move:
    who = rng.randrange(phones)
    if roll < 0.40:
        return Move("edit", who, _seed(rng))
    if roll < 0.45:
        return Move("sell", who, _seed(rng))
    if roll < 0.58:
        return Move("sql", rng.randrange(COMPANIES), _seed(rng))
    if roll < 0.60:
        return Move("reinstall", who, _seed(rng))
    if roll < 0.70:
        count = min(phones, rng.randint(2, 3))
        moves = [_sync(rng, who, is_hasty=is_hasty) for who in rng.sample(range(phones), count)]
        if rng.random() < 0.5:
            moves.append(Move("sql", rng.randrange(COMPANIES), _seed(rng)))
        return Move("together", together=tuple(moves))
    return _sync(rng, who, is_hasty=is_hasty)


def _sync(rng: Random, who: int, *, is_hasty: bool) -> Move:
    halves = rng.random()
    trip = Trip(
        pushes=halves > 0.15,
        pulls=not 0.15 < halves < 0.3,
        batches=rng.choice((1, 1, 1, 2, 3)),
        push_fault=_fault(rng),
        pull_fault=_fault(rng),
        takes_second=rng.random() < 0.5,
        limit=rng.choice((1, 2, 4)) if rng.random() < 0.2 else None,
        tables=_tables(rng) if rng.random() < 0.12 else None,
    )
    return Move("sync", who, _seed(rng), trip, is_hasty)


def _fault(rng: Random) -> Fault:
    faults = (Fault.NONE, Fault.REQUEST_LOST, Fault.ANSWER_LOST, Fault.DOUBLED)
    return rng.choices(faults, weights=(60, 8, 17, 15))[0]


def _tables(rng: Random) -> tuple[str, ...]:
    return tuple(sorted(rng.sample(tuple(TABLES), rng.randint(1, len(TABLES) - 1))))


def _seed(rng: Random) -> int:
    return rng.getrandbits(31)
