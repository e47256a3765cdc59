"""An embedded Redis or Valkey with an append-only file."""

from __future__ import annotations

import socket as sockets
from collections.abc import Sequence
from pathlib import Path

from cli.embedded.claim import make_private_dir, write_private
from cli.embedded.programs import find_redis
from cli.embedded.server import EmbeddedServer
from schema.errors import StartError

# A file, not options: everybody may read a command line, and the password is here.
_SETTINGS = """\
bind 127.0.0.1
port {port}
unixsocket {socket}
unixsocketperm 700
requirepass {password}
dir {data}
appendonly yes
appendfsync everysec
save ""
daemonize no
"""


class RedisServer(EmbeddedServer):
    """redis-server with its data in `home`."""

    name = "redis"
    stop_timeout_s = 10

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def _prepare(self, port: int) -> Sequence[str]:
        make_private_dir(self.home / "data")
        settings = _SETTINGS.format(
            port=port, socket=_quoted(self.socket), password=self.password, data=_quoted(self.home / "data")
        )
        write_private(self.home / "redis.conf", settings)
        return [*find_redis(), str(self.home / "redis.conf")]

    def _answers(self, connection: sockets.socket) -> bool:
        """It answers PING with -LOADING while it still reads its data."""
        connection.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
        heard = b""
        while heard.count(b"\r\n") < 2 and (more := connection.recv(256)):
            heard += more
        return heard.endswith(b"+PONG\r\n")


def _quoted(path: Path) -> str:
    text = str(path)
    if not text.isprintable() or '"' in text or "\\" in text:
        raise StartError("home_unusable", f"Redis's settings can't hold {text!r}", hint="choose another directory")
    return f'"{text}"'
