"""A private MySQL and Redis for development, tests and small installs: no container, no root, nothing installed.

Programs come from PATH where they do (`programs`), else from Debian's packages (`debian`). Each server keeps its data,
port and password in a home directory of its own, which one process at a time may use, and listens on loopback and on
a unix socket only. It ends when the process that started it ends, however that happened.
"""

from __future__ import annotations

from cli.embedded.mysql_server import MySQLServer
from cli.embedded.redis_server import RedisServer

__all__ = ["MySQLServer", "RedisServer"]
