"""The peer: a bare aiohttp handler on uvloop that reads a request and returns bytes it holds, in processes of its own."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvloop
from aiohttp import web

from api.server import open_sockets
from cli.embedded.process import Child
from tests.bench.load import ROOT
from tests.servers import clean_environ

_START_SECONDS_MAX = 30


@contextmanager
def bare_server(directory: Path, body: bytes, *, workers: int) -> Iterator[tuple[Child, int]]:
    """Serve `body` to every POST while the block lasts; yields the process, parent of the other workers, and its port."""
    held, log = directory / "bare.body", directory / "bare.log"
    held.write_bytes(body)
    log.unlink(missing_ok=True)
    child = Child(
        "bare",
        [sys.executable, "-m", "tests.bench.bare", str(held), str(workers)],
        log=log,
        env={**clean_environ(), "PYTHONPATH": str(ROOT)},
    )
    child.start()
    try:
        deadline = time.monotonic() + _START_SECONDS_MAX
        while not child.output().endswith("\n"):
            if not child.is_running or time.monotonic() > deadline:
                raise RuntimeError(f"the bare server did not start: {child.last_lines()}")
            time.sleep(0.05)
        yield child, int(child.output())
    finally:
        child.kill()


async def _serve(body: bytes, listening: socket.socket) -> None:
    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=body, content_type="application/json")

    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.SockSite(runner, listening).start()
    await asyncio.Event().wait()


def _main(body: bytes, workers: int) -> None:
    sockets = open_sockets("127.0.0.1", 0, workers)
    mine = next((one for one in sockets[1:] if os.fork() == 0), sockets[0])
    if mine is sockets[0]:
        print(mine.getsockname()[1], flush=True)
    uvloop.run(_serve(body, mine))


if __name__ == "__main__":
    _main(Path(sys.argv[1]).read_bytes(), int(sys.argv[2]))
