"""A whole run: sign in, set up, trade, come to rest, compare. One event loop for all devices, a thread for each desk."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

import uvloop
from pymysql.connections import Connection

from cli.demo.office import CLOSED
from cli.demo.retailer import Region
from cli.demo.server import Server
from cli.simulation.client import AsyncClient, Session, open_session
from cli.simulation.collector import spared_rows
from cli.simulation.company import Company, new_company
from cli.simulation.desk import Desk
from cli.simulation.interrupts import ended_by_signals
from cli.simulation.phone import Phone, pause
from cli.simulation.plan import Load, events
from cli.simulation.processes import usage_of
from cli.simulation.run import Run
from cli.simulation.shared_changes import SharedChanges
from cli.simulation.threads import Threads
from cli.simulation.verdict import judge
from schema.connect import open_connection

SETTLE_S_MAX = 180
_LOOK_S = 0.5
_USAGE_S = 5.0
_SIGN_INS_AT_ONCE = 4
_OTHER_THREADS = 4


class Watcher(Protocol):
    """Who looks on."""

    def say(self, text: str) -> None: ...
    def trading(self, seconds: float, run: Run) -> None: ...


def simulate(server: Server, load: Load, regions: Sequence[Region], watcher: Watcher) -> Run:
    """Play a load on a server. The first Ctrl-C ends the load, and what was done is still compared.

    Raises Refused, pymysql.err.MySQLError, and KeyboardInterrupt at the second Ctrl-C.
    """
    run = Run(load, secrets.token_hex(4))
    try:
        with spared_rows(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(run, server, regions, watcher))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    except BaseExceptionGroup as problems:
        raise _first_of(problems) from None
    return run


def _first_of(problem: BaseException) -> BaseException:
    """What a task raised; the others were cancelled for it."""
    return _first_of(problem.exceptions[0]) if isinstance(problem, BaseExceptionGroup) else problem


async def _run(run: Run, server: Server, regions: Sequence[Region], watcher: Watcher) -> None:
    play = _Play(run, server, regions, watcher, Threads(len(regions) + _OTHER_THREADS))
    with ExitStack() as undo:
        undo.callback(play.threads.close)
        undo.enter_context(ended_by_signals(play.stop))
        try:
            await play.play()
        except asyncio.CancelledError:
            raise  # without closing connections: a thread may be waiting for MySQL with one of them
        except BaseException:
            play.connections.close()
            raise
        play.connections.close()


@dataclass(slots=True)
class _Play:
    """The phases of a run. `stop` ends the load."""

    run: Run
    server: Server
    regions: Sequence[Region]
    watcher: Watcher
    threads: Threads
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    connections: ExitStack = field(default_factory=ExitStack)

    async def play(self) -> None:
        """All of them. Raises Refused."""
        run = self.run
        async with open_session() as session:
            self._found_companies(session)
            self.watcher.say("signing in")
            await self._sign_in()
            self.watcher.say("setting up")
            async with asyncio.TaskGroup() as group:
                for company in run.companies:
                    group.create_task(company.set_up(self._open_desk))
            run.figures.is_counting = True
            async with asyncio.TaskGroup() as group:
                beats = [group.create_task(company.watch(run.figures)) for company in run.companies]
                await self._trade()
                self.watcher.say("coming to rest")
                await self._settle()
                for late in (await asyncio.wait(beats, timeout=SETTLE_S_MAX))[1]:
                    late.cancel()
        self.watcher.say("comparing")
        run.verdict = await judge(run.companies, self._connect(), self.threads)

    def _found_companies(self, session: Session) -> None:
        read = SharedChanges().read

        def client() -> AsyncClient:
            return AsyncClient(session, self.server.api_url, self.run.figures, read)

        self.run.companies = [
            new_company(number, region, self.run.load, self.run.run_id, client, self.run.figures)
            for number, region in enumerate(self.regions)
        ]

    async def _sign_in(self) -> None:
        """A password is hashed for each, so not all at once."""
        turns = asyncio.Semaphore(_SIGN_INS_AT_ONCE)
        password = secrets.token_urlsafe(12)

        async def sign_in(company: Company) -> None:
            async with turns:
                await company.sign_in(self.run.run_id, password)

        async with asyncio.TaskGroup() as group:
            for company in self.run.companies:
                group.create_task(sign_in(company))

    async def _open_desk(self, company: Company) -> Desk:
        random = Random(f"{self.run.load.seed} desk {company.number}")
        connection = await self.threads.run(self._connect)
        desk = Desk(connection, company.company_id, list(company.skus.values()), random)
        await self.threads.run(desk.open)
        return desk

    def _connect(self) -> Connection[Any]:
        return self.connections.enter_context(open_connection(self.server.mysql, autocommit=True))

    async def _trade(self) -> None:
        """All phones and desks at once, until the time is over or `stop` is set."""
        run = self.run
        no_more_sql = threading.Event()
        started = time.monotonic()
        run.figures.is_trading = True
        try:
            async with asyncio.TaskGroup() as group:
                for company in run.companies:
                    company.trade(group, run.load, self.stop)
                    assert company.desk is not None
                    rate = run.load.sql_rate / run.load.companies
                    group.create_task(self.threads.run(company.desk.write, rate, no_more_sql))
                lookers = [group.create_task(self._look(started)), group.create_task(self._sample_usage())]
                await self._conduct(started)
                run.trading_seconds = time.monotonic() - started  # what is under way is still waited for, and counted
                run.is_cut_short = self.stop.is_set()
                self.stop.set()
                no_more_sql.set()
                for looker in lookers:
                    looker.cancel()
        finally:
            no_more_sql.set()
            run.figures.is_trading = False
        run.usage.append(await self.threads.run(usage_of, self.server.pids))

    async def _conduct(self, started: float) -> None:
        """Play each event at its time, or as soon after it as this machine can."""
        run = self.run
        for event in events(run.load, self.regions):
            late = time.monotonic() - started - event.at_s
            if late < 0:
                await pause(self.stop, -late)
            if self.stop.is_set():
                return
            run.figures.behind_s_max = max(run.figures.behind_s_max, late)
            run.companies[event.company].play(event, run.figures)
        await pause(self.stop, started + run.load.seconds - time.monotonic())

    async def _look(self, started: float) -> None:
        while True:
            self.watcher.trading(time.monotonic() - started, self.run)
            await asyncio.sleep(_LOOK_S)

    async def _sample_usage(self) -> None:
        while True:
            self.run.usage.append(await self.threads.run(usage_of, self.server.pids))
            await asyncio.sleep(_USAGE_S)

    async def _settle(self) -> None:
        """Everybody sends what is left; then a last row is written, and everybody pulls up to it. Raises Refused.

        Of who has not made it when the time is over, the comparison shows what is missing.
        """
        run = self.run
        started = time.monotonic()
        await asyncio.gather(*(phone.sync_until(lambda phone: not phone.outbox, SETTLE_S_MAX) for phone in run.phones))
        for company in run.companies:
            assert company.desk is not None
            await self.threads.run(company.desk.close_books, run.run_id)
        await asyncio.gather(*(phone.sync_until(_is_closed, SETTLE_S_MAX) for phone in run.phones))
        run.settle_seconds = time.monotonic() - started


def _is_closed(phone: Phone) -> bool:
    return CLOSED in phone.store.by("settings", "name")
