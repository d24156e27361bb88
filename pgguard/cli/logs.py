"""pgguard's own log, as `log.level`, `log.format` and `log.file` say.

Laws: to stderr or a file, never to stdout; one line per record, an exception included as text; a
line in JSON has `time` (UTC), `level`, `logger`, `message`. Beside the output of somebody else's
command it speaks as all our lines do, and says the same thing once with its number.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import sys
import time
from typing import TYPE_CHECKING, TextIO

from pgguard.cli.seldom import Seldom
from pgguard.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgguard.settings.schema import Log

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds for which records are collected before they are written; each pause doubles the next."""

_NUMBER = re.compile(r"\d+(\.\d+)?")


class JsonFormatter(logging.Formatter):
    """A record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _utc(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=True)


class TextFormatter(logging.Formatter):
    """A record as a line for people."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{_utc(record.created)} {record.levelname.lower()} {record.getMessage()}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class PlainFormatter(logging.Formatter):
    """A record as one of our own lines."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"pgguard: {record.getMessage()}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class Merging(logging.StreamHandler[TextIO]):
    """Collects records for a moment and writes those that differ in numbers alone as one line.

    While no event loop runs there is no moment to wait for, and an exception never waits.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._collected: dict[tuple[int, str], tuple[logging.LogRecord, int]] = {}
        self._pause = FIRST_PAUSE
        self._waiting = False

    def emit(self, record: logging.LogRecord) -> None:
        key = (record.levelno, _NUMBER.sub("#", record.getMessage()))
        first, count = self._collected.get(key, (record, 0))
        self._collected[key] = (first, count + 1)
        if record.exc_info or not (self._waiting or self._wait()):
            self.flush()

    def _wait(self) -> bool:
        import asyncio

        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return False
        loop.call_later(self._pause, self._written)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self._waiting = True
        return True

    def _written(self) -> None:
        self._waiting = False
        self.flush()

    def flush(self) -> None:
        collected, self._collected = self._collected, {}
        for record, count in collected.values():
            if count > 1:
                record.msg, record.args = f"{record.getMessage()} (and {count - 1} more)", None
            super().emit(record)
        super().flush()


def set_up(settings: Log, *, level: str = "", beside: bool = False) -> logging.Handler:
    """Send the log where the settings say; `level` stands in for theirs. Raises SettingsError.

    `beside`: a command of somebody else writes to the same stderr.
    """
    handler: logging.Handler
    auto = settings.format == "auto"
    if settings.file is not None:
        try:
            handler = logging.FileHandler(settings.file, encoding="utf-8", errors="replace")
        except OSError as error:
            raise SettingsError(
                f"cannot write {settings.file}: {error.strerror}", where="log.file"
            ) from error
    elif beside and settings.format != "json":
        handler = Merging(sys.stderr)
    else:
        handler = logging.StreamHandler(sys.stderr)
    if auto and beside and settings.file is None:
        handler.setFormatter(PlainFormatter())
    elif settings.format == "text" or (auto and settings.file is None and sys.stderr.isatty()):
        handler.setFormatter(TextFormatter())
    else:
        handler.setFormatter(JsonFormatter())
    handler.addFilter(Seldom())
    logger = logging.getLogger("pgguard")
    logger.setLevel((level or settings.level).upper())
    logger.propagate = False
    for old in list(logger.handlers):
        logger.removeHandler(old)
        old.close()
    logger.addHandler(handler)
    return handler


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Meanwhile nothing less than an error goes to stderr beside a command, and nothing after that
    if it ends with an error: that one says all."""
    handlers = [it for it in logging.getLogger("pgguard").handlers if isinstance(it, Merging)]
    for handler in handlers:
        handler.setLevel(logging.ERROR)
    yield
    for handler in handlers:
        handler.setLevel(logging.NOTSET)


def flush() -> None:
    """Write what is still being collected."""
    for handler in logging.getLogger("pgguard").handlers:
        handler.flush()


def _utc(seconds: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03}Z"
