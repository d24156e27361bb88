"""What all clients of a storm share: tokens, the causes we made, the ledger, what went wrong.

A token is a text that was never used before and is sent in one request only: if it comes back, it
must be in the reply to that request and at its place. Laws: a session may end before its time only
for a cause that is noted here; everything else is a fault, told in words, and fails the run.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from tests.conformance.harness import Address

OURS = ("57P01", "57P02", "57P03", "08006")
"""What a session may be told when its server, or Postgres, was ended by us."""
FIRST_INVENTED = 4_194_305
"""A pid from here on is none of a backend: sessions share those, and nobody is told which."""
WITHIN = 60.0
"""Seconds in which any reply must have come."""


class Crossed(Exception):
    """A reply that is not the one to this request."""


class Ended(Exception):
    """The session has ended under the client. `sqlstate` is empty if nobody said why."""

    def __init__(self, sqlstate: str, text: str) -> None:
        self.sqlstate = sqlstate
        super().__init__(f"{sqlstate or 'no word'}: {text}")


class Left(Exception):
    """The client itself has left, in the middle of something."""


@dataclass
class World:
    """One storm."""

    near: Address
    """Where clients connect through the relay."""
    straight: Address
    """Where they connect to the guard without it."""
    seed: int
    until: float
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    committed: set[str] = field(default_factory=set)
    """Tokens whose COMMIT was acknowledged."""
    undone: set[str] = field(default_factory=set)
    """Tokens whose transaction was rolled back, or never ended."""
    _killed: dict[int, float] = field(default_factory=dict)
    _back_at: float = 0.0
    _kills: list[float] = field(default_factory=list)
    """Those that explain the end of no session with a pid of its own yet."""
    _tokens: int = 0
    open: set[int] = field(default_factory=set)
    """Invented pids of the sessions that are there, where sessions share servers."""

    @property
    def over(self) -> bool:
        return time.monotonic() > self.until or len(self.faults) > 20

    def token(self, rng: Random) -> str:
        """Digits, so that a guard that knows statements by their shape knows these."""
        self._tokens += 1
        return f"{self._tokens:08d}-{rng.getrandbits(48):015d}"

    def check(self, wanted: Sequence[object], came: Sequence[object], what: str) -> None:
        """One request's replies. Raises Crossed."""
        self.counts["replies"] += len(wanted)
        if list(wanted) != list(came):
            raise Crossed(f"{what}: wanted {_short(wanted)}, came {_short(came)}")

    # Causes

    def opened(self, pid: int) -> None:
        if pid >= FIRST_INVENTED:
            self.open.add(pid)

    def closed(self, pid: int) -> None:
        self.open.discard(pid)

    def ends(self, pid: int) -> None:
        """We end this session, by the pid that it was told, now."""
        self._killed[pid] = time.monotonic()

    def killed(self, pid: int) -> None:
        """We end this backend, or its connection, now."""
        self._killed[pid] = time.monotonic()
        self._kills.append(time.monotonic())

    def outage(self) -> None:
        """Postgres does not run from now on."""
        self._back_at = float("inf")

    def outage_over(self) -> None:
        """It accepts connections again; who was told of it may still have the news unread."""
        self._back_at = time.monotonic()

    def expected(self, pid: int, opened: float) -> bool:
        """Whether we made a cause for the end of a session that began then; `pid` 0 is unknown.

        Where servers are shared each cause explains one end and no more.
        """
        if self._back_at >= opened:
            return True
        if self._killed.get(pid, 0.0) >= opened:
            return True
        if pid >= FIRST_INVENTED:
            causes = [at for at in self._kills if at >= opened]
            if causes:
                self._kills.remove(causes[0])
            return bool(causes)
        if not pid:
            return any(at >= opened for at in self._kills)
        return False

    def ended(self, who: str, pid: int, opened: float, error: Ended) -> None:
        """A session ended before its client wanted it to."""
        self.counts[f"ended {error.sqlstate or 'without a word'}"] += 1
        if not self.expected(pid, opened) or error.sqlstate not in (*OURS, ""):
            self.fault(f"{who}: session with server {pid} ended without a cause of ours: {error}")

    def fault(self, text: str) -> None:
        self.faults.append(text)
        print(f"   fault: {text[:600]}", flush=True)


def _short(values: Sequence[object]) -> str:
    text = repr([value if len(repr(value)) < 60 else repr(value)[:50] + "…" for value in values])
    return text if len(text) < 400 else text[:400] + "…"
