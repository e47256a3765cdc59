"""A whole run: sign in, set up, trade, come to rest, compare. One event loop for all devices, a thread for each desk."""

from __future__ import annotations

import asyncio
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

import uvloop

from cli.demo.client import Refused
from cli.demo.office import CLOSED
from cli.demo.retailer import Region
from cli.demo.server import Server
from cli.simulation.client import AsyncClient, open_session
from cli.simulation.company import Company, new_company
from cli.simulation.desk import Desk
from cli.simulation.figures import Figures
from cli.simulation.memory import resident_bytes
from cli.simulation.phone import Phone, pause
from cli.simulation.plan import Load, events
from cli.simulation.verdict import Verdict, judge
from schema.connect import open_connection

SETTLE_S_MAX = 180
_SETTLE_PAUSE_S = 0.2
_LOOK_S = 0.5
_MEMORY_S = 5.0
_SIGN_INS_AT_ONCE = 4
_OTHER_THREADS = 4
FORCE_AFTER_S = 0.5
"""A terminal and a program above us may both pass on the same Ctrl-C."""


class Watcher(Protocol):
    """Who looks on."""

    def say(self, text: str) -> None: ...
    def trading(self, seconds: float, run: Run) -> None: ...


@dataclass(slots=True)
class Run:
    """A run under way, and what came of it. `memory` has the resident bytes of the server's processes, sampled while trading."""

    load: Load
    run_id: str
    companies: list[Company] = field(default_factory=list)
    figures: Figures = field(default_factory=Figures)
    memory: list[dict[str, int]] = field(default_factory=list)
    trading_seconds: float = 0.0
    settle_seconds: float = 0.0
    is_cut_short: bool = False
    verdict: Verdict = field(default_factory=Verdict)

    @property
    def phones(self) -> list[Phone]:
        return [phone for company in self.companies for phone in company.phones]

    @property
    def sql_rows(self) -> int:
        """Rows that the desks have written."""
        return sum(company.desk.rows for company in self.companies if company.desk)


def simulate(server: Server, load: Load, regions: Sequence[Region], watcher: Watcher) -> Run:
    """Play a load on a server. The first Ctrl-C ends the load, and what was done is still compared.

    Raises Refused, pymysql.err.MySQLError, and KeyboardInterrupt at the second Ctrl-C.
    """
    run = Run(load, secrets.token_hex(4))
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_play(run, server, regions, watcher))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    except BaseExceptionGroup as problems:
        raise _first_of(problems) from None
    return run


def _first_of(problem: BaseException) -> BaseException:
    """What a task raised; the others were cancelled for it."""
    return _first_of(problem.exceptions[0]) if isinstance(problem, BaseExceptionGroup) else problem


async def _play(run: Run, server: Server, regions: Sequence[Region], watcher: Watcher) -> None:
    stop = asyncio.Event()
    desks = ThreadPoolExecutor(len(regions) + _OTHER_THREADS, "desk")
    asyncio.get_running_loop().set_default_executor(desks)
    with ExitStack() as undo:
        undo.enter_context(_ended_by_signals(stop))
        async with open_session() as session:

            def client() -> AsyncClient:
                return AsyncClient(session, server.api_url, run.figures)

            def open_desk(company: Company) -> Desk:
                connection = undo.enter_context(open_connection(server.mysql, autocommit=True))
                random = Random(f"{run.load.seed} desk {company.number}")
                desk = Desk(connection, company.company_id, list(company.skus.values()), random)
                desk.open()
                return desk

            run.companies = [
                new_company(number, region, run.load, run.run_id, client, run.figures) for number, region in enumerate(regions)
            ]
            watcher.say("signing in")
            await _sign_in(run)
            watcher.say("setting up")
            async with asyncio.TaskGroup() as group:
                for company in run.companies:
                    group.create_task(company.set_up(open_desk))
            run.figures.is_counting = True
            await _trade(run, server, regions, watcher, stop)
            watcher.say("coming to rest")
            await _settle(run)
        watcher.say("comparing")
        connection = undo.enter_context(open_connection(server.mysql, autocommit=True))
        run.verdict = await judge(run.companies, connection)


