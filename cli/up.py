"""`matrix-sync up`: MySQL, Redis, migrations, tailer and API as one command, for development and small installs."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

import click

from cli.embedded.claim import Claim, free_port, is_port_free
from cli.home import Home, home_option
from cli.stack import Stack
from cli.supervisor import Supervisor
from schema.errors import StartError

DEFAULT_PORT = 8080
_PORTS_TRIED = 100
_CHECK_INTERVAL_S = 0.1
_FORCE_AFTER_S = 0.5  # a terminal and a program above us may both pass on the same Ctrl-C

_BANNER = """
Matrix Sync is running. Ctrl-C stops it; the data stays in {home}

  API    {api}
  login  {email}  password  {password}
  logs   {home}/logs

Three things to try in another terminal:

1. sign in as a device
TOKEN=$(curl -s {api}/api/auth/login -H 'Content-Type: application/json' \\
  -d '{{"email": "{email}", "password": "{password}", "device_id": "till-1"}}' \\
  | python3 -c 'import json, sys; print(json.load(sys.stdin)["token"])')

2. type a row into a SQL client
{sql_client} -e "INSERT INTO products (company_id, name, sale_price) VALUES ({company_id}, 'Tea', 12.50)"

3. see it arrive on the device
curl -s {api}/api/sync/pull -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \\
  -d '{{"device_id": "till-1", "last_version": 0, "tables": ["products"]}}'
"""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line when ready, for programs.")
@home_option("Where data, settings, secrets and logs are kept.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help=f"The API's port; 0 for any free one.  [default: {DEFAULT_PORT}, or the next free one]",
)
def up(as_json: bool, home_path: Path, port: int | None) -> None:
    """Run MySQL, Redis, migrations, tailer and API until Ctrl-C.

    MySQL and Redis are private ones, or those that MYSQL_URL and REDIS_URL name.
    Ctrl-C, SIGTERM and SIGHUP stop everything in order, with exit code 0; a second Ctrl-C does not wait.
    """
    home = Home(home_path)
    supervisor = Supervisor(_say)
    claim = Claim(home.path)
    stack = Stack(home, supervisor, os.environ)
    _interrupt_on_signals(supervisor)
    try:
        claim.take()
        stack.start(_choose_port(port), _say)
        click.echo(json.dumps(stack.summary()) if as_json else _banner(stack))
        sys.stdout.flush()
        while True:
            time.sleep(_CHECK_INTERVAL_S)
            if supervisor.check():
                stack.write_run()
    except KeyboardInterrupt:
        _say("stopping")
    finally:
        supervisor.stop()
        if claim.is_held:
            home.run.unlink(missing_ok=True)
        claim.release()


def _choose_port(wanted: int | None) -> int:
    """Raises StartError if a port that was asked for is busy."""
    if wanted == 0:
        return free_port()
    if wanted is not None:
        if not is_port_free(wanted):
            raise StartError("port_busy", f"port {wanted} is in use by another program", hint="choose another --port")
        return wanted
    for port in range(DEFAULT_PORT, DEFAULT_PORT + _PORTS_TRIED):
        if is_port_free(port):
            if port != DEFAULT_PORT:
                _say(f"port {DEFAULT_PORT} is in use by another program; taking {port}")
            return port
    raise StartError("port_busy", f"no port is free from {DEFAULT_PORT} on", hint="choose one with --port")


def _banner(stack: Stack) -> str:
    if stack.demo is None:
        raise StartError("not_started", "there is no demo login yet")
    return _BANNER.format(
        home=stack.home.path,
        api=stack.api_url,
        email=stack.demo.email,
        password=stack.demo.password,
        company_id=stack.demo.company_id,
        sql_client=stack.sql_client(),
    )


def _interrupt_on_signals(supervisor: Supervisor) -> None:
    """The first signal interrupts whatever is being done; a later Ctrl-C ends everything at once."""
    first_at: float | None = None

    def on_signal(signum: int, _frame: FrameType | None) -> None:
        nonlocal first_at
        now = time.monotonic()
        if first_at is None:
            first_at = now
            raise KeyboardInterrupt
        if signum == signal.SIGINT and now - first_at > _FORCE_AFTER_S:
            supervisor.kill()
            os._exit(130)

    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, on_signal)


def _say(message: str) -> None:
    click.echo(f"matrix-sync: {message}", err=True)
