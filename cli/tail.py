"""`matrix-sync tail`: the process that turns the binlog into the change log."""

from __future__ import annotations

import os
import signal
import sys
import threading

import click

from cdc.tailer import Tailer
from cli.output import FAILED, Command
from schema import logs
from schema.errors import StartError
from schema.settings import Settings

SWITCH_SECONDS = 0.0002
"""How long the thread that stores waits for Python's lock when MySQL has answered; by default 5 ms, as long as MySQL takes for a
hundred rows.
"""


@click.command(cls=Command)
@click.option("--standby", is_flag=True, help="Wait while another tailer runs, and take over when it ends.")
def tail(standby: bool) -> None:
    """Follow MySQL's binlog into the change log until SIGTERM or Ctrl-C.

    Exit codes: 0 stopped, 1 it cannot start or another tailer took over, 3 halted: what follows cannot become exact changes.
    The checkpoint then stands before it, and the message says what to do.
    """
    settings = Settings.load()
    _configure_logs(settings.log_level)
    tailer = Tailer(settings, reload=Settings.load)
    _stop_on_signal(tailer)
    sys.setswitchinterval(SWITCH_SECONDS)
    tailer.run(standby=standby)


def _stop_on_signal(tailer: Tailer) -> None:
    """Stop after the commit under way; a second signal ends the process at once, which is as safe as any crash.

    A thread waits for them: a handler in the main thread could interrupt a lock that `stop` needs too.
    """
    signals = (signal.SIGTERM, signal.SIGINT)
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)

    def wait() -> None:
        signal.sigwait(signals)
        tailer.stop()
        signal.sigwait(signals)
        os._exit(FAILED)

    threading.Thread(target=wait, name="signals", daemon=True).start()


def _configure_logs(level: str) -> None:
    try:
        logs.configure(level)
    except ValueError:
        raise StartError("bad_setting", f"no such log level: {level!r}", hint="log_level: debug, info, warning or error") from None
