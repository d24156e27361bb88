"""Sessions whose statement waits for its verdict, in block mode.

Laws: nobody waits longer than `PATIENCE`: what a catalogue or the worker has not said by then is
decided by what is known; a session waits once, whatever it waits for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgguard.core.session import Session

PATIENCE = 5.0
"""Seconds that a statement waits for a catalogue, or for the worker."""


class Holds:
    """All sessions that wait so."""

    __slots__ = ("_clock", "_since")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since: dict[Session, float] = {}

    def __len__(self) -> int:
        return len(self._since)

    def add(self, session: Session) -> None:
        self._since.setdefault(session, self._clock())

    def release(self, database: str, *, final: bool) -> None:
        """Verdicts of the database have come; `final` = no better ones will."""
        for session in [one for one in self._since if one.database == database]:
            self._resume(session, self._since.pop(session), final=final)

    def tick(self, now: float) -> None:
        """Every 100 ms."""
        if not self._since:
            return
        for session in [one for one, since in self._since.items() if now - since > PATIENCE]:
            self._resume(session, self._since.pop(session), final=True)

    def _resume(self, session: Session, since: float, *, final: bool) -> None:
        if session.server is None:
            # It has left meanwhile.
            return
        session.verdicts_came(final=final)
        if session in self._since:
            # It waits on: for the time that it waits already.
            self._since[session] = since
