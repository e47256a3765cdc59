"""Plays one script against the servers, then lets everybody sync until nothing moves, and has the result checked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from random import Random

from tests.convergence.checks import check_devices, check_log, check_rows
from tests.convergence.documents import amend, sell, void
from tests.convergence.edits import edit
from tests.convergence.lab import Desk, Lab
from tests.convergence.office import Office
from tests.convergence.people import Staff
from tests.convergence.phone import Phone, Trip
from tests.convergence.refusals import check_conflicts, check_own_conflicts, check_rejected
from tests.convergence.script import CLERK_ROLES, PLAIN, Move, PhoneSpec, Script, write_script
from tests.convergence.witness import Answers, must
from tests.convergence.writers import lock_books, move_row, open_accounts, write_sql
from tests.device import Habit, Line
from tests.oracle import SYNCED, Rows

ROUNDS_MAX = 12
_NEWEST = "SELECT company_id, MAX(version) FROM sync_changes WHERE company_id IN %s GROUP BY company_id"
_CHANGE_ROLE = "UPDATE users SET role = '{role}' WHERE company_id = {company} AND login_id = {login}"
_NARROW = "UPDATE devices SET capabilities = %s WHERE device_id = %s"
ON_PHONES = {"edit": edit, "sell": sell, "void": void, "amend": amend}


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
    staff: Staff
    pauses: int = 0
    redis_stops: int = 0
    answers: Answers = field(default_factory=Answers)
    phones: list[list[Phone]] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    retired: list[Phone] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.phones = [self._buy(number, spec) for number, spec in enumerate(self.script.phones)]

    @property
    def companies(self) -> tuple[int, int]:
        return self.staff.companies

    def _buy(self, number: int, spec: PhoneSpec, edition: int = 1) -> list[Phone]:
        """A phone with nothing on it, one store for each company it works for."""
        companies = range(len(self.companies)) if spec.company is None else [spec.company]
        person = self.staff.of(spec.company, is_clerk=spec.is_clerks)
        is_kept = spec.habit is Habit.FULL and edition > 1
        device_id = f"{self.companies[0]}-{number}" if is_kept else f"{self.companies[0]}-{number}-{edition}"
        clock = _clock(spec)
        return [
            Phone(
                Line(person.http, person.url, person.token, device_id, self.companies[company], spec.names_company),
                spec.habit,
                clock=clock,
                name=f"phone {number}" + ("" if spec.company is not None else f" in company {company}"),
                install_id=f"install {edition}" if spec.habit is Habit.FULL else "",
                witness=self.answers,
                wants=dict.fromkeys(spec.wants, True),
                role=self.script.clerk_role if spec.is_clerks else "owner",
            )
            for company in companies
        ]

    async def play(self, move: Move) -> None:
        """One move; what it did goes into the trace."""
        rng = Random(move.seed)
        match move.kind:
            case "edit" | "sell" | "void" | "amend":
                phone = rng.choice(self.phones[move.who])
                self._note(f"{phone.name} {ON_PHONES[move.kind](phone, rng)}")
            case "sync":
                await self._sync(rng.choice(self.phones[move.who]), move.trip, is_hasty=move.is_hasty)
            case "sql" | "open accounts" | "lock books" | "move row":
                did = await asyncio.to_thread(self._write_sql, move.kind, move.who, rng)
                self._note(f"company {move.who}: {did}")
            case "endpoint" | "resolve":
                office = self._office(move.who, is_hasty=move.is_hasty)
                did = await (office.write(rng) if move.kind == "endpoint" else office.resolve(rng))
                self._note(f"company {move.who}: {did}")
            case "change role":
                self._change_role(rng.choice((*CLERK_ROLES, "owner")))
            case "narrow device":
                self._narrow(move.who, rng)
            case "reinstall":
                self._reinstall(move.who)
            case "together":
                self._note("together:")
                await asyncio.gather(*(self.play(one) for one in move.together))
            case _:
                self._note(move.kind)
                self._stop_or_go(move.kind)

    async def rest(self) -> None:
        """Everybody syncs until a whole round brings nothing new; a device gets a bounded number of syncs."""
        self.end_pauses()
        self._note("at rest:")
        before = await self._settled()
        for _ in range(ROUNDS_MAX):
            for phone in self._all_phones():
                await self._sync(phone, Trip(), is_hasty=False)
            after = await self._settled()
            if after == before:
                return
            before = after
        must(False, f"not quiet after {ROUNDS_MAX} rounds")

    def end_pauses(self) -> None:
        """Let the tailer and Redis go on, should the script have stopped them."""
        while self.pauses:
            self._stop_or_go("resume tailer")
        while self.redis_stops:
            self._stop_or_go("start redis")

    async def check(self) -> None:
        """Raises Divergence."""
        phones = self._all_phones()
        roles = {(phone.company_id, phone.role) for phone in phones}
        oracle = {key: await asyncio.to_thread(self.desk.oracle.rows, key[0], role=key[1]) for key in sorted(roles)}

        def expected(phone: Phone) -> Rows:
            rows = oracle[phone.company_id, phone.role]
            return {table: found for table, found in rows.items() if phone.tables is None or table in phone.tables}

        await check_devices(phones, expected, self.answers)
        changes = await asyncio.to_thread(check_log, self.desk, self.companies, self.answers)
        check_rows(changes, self.answers)
        for number, company in enumerate(self.companies):
            await check_conflicts(self._office(number).person, company, self.answers)
        for phone in (*phones, *self.retired):
            person = replace(self.desk.lab.worker(is_hasty=False), token=phone.line.token)
            await check_rejected(phone, person, self.answers)
            if phone.role != "owner" and phone not in self.retired:
                await check_own_conflicts(phone, person)

    def _office(self, company: int, *, is_hasty: bool = False) -> Office:
        person = replace(self.desk.lab.worker(is_hasty=is_hasty), token=self.staff.owners[company].token)
        return Office(person, self.companies[company], self.desk.admin, self.answers)

    def _write_sql(self, kind: str, who: int, rng: Random) -> str:
        sql, company = self.desk.sql, self.companies[who]
        match kind:
            case "open accounts":
                return open_accounts(sql, company, rng)
            case "lock books":
                return lock_books(sql, company, rng)
            case "move row":
                return move_row(sql, company, self.companies[1 - who], rng)
            case _:
                return write_sql(sql, company, rng)

    def _change_role(self, role: str) -> None:
        self.desk.sql.run(_CHANGE_ROLE.format(role=role, company=self.companies[0], login=self.staff.clerk_login))
        self.desk.lab.forget_roles()
        for phone in self._all_phones():
            if self.script.phones[self._number(phone)].is_clerks:
                phone.role = role
        self._note(f"the clerk is now {role}")

    def _narrow(self, who: int, rng: Random) -> None:
        """Let a device have some tables only, or only read, or all again; one that was never used is not known yet."""
        tables = frozenset(rng.sample(SYNCED, rng.randint(4, len(SYNCED)))) if rng.random() < 0.6 else None
        is_read_only = rng.random() < 0.3
        can = {**({"tables": sorted(tables)} if tables is not None else {}), **({"read_only": True} if is_read_only else {})}
        device_id = self.phones[who][0].line.device_id
        with self.desk.sql.connection.cursor() as cursor:
            if not cursor.execute(_NARROW, (json.dumps(can), device_id)):
                return
        self.desk.lab.forget_roles()
        for phone in self.phones[who]:
            phone.tables, phone.is_read_only = tables, is_read_only
        self._note(f"phone {who} may {can}")

    def _number(self, phone: Phone) -> int:
        return next(number for number, stores in enumerate(self.phones) if any(store is phone for store in stores))

    async def _sync(self, phone: Phone, trip: Trip, *, is_hasty: bool) -> None:
        said = ""
        twins = self.phones[self._number(phone)]
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
        """The app is new; the role of its user is not, and neither are the capabilities of a device that keeps its id."""
        spec, old = self.script.phones[who], self.phones[who]
        edition = 2 + sum(phone.name.startswith(f"phone {who}") for phone in self.retired)
        self._note(f"phone {who} is reinstalled")
        self.retired += old[:1]
        self.phones[who] = self._buy(who, spec, edition)
        for phone in self.phones[who]:
            phone.role = old[0].role
            if phone.line.device_id == old[0].line.device_id:
                phone.tables, phone.is_read_only = old[0].tables, old[0].is_read_only

    def _stop_or_go(self, kind: str) -> None:
        lab = self.desk.lab
        match kind:
            case "pause tailer":
                lab.pause()
                self.pauses += 1
            case "resume tailer":
                lab.resume()
                self.pauses -= 1
            case "stop redis":
                lab.stop_redis()
                self.redis_stops += 1
            case "start redis":
                lab.start_redis()
                self.redis_stops -= 1
            case _:
                lab.kill()

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
    script = write_script(seed)
    run = Run(desk, script, desk.hire(script.clerk_role))
    try:
        for move in run.script.moves:
            await run.play(move)
        await run.rest()
        await run.check()
    except Exception as problem:
        raise RunFailed(seed, _report(run, problem)) from problem
    finally:
        run.end_pauses()
    run.answers.counts.update(extra.value for extra in script.extras)
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
    extras = ", ".join(run.script.extras)
    moves = [f"  {number:3d} {line}" for number, line in enumerate(run.trace)]
    head = f"seed {run.script.seed} (companies {run.companies}; {extras}): {type(problem).__name__}: {problem}"
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
