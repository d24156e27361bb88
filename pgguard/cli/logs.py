"""pgguard's own log, as `log.level`, `log.format` and `log.file` say.

Laws: to stderr or a file, never to stdout; one line per record, an exception included as text; a
line in JSON has `time` (UTC), `level`, `logger`, `message`.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import TYPE_CHECKING

from pgguard.errors import SettingsError

if TYPE_CHECKING:
    from pgguard.settings.schema import Log


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


def set_up(settings: Log, *, level: str = "") -> logging.Handler:
    """Send the log where the settings say; `level` stands in for theirs. Raises SettingsError."""
    handler: logging.Handler
    if settings.file is not None:
        try:
            handler = logging.FileHandler(settings.file, encoding="utf-8", errors="replace")
        except OSError as error:
            raise SettingsError(
                f"cannot write {settings.file}: {error.strerror}", where="log.file"
            ) from error
    else:
        handler = logging.StreamHandler(sys.stderr)
    terminal = settings.file is None and sys.stderr.isatty()
    text = settings.format == "text" or (settings.format == "auto" and terminal)
    handler.setFormatter(TextFormatter() if text else JsonFormatter())
    logger = logging.getLogger("pgguard")
    logger.setLevel((level or settings.level).upper())
    logger.propagate = False
    for old in list(logger.handlers):
        logger.removeHandler(old)
        old.close()
    logger.addHandler(handler)
    return handler


def _utc(seconds: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03}Z"
