"""Processor time and memory of processes, and keeping them on one processor. Linux only.

Laws: noise only adds, so the floor over many short turns is the figure; the order of what is
compared rotates from turn to turn; client, proxy and server share one processor, because waking
another virtual one costs more than a whole proxy.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tests.conformance import harness

T = TypeVar("T")

ROUNDS, MOST_ROUNDS = 6, 18

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


@dataclass(slots=True)
class Turns:
    """What one target took, turn by turn: µs of processor time for each unit of work, and how many
    of them a second."""

    prices: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    @property
    def price(self) -> float:
        return min(self.prices)

    @property
    def rate(self) -> float:
        return max(self.rates)


@dataclass(frozen=True, slots=True)
class Bar:
    """A claim on the ratio of two targets: `at` most of the price, or at least of the rate."""

    what: str
    at: float
    target: str
    other: str
    of: Literal["price", "rate"] = "price"

    def ratio(self, turns: Mapping[str, Turns]) -> float:
        return float(getattr(turns[self.target], self.of) / getattr(turns[self.other], self.of))

    def limit(self, short: bool) -> float:
        return bar_of(self.at, short) if self.of == "price" else self.at / bar_of(1, short)

    def holds(self, turns: Mapping[str, Turns], short: bool) -> bool:
        ratio, limit = self.ratio(turns), self.limit(short)
        return ratio <= limit if self.of == "price" else ratio >= limit

    def claim(self, checks: harness.Checks, turns: Mapping[str, Turns], short: bool) -> None:
        ratio, limit = f"{self.ratio(turns):.2f}", f"{self.limit(short):.2f}"
        sign = "≤" if self.of == "price" else "≥"
        what = f"{self.what}, {self.of} to {self.other}"
        checks.claim(self.holds(turns, short), what, ratio, f"{sign} {limit}")


def compare(
    names: Sequence[str],
    take: Callable[[str], tuple[float, float]],
    bars: Sequence[Bar],
    short: bool,
) -> dict[str, Turns]:
    """Let all take their turn, once to warm up, then in `ROUNDS` rounds and, while a bar is not
    met, in up to `MOST_ROUNDS`: noise only adds, so more rounds come nearer to what is true.

    `take` runs one turn of a target and gives its price and its rate.
    """
    for name in names:
        take(name)
    turns = {name: Turns() for name in names}
    for number in range(MOST_ROUNDS):
        if number >= ROUNDS and all(bar.holds(turns, short) for bar in bars):
            break
        for name in rotated(list(names), number):
            price, rate = take(name)
            turns[name].prices.append(price)
            turns[name].rates.append(rate)
    return turns


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
