"""Which server the demo and the simulation play on: the one that `matrix-sync up` runs in the home, else one started for them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from cli.children import own_child
from cli.demo_login import ready_status
from cli.embedded.claim import make_private_dir, write_private
from cli.embedded.process import Child
from cli.home import Home
from schema.errors import StartError
from schema.settings import MySQLAddress

_START_S_MAX = 300  # the first start on a machine may download the servers
_ANSWER_S_MAX = 5
_INTERVAL_S = 0.1


@dataclass(frozen=True, slots=True)
class Server:
    """Where the API and MySQL are, and the processes of the whole, by name, as far as they are known."""

    api_url: str
    mysql: MySQLAddress
    pids: Mapping[str, int] = field(default_factory=dict)


@contextmanager
def running_server(home: Home, say: Callable[[str], None]) -> Iterator[Server]:
    """Yield the server of `home`; one that was started here is stopped at the end. Raises StartError."""
    server = _find(home)
    if server is not None:
        say(f"playing on the server of {home.path}")
        yield server
        return
    say(f"nothing runs in {home.path}: starting MySQL, Redis, tailer and API there")
    make_private_dir(home.logs)
    log = home.logs / "demo-up.log"
    write_private(log, "")  # it will hold the line with the administrator's password
    words = ("up", "--json", "--home", str(home.path), "--port", "0")
    child = own_child(words, log=log, env=os.environ)
    try:
        child.start()
        yield _parse(_wait_until_ready(child, say))
    finally:
        child.stop()
        log.unlink(missing_ok=True)


def _find(home: Home) -> Server | None:
    """The server that run.json names, if it answers; one that is just being restarted gets a moment."""
    deadline = time.monotonic() + _ANSWER_S_MAX
    while home.run.exists() and time.monotonic() < deadline:
        server = _parse(home.run.read_text())
        if ready_status(server.api_url) == 200:
            return server
        time.sleep(_INTERVAL_S)
    return None


def _wait_until_ready(child: Child, say: Callable[[str], None]) -> str:
    """Return the JSON line that `up` prints, and pass on what it tells people until then."""
    deadline = time.monotonic() + _START_S_MAX
    told = 0
    while child.is_running and time.monotonic() < deadline:
        lines = [line for line in child.output().splitlines(keepends=True) if line.endswith("\n")]
        for line in lines[told:]:
            if line.startswith("{"):
                return line
            say(line.strip().removeprefix("matrix-sync: "))
        told = len(lines)
        time.sleep(_INTERVAL_S)
    message = f"no server runs in this home, and none could be started:\n{child.last_lines()}"
    raise StartError("demo_no_server", message, hint="try `matrix-sync up`, then this again")


def _parse(line: str) -> Server:
    run = json.loads(line)
    pids = {name: pid for name, pid in run.get("pids", {}).items() if pid is not None}
    return Server(run["api_url"], MySQLAddress.parse(run["mysql_url"]), pids)
