"""How Postgres receives each user: what a login has shown a moment ago, and who waits to know.

Laws: what is remembered is bounded, because names are as long as clients please, and is looked at
again soon, because pg_hba.conf may change; all who want to know the same wait for one probe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard.core.states import SessionState

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgguard.core.login import Method
    from pgguard.core.session import Session

METHODS_LIMIT = 1_000
"""Users in databases whose method is remembered."""
METHOD_LIFETIME = 5.0
"""Seconds until it is looked at again how Postgres receives a user, whoever that is: time tells."""


class Methods:
    """The memory, and the probes under way."""

    __slots__ = ("_clock", "_known", "_probing")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: dict[tuple[str, str], tuple[Method, float]] = {}
        self._probing: dict[tuple[str, str], list[Session]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def known(self, user: str, database: str) -> Method | None:
        """The method, if it was learned a moment ago."""
        method, learned_at = self._known.get((user, database), (None, 0.0))
        return method if self._clock() - learned_at <= METHOD_LIFETIME else None

    def ever(self, method: Method) -> bool:
        """Whether any user was received like that when it was last looked at."""
        return any(how is method for how, _ in self._known.values())

    def learned(self, user: str, database: str, method: Method) -> None:
        if len(self._known) >= METHODS_LIMIT:
            self._known.clear()
        self._known[user, database] = (method, self._clock())

    def forget(self, user: str, database: str) -> None:
        """It was of no use: look again next time."""
        self._known.pop((user, database), None)

    # Probes

    @property
    def probing(self) -> bool:
        """Whether a probe is under way."""
        return bool(self._probing)

    def wait(self, session: Session) -> bool:
        """The session wants to know. Returns whether a probe is due."""
        waiting = self._probing.setdefault((session.user, session.database), [])
        waiting.append(session)
        return len(waiting) == 1

    def is_awaited(self, user: str, database: str) -> bool:
        """Whether a session still wants to know; if none does, the probe is over."""
        waiting = self._probing.get((user, database), [])
        if any(session.state is SessionState.LOGIN for session in waiting):
            return True
        self._probing.pop((user, database), None)
        return False

    def take(self, user: str, database: str) -> list[Session]:
        """The probe is over: who waited for it, some of them perhaps no more."""
        return self._probing.pop((user, database), [])
