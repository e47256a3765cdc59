"""asyncmy connections in a fair pool: first come, first served, a bounded wait, and no connection of doubtful state is kept.

asyncmy's own pool lets the task that returns a connection take it again before those that wait.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from decimal import Decimal
from typing import Any

import asyncmy
from asyncmy.constants import CLIENT, FIELD_TYPE
from asyncmy.converters import conversions

from api.db_errors import busy, is_lost, number_of, unavailable
from schema.logs import get_logger
from schema.settings import MySQLAddress

log = get_logger(__name__)
# The driver logs MySQL's warnings, which may show values of rows.
logging.getLogger("asyncmy").setLevel(logging.ERROR)

CONNECT_SECONDS_MAX = 5
PREPARED_STATEMENTS_MAX = 32
_SESSION = """
SET SESSION time_zone = '+00:00', SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION',
    SESSION innodb_lock_wait_timeout = 5, SESSION transaction_isolation = '{isolation}'
"""


def _decimal(value: str | bytes) -> Decimal:
    return Decimal(value if isinstance(value, str) else value.decode())


# The driver's own decoder fails on the bytes that it is given where text is raw.
_CONVERSIONS = {**conversions, FIELD_TYPE.DECIMAL: _decimal, FIELD_TYPE.NEWDECIMAL: _decimal}


class Pool:
    """At most `size` connections; a caller that finds none free waits in line for at most `wait_ms_max`."""

    def __init__(self, address: MySQLAddress, *, size: int, wait_ms_max: int, raw_text: bool) -> None:
        self._address = address
        self._size = size
        self._wait_seconds_max = wait_ms_max / 1000
        self._raw_text = raw_text
        self._idle: list[Any] = []
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._taken = 0
        self._is_closed = False

    @property
    def in_use(self) -> int:
        """Connections that are lent out now."""
        return self._taken

    @property
    def waiting(self) -> int:
        """Callers that stand in line."""
        return len(self._waiting)

    async def acquire(self, *, first: bool = False) -> Any:
        """Return a good connection. `first`: before all that stand in line, for short questions that end requests which wait.

        Raises SyncError `busy` after the wait, `database_unavailable` where MySQL is away.
        """
        if self._is_closed:
            raise unavailable()
        connection = None
        if self._taken < self._size:
            self._taken += 1
        else:
            connection = await self._wait(first=first)
        while connection is None and self._idle:
            connection = _if_whole(self._idle.pop())
        if connection is not None:
            return connection
        try:
            return await self._open()
        except BaseException:
            self._pass_on(None)
            raise

    def release(self, connection: Any, *, is_good: bool) -> None:
        """Take a connection back. One that is not good is closed; whoever waits first gets its place."""
        if not is_good or self._is_closed:
            connection.close()
            connection = None
        self._pass_on(_if_whole(connection))

    async def close(self) -> None:
        """Close what is idle; what is lent out is closed when it comes back."""
        self._is_closed = True
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.ensure_closed()

    async def _wait(self, *, first: bool) -> Any:
        place: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if first:
            self._waiting.appendleft(place)
        else:
            self._waiting.append(place)
        try:
            async with asyncio.timeout(self._wait_seconds_max):
                return await place
        except BaseException as problem:
            if place.done() and not place.cancelled():
                self._pass_on(place.result())  # it was given a connection in the very moment it left the line
            elif place in self._waiting:
                self._waiting.remove(place)
            if isinstance(problem, TimeoutError):
                raise busy() from None
            raise

    def _pass_on(self, connection: Any | None) -> None:
        """Give a lent-out place to the first in line, with its connection where there is one, or free it."""
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(connection)
                return
        self._taken -= 1
        if connection is not None:
            self._idle.append(connection)

    async def _open(self) -> Any:
        address = self._address
        started = time.monotonic()
        try:
            async with asyncio.timeout(CONNECT_SECONDS_MAX):
                return await asyncmy.connect(
                    user=address.user,
                    password=address.password,
                    host=address.host,
                    port=address.port,
                    unix_socket=address.socket,
                    database=address.database,
                    charset="utf8mb4",
                    use_unicode=not self._raw_text,
                    client_flag=CLIENT.FOUND_ROWS,
                    binary_prefix=True,
                    conv=_CONVERSIONS,
                    autocommit=True,
                    connect_timeout=CONNECT_SECONDS_MAX,
                    init_command=_SESSION.format(isolation="REPEATABLE-READ" if self._raw_text else "READ-COMMITTED"),
                    stmt_cache_size=PREPARED_STATEMENTS_MAX if self._raw_text else 0,
                )
        except (asyncmy.errors.MySQLError, OSError) as problem:  # TimeoutError is an OSError
            waited_ms = round((time.monotonic() - started) * 1000)
            log.warning("mysql_connect_failed", number=number_of(problem), lost=is_lost(problem), waited_ms=waited_ms)
            raise unavailable() from problem


def _if_whole(connection: Any | None) -> Any | None:
    """Return the connection unless its peer has hung up, which an idle one learns of without a query."""
    if connection is None:
        return None
    if connection.connected and not connection._stream_broken:
        return connection
    connection.close()
    return None
