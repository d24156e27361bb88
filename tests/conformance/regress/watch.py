"""What a guard looked like while a suite went through it: alive, quick, small, without a traceback.

A tick of the event loop that ran late is a stall unless the guard wanted to run and the machine
did not let it: the kernel counts for how long (/proc/PID/task/TID/schedstat).
"""

from __future__ import annotations

import os
import re
import threading
import time
from pathlib import Path
from typing import NamedTuple, Self

from tests.conformance import harness

MIB = 1024 * 1024
GROWTH = 64 * MIB
"""How much a guard may grow over a whole suite: its caches of statements have bounds."""

STALL = 0.5
"""Seconds by which no tick of the event loop may be late by the guard's own fault."""

SAMPLE = 0.1
"""Seconds between two looks, as between two ticks."""

Wanted = dict[str, str]

ROOMY: Wanted = {
    "limits.connection_limit": "60",
    "limits.pool_timeout": "600s",
    "limits.total_timeout": "600s",
    "limits.notice_after": "600s",
}
"""Limits that no suite reaches, and no notices to sessions that wait: they would be in the results.
What is tested is transparency."""


class _Look(NamedTuple):
    """What was seen at one moment."""

    when: float
    refused: float
    """Seconds so far for which the guard or we wanted a processor in vain."""
    late: float
    """Late ticks so far."""


class Watched:
    """A guard in front of a server and what is to be said of it afterwards; a context manager."""

    def __init__(self, checks: harness.Checks, server: harness.Postgres, wanted: Wanted) -> None:
        self._checks = checks
        self._guard = harness.Guard(server.address, ROOMY | wanted)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._before = self._highest = 0
        self._worst = self.late = 0.0
        self.waiting = 0.0
        """The most sessions that waited at one moment."""

    @property
    def address(self) -> harness.Address:
        return self._guard.address

    def __enter__(self) -> Self:
        self._guard.__enter__()
        self._before = self._highest = harness.resident(self._guard.pid)
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._end.set()
        self._thread.join()
        try:
            if kind is None:
                self._claim()
        finally:
            self._guard.stop()

    def _sample(self) -> None:
        guard, looks = self._guard, [_Look(time.monotonic(), 0.0, 0.0)]
        while not self._end.wait(SAMPLE) and guard.running:
            self._highest = max(self._highest, harness.resident(guard.pid))
            try:
                # As text: to parse ten pages a second would take a processor from the suite.
                page = harness.fetch(f"{guard.http}/metrics")
                refused = _kept_waiting(guard.pid) + _kept_waiting(os.getpid())
            except OSError:
                continue
            self.waiting = max(self.waiting, _sum(page, "pgguard_client_waiting"))
            look = _Look(time.monotonic(), refused, _late(page))
            # The page may have been written just before the late tick was: one look back more.
            looks = [*looks[-2:], look]
            if look.late > looks[0].late:
                self.late = look.late
                own = look.when - looks[0].when - (look.refused - looks[0].refused)
                self._worst = max(self._worst, own)

    def _claim(self) -> None:
        checks, guard = self._checks, self._guard
        if not checks.claim(guard.running, "the guard lives"):
            checks.note(guard.log[-2000:])
            return
        troubles = [word for word in ("Traceback", '"level": "error"') if word in guard.log]
        if not checks.claim(not troubles, "the guard's log has no error", troubles or 0, "0"):
            checks.note(guard.log[-3000:])
        page = guard.metrics()
        held = self._worst < STALL
        own = f"at most {max(self._worst, 0.0) * 1000:.0f} ms" if self.late else "never"
        figure = f"{own} by its own fault ({self.late:.0f} ticks were late for any reason)"
        checks.claim(held, "the event loop stood still for 500 ms", figure, "never")
        grown = self._highest - self._before
        figure = f"{grown / MIB:.0f} MiB on {self._before / MIB:.0f} MiB"
        checks.claim(grown < GROWTH, "the guard's memory grew by", figure, f"{GROWTH / MIB:.0f}")
        analysed = page.total("analysis_seconds_count")
        executed = page.total("statements_total")
        checks.note(f"{executed:.0f} statements executed, {analysed:.0f} analysed for tenants")


def _kept_waiting(pid: int) -> float:
    """Seconds for which threads of a process were ready to run and had no processor."""
    files = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(file.read_text().split()[1]) for file in files) / 1e9


def _sum(page: str, metric: str) -> float:
    """The sum of one metric's series on a page; `metric` is a pattern."""
    return sum(map(float, re.findall(rf"^{metric}(?:{{.*}})? (\S+)$", page, re.MULTILINE)))


def _late(page: str) -> float:
    """How many ticks of the loop were late by more than `STALL`, a bound of their buckets."""
    series = 'pgguard_added_seconds_%s{part="loop"%s}'
    every = _sum(page, re.escape(series % ("count", "")))
    return every - _sum(page, re.escape(series % ("bucket", f',le="{STALL}"')))
