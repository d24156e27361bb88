"""Processor time and memory of processes, and keeping them on one processor. Linux only.

Laws: noise only adds, so the floor over many short turns is the figure; the order of what is
compared rotates from turn to turn; client, proxy and server share one processor, because waking
another virtual one costs more than a whole proxy.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")


SHORT_SLACK = 1.25
"""How much wider a bar is in the short form: it tells a loss from noise, not how good we are."""


def bar_of(bar: float, short: bool) -> float:
    """The bar as the short or the full form holds it."""
    return bar * SHORT_SLACK if short else bar


def processor_us(pid: int) -> float:
    """Processor time of a process and its descendants so far, in microseconds."""
    spent = 0
    for process in descendants(pid):
        for schedule in Path(f"/proc/{process}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):
                spent += int(schedule.read_text().split()[0])
    return spent / 1e3


def descendants(pid: int) -> list[int]:
    """The process and all that it started, directly or not."""
    found, left = [], [pid]
    while left:
        process = left.pop()
        found.append(process)
        for children in Path(f"/proc/{process}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                left += [int(word) for word in children.read_text().split()]
    return found


def pin(pid: int, processor: int) -> None:
    """Keep a process, its threads and descendants on one processor."""
    for process in descendants(pid):
        for thread in Path(f"/proc/{process}/task").glob("*"):
            with contextlib.suppress(OSError):
                os.sched_setaffinity(int(thread.name), {processor})


@contextlib.contextmanager
def pinned_self() -> Iterator[int]:
    """This process, and what it starts meanwhile, on the last processor; yields its number."""
    before = os.sched_getaffinity(0)
    processor = max(before)
    os.sched_setaffinity(0, {processor})
    try:
        yield processor
    finally:
        os.sched_setaffinity(0, before)


class Elsewhere:
    """How busy the other processors are: what runs there slows an interpreter more than C."""

    def __init__(self, processor: int) -> None:
        self._own = f"cpu{processor}"
        self._busy, self._at = self._now(), time.monotonic()

    def share(self) -> float:
        """Seconds that they worked per second since the last call."""
        busy, at = self._now(), time.monotonic()
        share = (busy - self._busy) / max(at - self._at, 1e-9)
        self._busy, self._at = busy, at
        return share

    def _now(self) -> float:
        ticks = 0
        for line in Path("/proc/stat").read_text().splitlines():
            name, *words = line.split()
            if name.startswith("cpu") and name not in ("cpu", self._own):
                user, nice, system, _, _, *others = (int(word) for word in words[:8])
                ticks += user + nice + system + sum(others)
        return ticks / os.sysconf("SC_CLK_TCK")


def rotated(items: list[T], turn: int) -> list[T]:
    """The same items, begun with another one each turn."""
    start = turn % len(items)
    return items[start:] + items[:start]
