"""Plays one script against the servers, then lets everybody sync until nothing moves, and has the result checked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from random import Random

from tests.convergence.checks import check_devices, check_log, check_rows
from tests.convergence.edits import edit, sell, write_sql
from tests.convergence.lab import Desk, Lab
from tests.convergence.phone import Phone, Trip
from tests.convergence.script import PLAIN, Move, PhoneSpec, Script, write_script
from tests.convergence.witness import Answers, must
from tests.device import Habit, Line

ROUNDS_MAX = 12
_NEWEST = "SELECT company_id, MAX(version) FROM sync_changes WHERE company_id IN %s GROUP BY company_id"
BOTH = 2


class RunFailed(AssertionError):
    """A seed that did not converge; the message is its trace."""

    def __init__(self, seed: int, trace: str) -> None:
        super().__init__(trace)
        self.seed = seed


@dataclass
class Run:
    """One seed under way."""

    desk: Desk
    script: Script
    companies: list[int]
    pauses: int = 0
    answers: Answers = field(default_factory=Answers)
    phones: list[list[Phone]] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    retired: list[Phone] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.phones = [self._buy(number, spec) for number, spec in enumerate(self.script.phones)]

    def _buy(self, number: int, spec: PhoneSpec, edition: int = 1) -> list[Phone]:
        """A phone with nothing on it, one store for each company it works for."""
        companies = range(len(self.companies)) if spec.company is None else [spec.company]
        person = self.desk.people[BOTH if spec.company is None else spec.company]
        is_kept = spec.habit is Habit.FULL and edition > 1
        device_id = f"{self.companies[0]}-{number}" if is_kept else f"{self.companies[0]}-{number}-{edition}"
        clock = _clock(spec)
        return [
            Phone(
                Line(person.http, person.url, person.token, device_id, self.companies[company]),
                spec.habit,
                clock=clock,
                name=f"phone {number}" + ("" if spec.company is not None else f" in company {company}"),
                install_id=f"install {edition}" if spec.habit is Habit.FULL else "",
                witness=self.answers,
            )
            for company in companies
        ]

    async def play(self, move: Move) -> None:
        """One move; what it did goes into the trace."""
        rng = Random(move.seed)
        match move.kind:
            case "edit" | "sell":
                phone = rng.choice(self.phones[move.who])
                did = edit(phone, rng) if move.kind == "edit" else sell(phone, rng)
                self._note(f"{phone.name} {did}")
            case "sync":
                await self._sync(rng.choice(self.phones[move.who]), move.trip, is_hasty=move.is_hasty)
            case "sql":
                did = await asyncio.to_thread(write_sql, self.desk.sql, self.companies[move.who], rng)
                self._note(f"company {move.who}: {did}")
            case "reinstall":
                self._reinstall(move.who)
            case "together":
                self._note("together:")
                await asyncio.gather(*(self.play(one) for one in move.together))
            case _:
                self._note(move.kind)
                self._tailer(move.kind)

    async def rest(self) -> None:
        """Everybody syncs until a whole round brings nothing new; a device gets a bounded number of syncs."""
        self.end_pauses()
        self._note("at rest:")
        for _ in range(ROUNDS_MAX):
            before = await self._settled()
            for phone in self._all_phones():
                await self._sync(phone, Trip(), is_hasty=False)
            if await self._settled() == before:
                return
        must(False, f"not quiet after {ROUNDS_MAX} rounds")

    def end_pauses(self) -> None:
        """Let the tailer go on, should the script have stopped it."""
        while self.pauses:
            self._tailer("resume tailer")

    async def check(self) -> None:
        """Raises Divergence."""
        oracle = [await asyncio.to_thread(self.desk.oracle.rows, company) for company in self.companies]
        await check_devices(self._all_phones(), dict(zip(self.companies, oracle, strict=True)), self.answers)
        await asyncio.to_thread(check_log, self.desk, self.companies, self.answers)
        await asyncio.to_thread(check_rows, self.desk, self.companies, self.answers)

    async def _sync(self, phone: Phone, trip: Trip, *, is_hasty: bool) -> None:
        said = ""
        twins = next(stores for stores in self.phones if any(store is phone for store in stores))
        for store in twins:
            store.line = self.desk.lab.at(store.line, is_hasty=is_hasty)
            if store is not phone and store.needs_pull:
                said += f"first {store.name}: {await self._travel(store, Trip(pushes=False), twins)}"
        said += await self._travel(phone, trip, twins)
        self._note(f"{phone.name} syncs{' hastily' if is_hasty else ''} {_short(trip)}: {said}")

    async def _travel(self, phone: Phone, trip: Trip, twins: list[Phone]) -> str:
        """A device that works for both companies has one cursor."""
        said = await phone.travel(trip)
        for twin in twins:
            twin.cursor = phone.cursor
        return said

    def _reinstall(self, who: int) -> None:
        spec = self.script.phones[who]
        edition = 2 + sum(phone.name.startswith(f"phone {who}") for phone in self.retired)
        self._note(f"phone {who} is reinstalled")
        self.retired += self.phones[who][:1]
        self.phones[who] = self._buy(who, spec, edition)

    def _tailer(self, kind: str) -> None:
        match kind:
            case "pause tailer":
                self.desk.lab.pause()
                self.pauses += 1
            case "resume tailer":
                self.desk.lab.resume()
                self.pauses -= 1
            case _:
                self.desk.lab.kill()

    def _all_phones(self) -> list[Phone]:
        return [phone for stores in self.phones for phone in stores]

    async def _settled(self) -> tuple[object, ...]:
        """What changes as long as there is something to say, once the tailer is up to date."""
        await self.desk.wait_for_tailer()
        newest = self.desk.admin.rows(_NEWEST, self.companies)
        return (newest, self.answers.changes_pulled, *((len(phone.outbox), len(phone.rows)) for phone in self._all_phones()))

    def _note(self, line: str) -> None:
        self.trace.append(line)


async def run_seed(desk: Desk, seed: int) -> Answers:
    """Play and check one seed. Raises RunFailed with the trace."""
    run = Run(desk, write_script(seed), await desk.open_companies())
    try:
        for move in run.script.moves:
            await run.play(move)
        await run.rest()
        await run.check()
    except Exception as problem:
        raise RunFailed(seed, _report(run, problem)) from problem
    finally:
        run.end_pauses()
    return run.answers


async def run_seeds(lab: Lab, seeds: Iterable[int], lanes: int, take: Callable[[Answers | RunFailed], bool]) -> None:
    """Run seeds, `lanes` at a time, and hand over what came of each as it is done; `take` returns whether to go on."""
    left = iter(seeds)
    is_over = False

    async def work() -> None:
        nonlocal is_over
        with lab.desk() as desk:
            for seed in left:
                try:
                    outcome: Answers | RunFailed = await run_seed(desk, seed)
                except RunFailed as failed:
                    outcome = failed
                is_over = not take(outcome) or is_over
                if is_over:
                    return

    async with asyncio.TaskGroup() as tasks:
        for _ in range(lanes):
            tasks.create_task(work())


def _report(run: Run, problem: Exception) -> str:
    phones = [f"  {number}: {spec}" for number, spec in enumerate(run.script.phones)]
    moves = [f"  {number:3d} {line}" for number, line in enumerate(run.trace)]
    head = f"seed {run.script.seed} (companies {run.companies}): {type(problem).__name__}: {problem}"
    tailer = run.desk.lab.tailer
    end = [] if tailer.is_running else [f"the tailer ended with {tailer.exit_code}:", tailer.last_lines()]
    return "\n".join([head, "phones:", *phones, "moves:", *moves, *end, head])


def _short(trip: Trip) -> str:
    """What is not plain about a trip."""
    names = [field.name for field in fields(Trip)]
    return ", ".join(f"{name}={getattr(trip, name)}" for name in names if getattr(trip, name) != getattr(PLAIN, name))


def _clock(spec: PhoneSpec) -> Callable[[], str]:
    """The phone's clock: off by so many seconds, in steps of so many milliseconds."""

    def now() -> str:
        at = datetime.now(UTC) + timedelta(seconds=spec.clock_offset_s)
        ms = at.microsecond // 1000 // spec.clock_step_ms * spec.clock_step_ms
        return at.replace(microsecond=ms * 1000).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    return now
