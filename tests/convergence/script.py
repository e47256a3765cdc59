"""From a seed to the moves of one run: pure, so that a seed always replays the same moves.

A move holds a seed of its own for whatever it has to choose from the state it meets (which record, which column): what it finds
there may depend on the servers' timing, what it does with it does not. Every run has phones of both habits, plain SQL, a failing
line and a tailer that stops; what else there is, a seed chooses.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from random import Random

from schema.tables import TABLES
from tests.convergence.phone import Fault, Trip
from tests.device import Habit

COMPANIES = 2
EDITED = ("products", "parties", "payment_accounts", "item_categories", "units_of_measure", "settings", "accounts")
CLERK_ROLES = ("sales", "viewer", "accountant", "admin")
PLAIN = Trip()
CLOCK_OFFSETS_S = (0, 0, 90, -90, 40_000_000, -300_000_000)
DAY_MOVES = (9, 18)
TRAVELLERS = 0.3
EXTRAS_PER_RUN = 3
REDIS_STOPS = 0.1
EXTRA_MOVES = 0.3


class Extra(StrEnum):
    """What not every run has. `clients`: full devices that ask for `no_echo` or `history`. `deaths`: apps that die."""

    CONFLICTS = "conflicts"
    BOOKS = "books"
    ROLES = "roles"
    ENDPOINTS = "endpoints"
    MOVES = "moves"
    CLIENTS = "clients"
    DEATHS = "deaths"


BY_PHONES = {Extra.BOOKS: ("sell", "void", "amend"), Extra.ROLES: ("change role", "narrow device")}
BY_OTHERS = {
    Extra.CONFLICTS: ("resolve",),
    Extra.ENDPOINTS: ("endpoint",),
    Extra.MOVES: ("move row",),
    Extra.BOOKS: ("lock books",),
}


@dataclass(frozen=True, slots=True)
class PhoneSpec:
    """`company` None: it works for both, with one cursor. `clock_step_ms` 1000: its clock shows whole seconds.

    `names_company` False: it relies on its user having one only.
    """

    company: int | None
    habit: Habit
    clock_offset_s: int
    clock_step_ms: int
    names_company: bool = True
    wants: tuple[str, ...] = ()
    is_clerks: bool = False


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
    extras: tuple[Extra, ...]
    clerk_role: str
    phones: tuple[PhoneSpec, ...]
    moves: tuple[Move, ...]


def write_script(seed: int) -> Script:
    """Return the run of this seed."""
    rng = Random(seed)
    extras = tuple(sorted(rng.sample(tuple(Extra), EXTRAS_PER_RUN)))
    companies: list[int | None] = [0, 0, 1, *(rng.choice((0, 1)) for _ in range(rng.randint(0, 2)))]
    if rng.random() < TRAVELLERS:
        companies.append(None)
    clerk = rng.randrange(2) if Extra.ROLES in extras else -1
    phones = tuple(_phone(rng, company, extras, is_clerks=number == clerk) for number, company in enumerate(companies))
    return Script(seed, extras, rng.choice(CLERK_ROLES), phones, tuple(_moves(rng, extras, len(phones))))


def _phone(rng: Random, company: int | None, extras: tuple[Extra, ...], *, is_clerks: bool) -> PhoneSpec:
    habit = rng.choice(tuple(Habit))
    has_wants = Extra.CLIENTS in extras and habit is Habit.FULL
    return PhoneSpec(
        company,
        habit,
        rng.choice(CLOCK_OFFSETS_S),
        rng.choice((1, 1, 1000)),
        names_company=company is None or rng.random() < 0.5,
        wants=rng.choice((("no_echo",), ("history",), ("history", "no_echo"), ())) if has_wants else (),
        is_clerks=is_clerks,
    )


def _moves(rng: Random, extras: tuple[Extra, ...], phones: int) -> list[Move]:
    moves = _morning(rng, extras, phones)
    has_kill = rng.random() < 0.06
    has_redis_stop = rng.random() < REDIS_STOPS
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
        elif roll < 0.2 and has_redis_stop:
            moves.append(Move("stop redis"))
            has_redis_stop = False
        elif rng.random() < EXTRA_MOVES:
            moves.append(_extra_move(rng, extras, phones, is_hasty=is_hasty))
        else:
            moves.append(_move(rng, extras, phones, is_hasty=is_hasty))
    if is_paused:
        moves.append(Move("resume tailer"))
    return moves + _evening(rng, extras, phones)


def _morning(rng: Random, extras: tuple[Extra, ...], phones: int) -> list[Move]:
    """Everybody has something to say, and hears of the others."""
    moves = [Move("edit", who, _seed(rng)) for who in range(phones)]
    has_books = Extra.BOOKS in extras
    if has_books:
        moves += [Move("open accounts", company, _seed(rng)) for company in range(COMPANIES)]
    moves += [Move("sync", who, _seed(rng)) for who in range(phones)]
    moves += [Move("sell", who, _seed(rng)) for who in range(phones if has_books else 0)]
    return moves + [Move("sync", who, _seed(rng)) for who in range(phones)]


def _evening(rng: Random, extras: tuple[Extra, ...], phones: int) -> list[Move]:
    """What needs a day behind it."""
    moves = []
    if Extra.BOOKS in extras:
        moves.append(Move("lock books", rng.randrange(COMPANIES), _seed(rng)))
        moves += [Move(rng.choice(("void", "amend")), who, _seed(rng)) for who in range(phones)]
    if Extra.ENDPOINTS in extras:
        moves += [Move("endpoint", company, _seed(rng)) for company in range(COMPANIES)]
    if Extra.CONFLICTS in extras:
        moves += [_sync(rng, extras, who, is_hasty=False) for who in range(phones)]
        moves += [Move("resolve", company, _seed(rng)) for company in range(COMPANIES)]
    return moves


def _extra_move(rng: Random, extras: tuple[Extra, ...], phones: int, *, is_hasty: bool) -> Move:
    by_phones = [kind for extra in extras for kind in BY_PHONES.get(extra, ())]
    by_others = [kind for extra in extras for kind in BY_OTHERS.get(extra, ())]
    kind = rng.choice([*by_phones, *by_others] or ["edit"])
    return Move(kind, rng.randrange(COMPANIES if kind in by_others else phones), _seed(rng), is_hasty=is_hasty)


def _move(rng: Random, extras: tuple[Extra, ...], phones: int, *, is_hasty: bool) -> Move:
    who, roll = rng.randrange(phones), rng.random()
    if roll < 0.38:
        return Move("edit", who, _seed(rng))
    if roll < 0.42:
        return Move("sell", who, _seed(rng))
    if roll < 0.55:
        return Move("sql", rng.randrange(COMPANIES), _seed(rng))
    if roll < 0.575:
        return Move("reinstall", who, _seed(rng))
    if roll < 0.69:
        count = min(phones, rng.randint(2, 3))
        moves = [_sync(rng, extras, who, is_hasty=is_hasty) for who in rng.sample(range(phones), count)]
        if rng.random() < 0.5:
            moves.append(Move("sql", rng.randrange(COMPANIES), _seed(rng)))
        if rng.random() < 0.5 and Extra.ENDPOINTS in extras:
            moves.append(Move("endpoint", rng.randrange(COMPANIES), _seed(rng), is_hasty=is_hasty))
        return Move("together", together=tuple(moves))
    return _sync(rng, extras, who, is_hasty=is_hasty)


def _sync(rng: Random, extras: tuple[Extra, ...], who: int, *, is_hasty: bool) -> Move:
    halves = rng.random()
    trip = Trip(
        pushes=halves > 0.15,
        pulls=not 0.15 < halves < 0.3,
        batches=rng.choice((1, 1, 1, 2, 3)),
        push_fault=_fault(rng, extras),
        pull_fault=_fault(rng, extras),
        takes_second=rng.random() < 0.5,
        steps=rng.choice((0, 1, 2, 4)),
        limit=rng.choice((1, 2, 4)) if rng.random() < 0.2 else None,
        tables=_tables(rng) if rng.random() < 0.12 else None,
    )
    return Move("sync", who, _seed(rng), trip, is_hasty)


def _fault(rng: Random, extras: tuple[Extra, ...]) -> Fault:
    """Every third request is lost, doubled, or ends with a dead app."""
    weights = (60, 8, 17, 15, 20 if Extra.DEATHS in extras else 0)
    return rng.choices(tuple(Fault), weights=weights)[0]


def _tables(rng: Random) -> tuple[str, ...]:
    return tuple(sorted(rng.sample(tuple(TABLES), rng.randint(1, len(TABLES) - 1))))


def _seed(rng: Random) -> int:
    return rng.getrandbits(31)