@contextmanager
def _ended_by_signals(stop: asyncio.Event) -> Iterator[None]:
    """The first SIGINT or SIGTERM sets `stop`; a later one cancels this task."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    first_at: float | None = None

    def on_signal() -> None:
        nonlocal first_at
        if first_at is None:
            first_at = time.monotonic()
            stop.set()
        elif time.monotonic() - first_at > FORCE_AFTER_S:
            task.cancel()

    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, on_signal)
    try:
        yield
    finally:
        for signum in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(signum)


async def _sign_in(run: Run) -> None:
    """A password is hashed for each, so not all at once."""
    turns = asyncio.Semaphore(_SIGN_INS_AT_ONCE)
    password = secrets.token_urlsafe(12)

    async def sign_in(company: Company) -> None:
        async with turns:
            await company.sign_in(run.run_id, password)

    async with asyncio.TaskGroup() as group:
        for company in run.companies:
            group.create_task(sign_in(company))


async def _trade(run: Run, server: Server, regions: Sequence[Region], watcher: Watcher, stop: asyncio.Event) -> None:
    """All phones and desks at once, until the time is over or `stop` is set."""
    no_more_sql = threading.Event()
    started = time.monotonic()
    run.figures.is_trading = True
    try:
        async with asyncio.TaskGroup() as group:
            for company in run.companies:
                company.trade(group, run.load, run.figures, stop, no_more_sql)
            lookers = [group.create_task(company.watch(run.figures)) for company in run.companies]
            lookers.append(group.create_task(_look(run, started, watcher)))
            lookers.append(group.create_task(_sample_memory(run, server)))
            await _conduct(run, regions, started, stop)
            run.is_cut_short = stop.is_set()
            stop.set()
            no_more_sql.set()
            for looker in lookers:
                looker.cancel()
    finally:
        no_more_sql.set()
        run.figures.is_trading = False
    run.trading_seconds = time.monotonic() - started
    run.memory.append(await asyncio.to_thread(resident_bytes, server.pids))


async def _conduct(run: Run, regions: Sequence[Region], started: float, stop: asyncio.Event) -> None:
    """Play each event at its time, or as soon after it as this machine can."""
    for event in events(run.load, regions):
        late = time.monotonic() - started - event.at_s
        if late < 0:
            await pause(stop, -late)
        if stop.is_set():
            return
        run.figures.behind_s_max = max(run.figures.behind_s_max, late)
        run.companies[event.company].play(event, run.figures)
    await pause(stop, started + run.load.seconds - time.monotonic())


async def _look(run: Run, started: float, watcher: Watcher) -> None:
    while True:
        watcher.trading(time.monotonic() - started, run)
        await asyncio.sleep(_LOOK_S)


async def _sample_memory(run: Run, server: Server) -> None:
    while True:
        run.memory.append(await asyncio.to_thread(resident_bytes, server.pids))
        await asyncio.sleep(_MEMORY_S)


async def _settle(run: Run) -> None:
    """Everybody sends what is left; then a last row is written, and everybody pulls up to it. Raises Refused."""
    started = time.monotonic()
    await asyncio.gather(*(_sync_until(phone, lambda phone: not phone.outbox) for phone in run.phones))
    for company in run.companies:
        assert company.desk is not None
        await asyncio.to_thread(company.desk.close_books, run.run_id)
    await asyncio.gather(*(_sync_until(phone, lambda phone: CLOSED in phone.store.by("settings", "name")) for phone in run.phones))
    run.settle_seconds = time.monotonic() - started


async def _sync_until(phone: Phone, is_done: Callable[[Phone], bool]) -> None:
    """Sync until something holds; when the time for it is over the comparison shows what is missing. Raises Refused."""
    deadline = time.monotonic() + SETTLE_S_MAX
    while True:
        try:
            await phone.sync()
        except Refused:
            if time.monotonic() > deadline:
                raise
        if is_done(phone) or time.monotonic() > deadline:
            return
        await asyncio.sleep(_SETTLE_PAUSE_S)
