"""Whose a difference is: what pgguard got from Postgres and gave to Postgres is on record.

An answer that came to pgguard and did not reach its client, or a byte that the client did not say,
is pgguard's, whatever a direct play gives. What pgguard has passed on both ways, byte for byte, can
only differ in the end of it, and only where Postgres reset the connection: its kernel throws away
what it has not sent yet, which nobody behind it can receive (known.py).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING

from tests.conformance.fuzz.play import TERMINATE, normal

if TYPE_CHECKING:
    from tests.conformance.fuzz.play import Lane
    from tests.conformance.fuzz.recorder import Record, Recorder
    from tests.conformance.fuzz.script import Script

USER = b"fuzz"
REMEMBERED = 8
LOST = "E SFATAL VFATAL C08006 Mpgguard: the connection to Postgres was lost"
"""What pgguard says itself where Postgres has reset the connection, and no last words came."""
WITHIN = 8.0
"""Seconds in which a connection to Postgres must have ended once its session has."""


class Owner(Enum):
    GUARD = "pgguard's"
    KERNEL = "the kernel's of Postgres"
    OPEN = "open"
    """pgguard has passed on all, or has not: whether Postgres answers so, too, is to be seen."""


class Witness:
    """Looks at the records of one lane after each play through pgguard."""

    def __init__(self, recorder: Recorder, lane: Lane) -> None:
        self._recorder = recorder
        self._lane = lane
        self.faults: list[str] = []
        """What pgguard has done wrong in the newest play, whatever the answers are."""
        self._record: Record | None = None
        self._left: deque[bytes] = deque(maxlen=REMEMBERED)
        """What newest clients said that did not wait: Postgres may hear it while others play."""

    async def look(self, script: Script, answers: list[str]) -> None:
        """Hold pgguard to what it got and gave."""
        self.faults, self._record = [], None
        database = self._lane.database
        records = self._recorder.of(database, USER)
        end = time.monotonic() + WITHIN
        while not all(record.over for record in records):
            if time.monotonic() > end:
                self.faults.append("a connection to Postgres is left open")
                break
            await asyncio.sleep(0.002)
            records = self._recorder.of(database, USER)
        self._recorder.forget(records)
        said = script.said[1] + (TERMINATE if script.end == "terminate" else b"")
        own = [record for record in records if _is_of(record, said)]
        for record in records:
            if record not in own and not any(_is_of(record, other) for other in self._left):
                self.faults.append(f"Postgres was told what no client has said: {record.said!r}")
        # Looks at how Postgres receives the user say nothing, and come first.
        self._record = max(reversed(own), key=lambda record: len(record.said), default=None)
        if not script.listens or script.early:
            self._left.append(said)
        elif self._record is not None:
            self._check_heard(answers, self._record)
        elif _behind_login(answers):
            self.faults.append("answers without a connection to Postgres")

    def _check_heard(self, answers: list[str], record: Record) -> None:
        """Of what came behind the login everything reaches the client, and nothing else does."""
        came = _behind_login(list(normal(bytes(record.down), self._lane)))
        reached = _behind_login(answers[:-1])
        if record.reset and reached[-1:] and reached[-1].startswith(LOST):
            reached.pop()
        if came != reached:
            number = next(
                (n for n, (a, b) in enumerate(zip(came, reached, strict=False)) if a != b),
                min(len(came), len(reached)),
            )
            self.faults.append(
                f"message {number} behind the login: pgguard got {came[number:][:3]}, "
                f"its client {reached[number:][:3]}"
            )

    def owner(self, answers: list[str], direct: list[str]) -> Owner:
        """Of a difference between the newest play and a direct one."""
        if self.faults:
            return Owner.GUARD
        record = self._record
        *before, end = answers
        if before and before[-1].startswith(LOST):
            before.pop()
        fatal = any(line.startswith("E SFATAL") for line in direct[-2:])
        cut_off = end == direct[-1] == "closed" and direct[: len(before)] == before
        if record is not None and record.reset and fatal and cut_off:
            return Owner.KERNEL
        return Owner.OPEN


def _is_of(record: Record, said: bytes) -> bool:
    """Whether it has passed on what the client said, up to anywhere, and perhaps a goodbye."""
    return said.startswith((record.said, record.said.removesuffix(TERMINATE)))


def _behind_login(lines: list[str]) -> list[str]:
    for number, line in enumerate(lines):
        if line.startswith("Z"):
            return lines[number + 1 :]
    return []
