"""`matrix-sync serve`: one parent that holds the listening sockets, and workers that serve from them.

Each worker has a socket of its own on the same port (SO_REUSEPORT), opened by the parent and inherited. A worker that dies loses
no connection that waits in its queue: its successor takes the socket over.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

import pymysql

from api.tokens import check_secret
from api.workers import BACKLOG, Parent
from schema import database_check, migrations
from schema.connect import open_connection
from schema.errors import StartError
from schema.logs import get_logger
from schema.settings import Settings

log = get_logger(__name__)
CONNECT_SECONDS_MAX = 5


def check_start(settings: Settings) -> None:
    """Raise StartError unless settings, MySQL and its schema are what this program needs."""
    check_secret(settings.jwt_secret)
    address = settings.api()
    try:
        connection = open_connection(address, timeout_seconds=CONNECT_SECONDS_MAX)
    except pymysql.err.MySQLError as problem:
        raise StartError(
            "mysql_unreachable",
            f"MySQL at {address.host}:{address.port} cannot be used: {problem.args[-1]}",
            hint="mend SYNC_MYSQL_API_URL, or run `matrix-sync migrate`",
        ) from problem
    try:
        migrations.check_current(connection)
        database_check.check(connection, address.database)
    finally:
        connection.close()


def serve(settings: Settings, *, is_ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then drain. `is_ready` is called with the URL once the workers run.

    Raises StartError: the port is busy, or what `check_start` found.
    """
    check_start(settings)
    workers = settings.http_workers or max(1, (os.cpu_count() or 1) - 1)
    sockets = open_sockets(settings.http_host, settings.http_port, workers)
    port = sockets[0].getsockname()[1]
    try:
        parent = Parent(settings, sockets)
        parent.start()
        log.info("serve_started", host=settings.http_host, port=port, workers=workers)
        is_ready(f"http://{_in_url(settings.http_host)}:{port}")
        parent.watch()
    finally:
        for listening in sockets:
            listening.close()
    log.info("serve_stopped")


def open_sockets(host: str, port: int, count: int) -> list[socket.socket]:
    """Return `count` listening sockets on one port; port 0 is a free one. Raises StartError where another program listens there.

    A first socket without SO_REUSEPORT finds out: with it, a second server would share the port without a word.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            port = probe.getsockname()[1]
        sockets = []
        for _ in range(count):
            listening = socket.socket(family, socket.SOCK_STREAM)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listening.bind((host, port))
            sockets.append(listening)
        for listening in sockets:
            listening.listen(BACKLOG)
    except OSError as problem:
        raise StartError(
            "port_busy",
            f"cannot listen on {host}:{port}: {problem.strerror or problem}",
            hint="stop what listens there, or choose another port with --port",
        ) from problem
    return sockets


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
