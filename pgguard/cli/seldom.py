"""A flood of events must not become a flood of lines: what fills the disk ends everything else.

Laws: of each kind of line `BURST` are written in `WINDOW` seconds, and how many were left out is
said by the next one; debugging leaves nothing out. A kind is what the code says, not what a client
makes of it, so that there are few.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

BURST = 20
WINDOW = 10.0
"""Seconds."""
KINDS = 1_000


class Seldom(logging.Filter):
    """For a handler. A record's kind is its attribute `kind`, else the place it comes from."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._kinds: dict[object, tuple[float, int]] = {}
        """Kind → when its window began, and how many lines came in it."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno <= logging.DEBUG:
            return True
        kind = getattr(record, "kind", (record.name, record.funcName, record.lineno))
        now = self._clock()
        since, count = self._kinds.get(kind, (now, 0))
        if now - since >= WINDOW:
            if count > BURST:
                what = f"{count - BURST} more lines of this kind were left out before"
                record.msg, record.args = f"{record.getMessage()} ({what})", None
            since, count = now, 0
        if len(self._kinds) >= KINDS:
            self._kinds.clear()
        self._kinds[kind] = (since, count + 1)
        return count < BURST
