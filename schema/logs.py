"""Structured log lines: one JSON object a line on stderr, an event name and ids, never secrets or row contents."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

import orjson


class EventLogger:
    """`log.info("tx_appended", gtid=…, changes=…)`: the event's name first, its fields as keywords."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def info(self, event: str, /, **fields: Any) -> None:
        """Log what happened."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, /, **fields: Any) -> None:
        """Log what an operator should look at."""
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, /, *, exc_info: bool = False, **fields: Any) -> None:
        """Log what failed; with `exc_info` the stack goes to the log (never to a client)."""
        self._write(logging.ERROR, event, fields, exc_info=exc_info)

    def _write(self, level: int, event: str, fields: dict[str, Any], *, exc_info: bool = False) -> None:
        """Make the record here: the logger would look for the caller's file and line first, which no line of ours shows."""
        if self._logger.isEnabledFor(level):
            record = logging.LogRecord(self._logger.name, level, "", 0, event, (), sys.exc_info() if exc_info else None)
            record.fields = fields
            self._logger.handle(record)


class JsonFormatter(logging.Formatter):
    """Renders a record as one JSON line; control characters in values come out escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line without its newline."""
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "at": f"{at}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["stack"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def get_logger(name: str) -> EventLogger:
    """Return the event logger of a module."""
    return EventLogger(name)


def configure(level: str) -> None:
    """Send all log lines of this process to stderr as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
