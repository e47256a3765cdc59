"""The peer: a bare aiohttp handler on uvloop that reads a request and returns bytes it holds, in a process of its own."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvloop
from aiohttp import web

from cli.embedded.process import Child
from tests.bench.load import ROOT
from tests.servers import clean_environ

_START_SECONDS_MAX = 30


@contextmanager
def bare_server(directory: Path, body: bytes) -> Iterator[tuple[Child, int]]:
    """Serve `body` to every POST while the block lasts; yields the process and its port."""
    held, log = directory / "bare.body", directory / "bare.log"
    held.write_bytes(body)
    log.unlink(missing_ok=True)
    child = Child(
        "bare", [sys.executable, "-m", "tests.bench.bare", str(held)], log=log, env={**clean_environ(), "PYTHONPATH": str(ROOT)}
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


async def _serve(body: bytes) -> None:
    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=body, content_type="application/json")

    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(Path(sys.argv[1]).read_bytes()))
